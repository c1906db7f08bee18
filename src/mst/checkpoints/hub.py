"""Checkpoints on the Hugging Face hub: fetched by reference, published with a card.

Only `model.safetensors` is read from a repository: it holds numbers and a description, and no code.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mst.errors import FileConflictError, InputError, MissingFileError
from mst.text import note, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = "hf:"
"""Prefix of a checkpoint on the hub: hf:USER/NAME, or hf:USER/NAME@REVISION."""

FILE_NAME = "model.safetensors"
"""Name of the checkpoint in a repository."""

CARD_NAME = "README.md"
"""Name of its card."""

_REFERENCE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")

_PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")

_SECONDS = 10
"""Time that the hub has to answer a question about a repository."""


@cache
def fetch(reference: str) -> Path:
    """The local copy of a checkpoint on the hub. It is downloaded once and stays in the hub's cache.

    A commit in the cache is read without a network. For a branch, a tag or no revision the copy in the cache is read,
    with a note, if the hub cannot be reached.

    Args:
        reference: "USER/NAME" for the newest revision, or "USER/NAME@REVISION": a commit, a branch or a tag.

    Raises:
        InputError: not a reference; no access; the hub cannot be reached and no copy is in the cache; the file is not
            the one that the hub announced.
        MissingFileError: no such repository or revision, or it holds no `model.safetensors`.
    """
    repository, revision = parse_reference(reference)
    with _explained(repository, revision), _quiet():
        path = _download(repository, revision)
    _check_digest(path, f"{HUB}{reference}")
    commit = path.parent.name
    if revision is None or not _COMMIT.fullmatch(revision):
        note(f"{HUB}{reference} is revision {commit} now; {HUB}{repository}@{commit} gives the same file later too")
    return path


def pinned(reference: str) -> str:
    """The reference with the commit that it stands for now: "USER/NAME@0123...".

    Raises:
        InputError, MissingFileError: as `fetch`.
    """
    return f"{parse_reference(reference)[0]}@{fetch(reference).parent.name}"


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, errors

    api = HfApi()
    if revision is not None and _COMMIT.fullmatch(revision):
        try:
            return Path(api.hf_hub_download(repository, FILE_NAME, revision=revision, local_files_only=True))
        except errors.LocalEntryNotFoundError:
            pass
    try:
        info = api.model_info(repository, revision=revision, timeout=_SECONDS)
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code < 500:
            raise
        path = Path(api.hf_hub_download(repository, FILE_NAME, revision=revision, local_files_only=True))
        note(f"{HUB}{repository}: the hub cannot be reached; the copy in its cache is read")
        return path
    files = [each.rfilename for each in info.siblings or ()]
    pickles = [name for name in files if name.endswith(_PICKLES)]
    if pickles and not any(name.endswith(".safetensors") for name in files):
        raise MissingFileError(
            f"the repository holds no {FILE_NAME}, only {pickles[0]}, a pickle; it is not read, a pickle can run code",
            where=f"{HUB}{repository}", remedy="if you trust it, download it and convert it with `mst import`",
        )  # fmt: skip
    return Path(api.hf_hub_download(repository, FILE_NAME, revision=revision))


def _check_digest(path: Path, where: str) -> None:
    """Compare a file with the digest that is its name in the cache: SHA-256, or git's for a small file.

    A cache without symbolic links does not keep the digest; nothing is compared then.

    Raises:
        InputError: they differ.
    """
    blob = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name):
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    elif _COMMIT.fullmatch(blob.name):
        content = blob.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return
    if found != blob.name:
        raise InputError(
            f"the downloaded file is not the one that the hub announced: its digest is {found}, not {blob.name}",
            where=where, remedy=f"delete {blob} and try again",
        )  # fmt: skip


def publish(checkpoint: Path, repository: str, card: str, *, private: bool = False, replace: bool = False) -> str:
    """Upload a checkpoint and its card in one commit. The repository is created if it does not exist.

    Args:
        checkpoint: a .safetensors file.
        repository: "USER/NAME".
        card: text of the repository's README.md.
        private: create the repository as a private one.
        replace: allow a new commit on a repository that holds weights or a card; its history keeps the older ones.

    Returns:
        The reference of the new revision, "USER/NAME@COMMIT".

    Raises:
        InputError: not a repository, no access, the hub cannot be reached, or the repository exists and is public
            where a private one is asked for. Nothing is then published; a new repository may be left, empty.
        FileConflictError: the repository holds weights or a card, and `replace` is False.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    name, revision = parse_reference(repository)
    if revision is not None:
        raise InputError(f"a checkpoint is published as a new revision, got {repository!r}", remedy="leave out @...")
    operations = [CommitOperationAdd(FILE_NAME, str(checkpoint)), CommitOperationAdd(CARD_NAME, card.encode())]
    with _explained(name, None), _quiet():
        hub = HfApi()
        parent = _newest_commit(hub, name, private, replace)
        hub.create_repo(name, private=private or None, exist_ok=True)
        message = f"Add {checkpoint.name}"
        return f"{name}@{hub.create_commit(name, operations, commit_message=message, parent_commit=parent).oid}"


