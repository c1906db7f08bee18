"""Data sets in words: the table of all of them, what a check found, one recording."""

from __future__ import annotations

from rich.table import Table

from mst.data import DatasetInfo
from mst.experiments import DatasetCheck, DatasetListing, MadeRecordings, OpenedRecording


def dataset_table(listing: DatasetListing) -> Table:
    """Every data set: name, images, size, classes, whether its files are here, and where they come from."""
    table = Table(title="Data sets")
    for heading in ("name", "images\n(train + test)", "size (px)", "classes", "here?", "where from"):
        table.add_column(heading, no_wrap=heading == "name", overflow="fold")
    for listed in listing.datasets:
        info = listed.info
        count = f"{info.num_train:,} + {info.num_test:,}"
        here = f"yes: {listed.place}" if listed.place else "no"
        table.add_row(info.name, count, _size(info), str(info.num_classes), here, info.where)
    for info in listing.own:
        table.add_row(info.name, "", _size(info), "", "", info.where)
    return table


def cache_summary(listing: DatasetListing) -> list[str]:
    """A line on the cached frames of events, if there are any."""
    if listing.cache_folder is None:
        return []
    size = f"{listing.cache_bytes / 2**20:,.0f} MiB"
    return [f"Cached frames of events: {listing.cache_entries:,} in {listing.cache_folder}, {size}"]


def check_summary(check: DatasetCheck) -> list[str]:
    """Lines on a data set that was opened and counted."""
    lines = [
        f"{check.name}: {check.num_train:,} training and {check.num_test:,} test {check.kind} of {_size(check.info)} "
        f"px, {check.info.num_classes} classes",
        f"mean {check.preprocessing.mean}, std {check.preprocessing.std}",
        f"sha256 {check.fingerprint}",
    ]
    if not check.is_complete:
        lines.append(
            f"note: the full data set has {check.expected.num_train + check.expected.num_test:,} {check.kind} in "
            f"{check.expected.num_classes} classes"
        )
    if check.damaged is not None:
        lines.append(f"read all {check.kind}: {len(check.damaged)} damaged")
    return lines


def recording_summary(recording: OpenedRecording) -> str:
    """A line on the events of a recording."""
    events = recording.events
    duration = (int(events["t"][-1]) - int(events["t"][0])) / 1000
    return (
        f"{recording.title}: {len(events):,} events in {duration:,.1f} ms on {recording.sensor}; "
        f"{100 * float(events['p'].mean()):.1f} % brighter; columns {events['x'].min()} to {events['x'].max()}, "
        f"rows {events['y'].min()} to {events['y'].max()}"
    )


def made_recordings_summary(made: MadeRecordings) -> str:
    """A line on recordings that were made of images, and how to train on them."""
    mean = made.num_events / max(1, made.num_recordings)
    skipped = f"; {made.num_skipped} images could not be read" if made.num_skipped else ""
    option = "" if made.states_sensor else f" --events.sensor {made.sensor.height},{made.sensor.width}"
    return (
        f"{made.num_recordings:,} recordings with {mean:,.0f} events each on {made.sensor}{skipped}. "
        f"Train on them with --dataset events:{made.output}{option}"
    )


def _size(info: DatasetInfo) -> str:
    if info.sensor is not None:
        return f"events, {info.sensor.height} x {info.sensor.width}"
    if info.in_chans == 2:  # one per polarity
        return "events"
    size = "any" if info.native_size is None else f"{info.native_size[0]} x {info.native_size[1]}"
    return f"{info.in_chans} x {size}"
