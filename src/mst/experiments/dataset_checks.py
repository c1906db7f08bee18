"""Data sets themselves: which there are, whether their files are here and sound, and downloads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mst.data import (
    DATASETS,
    EVENTS,
    OWN_DATASETS_INFO,
    DatasetInfo,
    DataSplits,
    EventRepresentation,
    Preprocessing,
    StoredRecording,
    UnreadableSampleError,
    cache_folder,
    cache_size,
    entry_of,
    load_dataset,
)
from mst.errors import InputError
from mst.files import prepare_folder
from mst.progress import ProgressCallback, Stage
from mst.text import suggestion

from .dataset_options import DatasetCheckOptions, DownloadOptions

ANY_SIZE = 224
"""Side in pixels to which images of many sizes are resized if a data set is opened only to be checked."""


@dataclass(frozen=True)
class ListedDataset:
    """A data set of the registry, and whether its files are here."""

    info: DatasetInfo
    """Facts about it."""

    place: str | None
    """Place of its files, for people; None if they are not here, or if the name must state a path."""


@dataclass(frozen=True)
class DatasetListing:
    """All data sets, and the cache of frames."""

    datasets: tuple[ListedDataset, ...]
    """Data sets known by name."""

    own: tuple[DatasetInfo, ...]
    """Names that state a path, such as folder:PATH."""

    cache_folder: Path | None
    """Folder of the cached frames of events; None if there is none."""

    cache_entries: int
    """Entries of the cache."""

    cache_bytes: int
    """Size of the cache in bytes."""


@dataclass(frozen=True)
class DatasetCheck:
    """A data set that was opened and counted."""

    name: str
    """Its name, as it was asked for."""

    info: DatasetInfo
    """Facts that its files show."""

    preprocessing: Preprocessing
    """Mean, standard deviation and size with which a network would be trained on it."""

    fingerprint: str
    """sha256 over images and labels, or over the names of files."""

    num_train: int
    """Training images or recordings that are here."""

    num_test: int
    """Test images or recordings that are here."""

    expected: DatasetInfo
    """Facts about the complete data set."""

    damaged: tuple[UnreadableSampleError, ...] | None
    """Errors of the samples that cannot be read; None if they were not read."""

    @property
    def kind(self) -> str:
        """ "images" or "recordings"."""
        return "images" if self.info.sensor is None else "recordings"

    @property
    def is_complete(self) -> bool:
        """True if all samples of the data set are here."""
        return self.num_train + self.num_test == self.expected.num_train + self.expected.num_test


def list_datasets(data_path: Path | None = None) -> DatasetListing:
    """All data sets, and whether their files are here.

    Args:
        data_path: folder to search; None searches the usual places.
    """
    listed = tuple(ListedDataset(entry.info, entry.find(data_path)) for entry in DATASETS.values())
    folder = cache_folder()
    folder = folder if folder is not None and folder.is_dir() else None
    entries, size = cache_size(folder) if folder is not None else (0, 0)
    return DatasetListing(listed, OWN_DATASETS_INFO, folder, entries, size)


def check_dataset(options: DatasetCheckOptions, *, progress: ProgressCallback | None = None) -> DatasetCheck:
    """Open a data set and count it; with `decode`, read every sample.

    Args:
        options: the data set.
        progress: called while samples are read.

    Raises:
        InputError: an unknown name, damaged archives or lists, or a sensor for a data set that has its own.
        MissingFileError: the files are not there.
    """
    name = options.dataset
    info = None if name.startswith(EVENTS) else entry_of(name).info
    size = ANY_SIZE if info is not None and info.sensor is None and info.native_size is None else None
    events = EventRepresentation(sensor=options.sensor, camera=options.camera)
    splits = load_dataset(name, options.data_path, img_size=size, events=events, on_bad_image="skip")
    return DatasetCheck(
        name,
        splits.info,
        splits.preprocessing,
        splits.fingerprint,
        len(splits.train),
        len(splits.test),
        DATASETS[name].info if name in DATASETS else splits.info,
        _damaged(name, splits, progress) if options.decode else None,
    )


def _damaged(name: str, splits: DataSplits, progress: ProgressCallback | None) -> tuple[UnreadableSampleError, ...]:
    """Read every sample; returns the errors of those that cannot be read."""
    damaged = []
    kind = "images" if splits.info.sensor is None else "recordings"
    stage = Stage(progress, f"reading {name}", len(splits.train) + len(splits.test), kind)
    for split in (splits.train, splits.test):
        for index in range(len(split)):
            try:
                sample, _ = split.raw.read(index)
                if isinstance(sample, StoredRecording):
                    sample.events()
            except UnreadableSampleError as error:
                damaged.append(error)
            stage.advance()
    return tuple(damaged)


def download_dataset(options: DownloadOptions) -> Path:
    """Download and unpack a data set; returns the folder.

    Raises:
        InputError: the data set cannot be downloaded, tonic is not installed, or the download failed.
        OSError: the folder cannot be written.
    """
    downloads = {name: entry.download for name, entry in DATASETS.items()}
    download = downloads.get(options.dataset)
    if download is None:
        known = [name for name, found in downloads.items() if found is not None]
        raise InputError(
            f"{options.dataset!r} cannot be downloaded",
            remedy=suggestion(
                options.dataset, known, f"those that can: {', '.join(known)}; for others see `mst datasets`"
            ),
        )
    folder = prepare_folder(options.data_path)
    download(folder)
    return folder