def _newest_commit(hub: HfApi, repository: str, private: bool, replace: bool) -> str | None:
    """The newest commit of a repository, after checking that another may follow; None if there is no repository."""
    from huggingface_hub.errors import RepositoryNotFoundError

    where = f"{HUB}{repository}"
    try:
        info = hub.model_info(repository, timeout=_SECONDS)
    except RepositoryNotFoundError:
        return None
    if private and not info.private:
        raise InputError(
            "the repository exists and is public; --private makes a new one private", where=where,
            remedy="change that in its settings on the hub, or choose another name",
        )  # fmt: skip
    held = [each.rfilename for each in info.siblings or () if each.rfilename in (FILE_NAME, CARD_NAME)]
    if held and not replace:
        raise FileConflictError(
            f"the repository holds {' and '.join(held)} already", where=where,
            remedy="--replace adds a commit with the new files; its history keeps the older ones",
        )  # fmt: skip
    return info.sha


def parse_reference(reference: str) -> tuple[str, str | None]:
    """Repository and revision of "USER/NAME" or "USER/NAME@REVISION".

    Raises:
        InputError: another form.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InputError(f"a checkpoint on the hub is USER/NAME or USER/NAME@REVISION, got {reference!r}")
    return match["repository"], match["revision"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep huggingface_hub from reporting attempts, and from drawing bars unless its environment variable decides."""
    from huggingface_hub import constants
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    has_bars = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    verbosity = get_verbosity()
    if has_bars:
        disable_progress_bars()
    set_verbosity(max(verbosity, logging.ERROR))
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if has_bars:
            enable_progress_bars()


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of huggingface_hub into those of mst. Subclasses come before their bases."""
    from huggingface_hub import errors

    where = f"{HUB}{repository}" + (f"@{revision}" if revision else "")
    try:
        yield
    except (InputError, MissingFileError, FileConflictError):
        raise
    except errors.RevisionNotFoundError as error:
        raise MissingFileError("the repository has no such revision", where=where) from error
    except errors.GatedRepoError as error:
        raise InputError(
            "its owner gives access on request only", where=where,
            remedy="ask for access on the repository's page, then `hf auth login`",
        ) from error  # fmt: skip
    except errors.RepositoryNotFoundError as error:
        raise MissingFileError(
            "no such repository, or it is private", where=where, remedy="for a private one `hf auth login` first"
        ) from error
    except errors.LocalEntryNotFoundError as error:  # also where a file is missing and HF_HUB_OFFLINE is set
        raise InputError(
            "the hub cannot be reached, and no copy is in its cache", where=where,
            remedy="check the network and HF_HUB_OFFLINE, or give the path of a file",
        ) from error  # fmt: skip
    except errors.EntryNotFoundError as error:
        raise MissingFileError(
            f"the repository holds no {FILE_NAME}; other files are not read, since a pickle can run code",
            where=where, remedy="its owner can publish the checkpoint with `mst push`",
        ) from error  # fmt: skip
    except errors.LocalTokenNotFoundError as error:
        raise InputError("no token of the hub is stored here", where=where, remedy="`hf auth login`") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        remedy = "`hf auth login` with a token that may write there" if status in (401, 403) else ""
        raise InputError(
            f"the hub refuses with status {status} ({one_line(error)[:200]})", where=where, remedy=remedy
        ) from error
    except errors.HFValidationError as error:
        raise InputError(one_line(error), where=where) from error
    except errors.OfflineModeIsEnabled as error:
        raise InputError("HF_HUB_OFFLINE is set", where=where, remedy="unset it to reach the hub") from error
    except ValueError as error:  # metadata of a card that the hub does not take
        raise InputError(f"the hub refuses the files ({one_line(error)[:300]})", where=where) from error
    except (OSError, RuntimeError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of its HTTP library
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
        raise InputError(
            f"the hub cannot be reached ({one_line(cause)[:200]})", where=where, remedy="check the network"
        ) from error
