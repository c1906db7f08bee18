"""`mst datasets`: list, check, show, download and make data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mst.errors import InputError
from mst.experiments.dataset_options import DatasetCheckOptions, DownloadOptions, RecordingOptions, RecordingsOptions
from mst.text import suggestion

from .display import console, print_files, print_line, progress_bar


def list_datasets(data_path: Path | None = None) -> None:
    """List the data sets, whether their files are here, and where they come from.

    Args:
        data_path: Folder in which the files are searched; without it the usual places.
    """
    from mst.experiments import list_datasets as listed
    from mst.report import cache_summary, dataset_table

    listing = listed(data_path)
    console.print(dataset_table(listing))
    for line in cache_summary(listing):
        print_line(line)


def check(options: DatasetCheckOptions) -> None:
    """Open a data set and count it; with --decode, read every image or recording.

    Example: mst datasets check fashion-mnist --data-path ~/data --decode

    Args:
        options: the data set.
    """
    from mst.experiments import check_dataset
    from mst.report import check_summary

    with progress_bar() as progress:
        checked = check_dataset(options, progress=progress)
    for line in check_summary(checked):
        print_line(line)
    if checked.damaged:
        named = "; ".join(error.problem for error in checked.damaged[:20])
        raise InputError(f"{len(checked.damaged)} of the {checked.kind} of {checked.name} are damaged: {named}")


def show(options: RecordingOptions, output: Path = Path("runs/events")) -> None:
    """Draw a recording of an event camera as frames, in space and time, and as an animation.

    Example: mst datasets show digits-dvs --index 3

    Args:
        options: the recording.
        output: Folder for the pictures.
    """
    from mst.experiments import open_recording
    from mst.files import prepare_folder
    from mst.report import draw_recording, recording_summary

    recording = open_recording(options)
    print_line(recording_summary(recording))
    print_files(*draw_recording(recording, prepare_folder(output)))


def download(options: DownloadOptions) -> None:
    """Download and unpack event data with tonic.

    Example: mst datasets download dvs128-gesture --data-path ~/data

    Args:
        options: the data set.
    """
    from mst.experiments import download_dataset

    folder = download_dataset(options)
    name = options.dataset
    print_line(f"{name} is in {folder}; check it with mst datasets check {name} --data-path {folder}")


def from_images(options: RecordingsOptions) -> None:
    """Make recordings of your own images, as a simulated event camera sees them. They are not real recordings.

    Example: mst datasets from-images ~/photos --sensor 64,64 --output ~/photos-dvs

    Args:
        options: images, camera and output.
    """
    from mst.experiments import make_recordings
    from mst.report import made_recordings_summary

    with progress_bar() as progress:
        made = make_recordings(options, progress=progress)
    print_line(made_recordings_summary(made))


DATASETS_VERBS: Mapping[str, Callable[..., None]] = {
    "list": list_datasets,
    "check": check,
    "show": show,
    "download": download,
    "from-images": from_images,
}
"""Subcommand -> its function; without one, `mst datasets` lists."""

_FORMER = {
    "events-from": "from-images",
    "--check": "check",
    "--show": "show",
    "--events-from": "from-images",
    "--download": "download",
}
"""Former spelling -> subcommand."""


def run(words: Sequence[str]) -> None:
    """Call the subcommand that `words` name.

    Args:
        words: the command line after `mst datasets`.

    Raises:
        SystemExit: with 0 after --help, with 2 after a usage error, which is printed.
    """
    from .parser import VerbParser, run_function

    usage = VerbParser(prog="mst datasets")
    for place, word in enumerate(words):
        spelling, _, value = word.partition("=")
        spelling = spelling.replace("_", "-")
        if spelling in _FORMER and (spelling.startswith("--") or place == 0):
            after = value or (words[place + 1] if place + 1 < len(words) else "...")
            usage.error(f"{spelling} is a subcommand now; write mst datasets {_FORMER[spelling]} {after}")
    first, rest = (words[0], words[1:]) if words else ("list", [])
    if first in ("-h", "--help"):
        print(overview())
        return
    if first.startswith("-"):
        first, rest = "list", words
    if first not in DATASETS_VERBS:
        known = list(DATASETS_VERBS)
        usage.unknown(f"subcommand {first!r}", suggestion(first, known, f"subcommands: {', '.join(known)}"))
    run_function(f"datasets {first}", DATASETS_VERBS[first], rest)


def overview() -> str:
    """The text of `mst datasets --help`."""
    lines = (f"  {name:<13}{(verb.__doc__ or '').splitlines()[0]}" for name, verb in DATASETS_VERBS.items())
    return "\n".join([
        "usage: mst datasets SUBCOMMAND [options]", "", "List, check, show, download and make data sets.", "",
        "subcommands:", *lines, "",
        "`mst datasets SUBCOMMAND --help` explains one and its options; `mst datasets` alone lists.",
    ])  # fmt: skip
