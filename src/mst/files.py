"""Files that appear whole or not at all, and values as JSON knows them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError


def write_atomically(
    path: Path,
    write: Callable[[str], object],
    before_replacing: Callable[[], object] | None = None,
    durable: bool = True,
) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then put it in place of `path`.

    Args:
        path: the file; missing folders are made.
        write: called with the path of the temporary file.
        before_replacing: called once the new file is complete.
        durable: flush to disk, so that the file survives a power cut. Off for many files that can be made again.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older file at `path` stays.
    """
    if path.exists() and not path.is_file():  # a device such as /dev/null would be replaced by a file
        raise OSError(f"{path} exists and is not a regular file")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = str(path.parent / f".{path.name}.{secrets.token_hex(6)}.partial")
    Path(temporary).touch(exist_ok=False)
    permissions = os.stat(
        temporary
    ).st_mode  # as the umask allows; some writers replace the file by one for its owner only
    try:
        try:
            write(temporary)
        except (SafetensorError, RuntimeError) as error:
            raise OSError(f"{path} could not be written (is the disk full?): {error}") from error
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.chmod(temporary, permissions)
        if before_replacing is not None:
            before_replacing()
        os.replace(temporary, path)
        if durable:
            _flush_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _flush_folder(folder: Path) -> None:
    """Let a rename survive a power cut, where the system offers that."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write `content` as JSON, whole or not at all. NaN is refused.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        ValueError: a value that JSON has no word for.
    """
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
    return write_text(path, text)


def write_json_once(path: Path, content: Mapping[str, Any]) -> bool:
    """Write `content` as JSON unless the file exists. Of several programs that do so at once, one writes.

    Returns:
        True if this call has written the file.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    if path.exists():
        return False
    ready = write_json(path.parent / f".{path.name}.{secrets.token_hex(6)}.ready", content)
    try:
        os.link(ready, path)  # unlike a rename, fails if another program has been faster
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with open(path, "x", encoding="utf-8") as file:
                file.write(ready.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    finally:
        ready.unlink()
    return True


def write_text(path: Path, text: str) -> Path:
    """Write `text`, whole or not at all.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
    return path


def plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def prepare_folder(folder: Path) -> Path:
    """Make an output folder and check that it can be written, before any work is done.

    Raises:
        OSError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{secrets.token_hex(6)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"the output folder {folder} cannot be written: {error.strerror or error}") from error
    return folder
