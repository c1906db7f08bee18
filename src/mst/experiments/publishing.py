"""A checkpoint for the Hugging Face hub: what its card must say, and the upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mst.checkpoints import CheckpointInfo, checkpoint_file, load_checkpoint, publish, read_checkpoint_info
from mst.errors import InputError, MissingFileError
from mst.models import CannotBuildError, image_shape_of, num_classes_of, spec_of
from mst.neurons import find_sites
from mst.text import note, one_line

from .push_options import PushOptions
from .records import RECORD_FILE
from .run_files import RunFiles, read_run

DESCRIBED_VERBS = ("evaluate", "simulate", "measure")
"""Verbs whose figures a card shows."""


@dataclass(frozen=True)
class NetworkFacts:
    """A network as its card describes it."""

    architecture: str
    """Name of its kind."""

    parameters: int
    """Numbers in its weights."""

    image_shape: tuple[int, ...] | None
    """(C, height, width), if it is known."""

    num_classes: int | None
    """Classes, if it is known."""

    sites: int
    """Places with quantised activations."""

    levels: tuple[tuple[int, int], ...]
    """(lowest, highest) level, each pair that occurs."""

    masking_ratio: float
    """Largest ratio of any site."""

    masked_sites: int
    """Sites that mask their spikes."""


@dataclass(frozen=True)
class CardFacts:
    """All that a card is written from."""

    file: Path
    """The checkpoint."""

    info: CheckpointInfo
    """Its description."""

    network: NetworkFacts | None
    """None if the class of the network is the user's own, so that it cannot be built here."""

    training: RunFiles | None
    """The run that trained it, if its record lies beside it."""

    runs: tuple[RunFiles, ...]
    """Evaluations, simulations and measurements of it."""


def card_facts(options: PushOptions) -> CardFacts:
    """Open a checkpoint and the records of its runs.

    Raises:
        MissingFileError: the checkpoint or a record does not exist.
        InputError: a damaged file; a run of another verb, or of another checkpoint.
    """
    file = checkpoint_file(options.checkpoint)
    info = read_checkpoint_info(options.checkpoint)
    for name, path in _paths_in(info.provenance):
        note(f"{file.name} states a path of this machine, which everybody will see: {name} is {path}")
    beside = file.with_name(RECORD_FILE)
    training = next((each for each in read_run(beside) if each.verb == "train"), None) if beside.is_file() else None
    runs = tuple(each for path in options.runs for each in read_run(path))
    for each in runs:
        _check(each, options.checkpoint, file)
    return CardFacts(file, info, _network_facts(options.checkpoint), training, runs)


def own_card(path: Path) -> str:
    """The text of a card that the user has written.

    Raises:
        MissingFileError: no such file.
        InputError: it is not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingFileError(f"no such card: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the card cannot be read: {one_line(error)}", where=str(path)) from error


def push(facts: CardFacts, options: PushOptions, card: str) -> str:
    """Publish a checkpoint with its card.

    Args:
        facts: of `card_facts`.
        options: where to publish it.
        card: Markdown.

    Returns:
        "USER/NAME@COMMIT".

    Raises:
        InputError, FileConflictError: as `mst.checkpoints.publish`.
    """
    return publish(facts.file, options.repository, card, private=options.private, replace=options.replace)


def _network_facts(checkpoint: Path) -> NetworkFacts | None:
    try:
        model = load_checkpoint(checkpoint)
    except CannotBuildError:
        return None
    spec, sites = spec_of(model), find_sites(model).values()
    return NetworkFacts(
        type(model).__name__ if spec is None else spec.architecture_name,
        sum(weight.numel() for weight in model.parameters()),
        image_shape_of(model),
        num_classes_of(model),
        len(sites),
        tuple(sorted({(site.min_level, site.num_levels) for site in sites})),
        max((site.masking_ratio for site in sites), default=0.0),
        sum(site.masking_ratio > 0 for site in sites),
    )


def _check(run: RunFiles, checkpoint: Path, file: Path) -> None:
    """Refuse a run that says nothing about this checkpoint."""
    where = str(run.folder)
    if run.verb not in DESCRIBED_VERBS:
        raise InputError(f"it is a run of mst {run.verb}", where=where, remedy=f"give {', '.join(DESCRIBED_VERBS)}")
    named, digest = run.record.text("checkpoint") or "", run.record.text("checkpoint_sha256")
    is_named = named == str(checkpoint) or (Path(named).exists() and file.exists() and Path(named).samefile(file))
    if digest is not None and digest != sha256(file.read_bytes()).hexdigest():
        changed = (
            "the file has been written anew since this run" if is_named else f"it is a run of another file, {named}"
        )
        raise InputError(changed, where=where, remedy=f"repeat mst {run.verb} with the checkpoint that is published")
    if digest is None and not is_named:
        raise InputError(
            f"it is a run of another checkpoint, {named}", where=where,
            remedy="give runs of the checkpoint that is published, from the folder in which they were made",
        )  # fmt: skip


def _paths_in(provenance: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            yield from _paths_in(value, f"{prefix}{name}.")
        elif isinstance(value, str) and Path(value).is_absolute():
            yield f"{prefix}{name}", value
