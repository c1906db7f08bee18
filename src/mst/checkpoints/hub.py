"""Checkpoints on the Hugging Face hub: fetched by reference, published with a card.

Only `model.safetensors` is read from a repository: it holds numbers and a description, and no code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mst.errors import InputError, MissingFileError
from mst.text import note, one_line

HUB = "hf:"
"""Prefix of a checkpoint on the hub: hf:USER/NAME, or hf:USER/NAME@REVISION."""

FILE_NAME = "model.safetensors"
"""Name of the checkpoint in a repository."""

CARD_NAME = "README.md"
"""Name of its card."""

_REFERENCE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@cache
def fetch(reference: str) -> Path:
    """The local copy of a checkpoint on the hub. It is downloaded once and stays in the hub's cache.

    Args:
        reference: "USER/NAME" for the newest revision, or "USER/NAME@REVISION": a commit, a branch or a tag.

    Raises:
        InputError: not a reference; no access; or the hub cannot be reached and no copy is in the cache.
        MissingFileError: no such repository or revision, or it holds no `model.safetensors`.
    """
    from huggingface_hub import hf_hub_download

    repository, revision = parse_reference(reference)
    with _explained(repository, revision):
        path = Path(hf_hub_download(repository, FILE_NAME, revision=revision))
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


def publish(checkpoint: Path, repository: str, card: str, *, private: bool = False) -> str:
    """Upload a checkpoint and its card in one commit. The repository is created if it does not exist.

    Args:
        checkpoint: a .safetensors file.
        repository: "USER/NAME".
        card: text of the repository's README.md.
        private: create a new repository as a private one; one that exists stays as it is.

    Returns:
        The reference of the new revision, "USER/NAME@COMMIT".

    Raises:
        InputError: not a repository, no access, or the hub cannot be reached. Nothing is then published.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    name, revision = parse_reference(repository)
    if revision is not None:
        raise InputError(f"a checkpoint is published as a new revision, got {repository!r}", remedy="leave out @...")
    operations = [CommitOperationAdd(FILE_NAME, str(checkpoint)), CommitOperationAdd(CARD_NAME, card.encode())]
    with _explained(name, None):
        hub = HfApi()
        hub.create_repo(name, private=private or None, exist_ok=True)
        return f"{name}@{hub.create_commit(name, operations, commit_message=f'Add {checkpoint.name}').oid}"


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
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of huggingface_hub into those of mst. Subclasses come before their bases."""
    from huggingface_hub import errors

    where = f"{HUB}{repository}" + (f"@{revision}" if revision else "")
    try:
        yield
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
    except (OSError, RuntimeError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of its HTTP library
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ is not None else error
        raise InputError(
            f"the hub cannot be reached ({one_line(cause)[:200]})", where=where, remedy="check the network"
        ) from error
