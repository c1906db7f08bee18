"""The work on data sets from Python: nothing is printed, results are values."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from image_data import image_files, write_folder
from mst.data import DATASETS, Sensor, load_dataset
from mst.errors import FileConflictError, InputError
from mst.experiments import (
    DatasetCheckOptions,
    DownloadOptions,
    RecordingOptions,
    RecordingsOptions,
    check_dataset,
    download_dataset,
    first_recording,
    list_datasets,
    make_recordings,
    open_recording,
)
from mst.progress import Progress

NOTES = logging.getLogger("mst.notes")


@pytest.fixture(autouse=True)
def _nothing_is_printed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(NOTES, "handlers", [])  # without those of the command line
    yield
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images", image_files(classes=2, train=2, test=1))


def test_list_datasets_reports_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MST_CACHE", "off")
    listing = list_datasets(tmp_path)
    places = {listed.info.name: listed.place for listed in listing.datasets}
    assert list(places) == list(DATASETS)
    assert places["digits"] == "scikit-learn"
    assert places["cifar10"] is None
    assert [info.name for info in listing.own] == ["folder:PATH", "events:PATH", "hf:NAME"]
    assert (listing.cache_folder, listing.cache_entries) == (None, 0)


def test_check_dataset_returns_the_errors_of_damaged_samples(images: Path) -> None:
    bad = images / "train" / "n00001000" / "train_0_1.JPEG"
    bad.write_bytes(b"no image")
    reports: list[Progress] = []
    check = check_dataset(DatasetCheckOptions(f"folder:{images}", decode=True), progress=reports.append)
    assert (check.num_train, check.num_test, check.kind, check.is_complete) == (4, 2, "images", True)
    assert check.damaged is not None
    assert [error.where for error in check.damaged] == [str(bad)]
    assert (reports[-1].done, reports[-1].total) == (6, 6)
    assert check_dataset(DatasetCheckOptions(f"folder:{images}")).damaged is None


def test_make_recordings_gives_a_data_set(images: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    options = RecordingsOptions(images, tmp_path / "made", sensor=(16, 20), file_format="npz")
    made = make_recordings(options, progress=reports.append)
    assert (made.num_recordings, made.num_skipped, made.sensor, made.states_sensor) == (6, 0, Sensor(16, 20), True)
    assert (reports[-1].done, reports[-1].total) == (6, 6)
    splits = load_dataset(f"events:{tmp_path / 'made'}")
    assert (len(splits.train), len(splits.test)) == (4, 2)
    recordings = [splits.train.raw.read(i)[0] for i in range(4)] + [splits.test.raw.read(i)[0] for i in range(2)]
    assert sum(len(recording.events()) for recording in recordings) == made.num_events  # type: ignore[union-attr]


def test_make_recordings_notes_a_skipped_image(images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = images / "val" / "n00001001" / "val_1_0.JPEG"
    bad.write_bytes(b"no image")
    options = RecordingsOptions(images, tmp_path / "made", sensor=(16, 16))
    with pytest.raises(InputError) as caught:
        make_recordings(options)
    assert caught.value.where == str(bad)
    NOTES.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, logger=NOTES.name):
        made = make_recordings(RecordingsOptions(images, tmp_path / "made", sensor=(16, 16), on_bad_image="skip"))
    assert (made.num_recordings, made.num_skipped) == (5, 1)
    assert f"skipped: {bad}: the file cannot be read as an image" in caplog.text


def test_make_recordings_does_not_mix(images: Path, tmp_path: Path) -> None:
    make_recordings(RecordingsOptions(images, tmp_path / "made", sensor=(16, 16)))
    with pytest.raises(FileConflictError, match=r"holds recordings made otherwise \(camera.json\)"):
        make_recordings(RecordingsOptions(images, tmp_path / "made", sensor=(20, 20)))
    with pytest.raises(InputError, match="--output must lie outside the folder of the images"):
        RecordingsOptions(images, images / "made")


def test_open_recording_of_a_data_set_and_of_a_file(images: Path, tmp_path: Path) -> None:
    second = open_recording(RecordingOptions("digits-dvs", index=1))
    assert second.title.startswith("digits-dvs, test recording 1, ")
    first = first_recording(load_dataset("digits-dvs"))
    assert first is not None
    assert first.title.startswith("digits-dvs, test recording 0, ")
    assert not np.array_equal(first.events, second.events)
    make_recordings(RecordingsOptions(images, tmp_path / "made", sensor=(16, 16), file_format="bin"))
    path = min((tmp_path / "made").rglob("*.bin"))
    assert open_recording(RecordingOptions(str(path), sensor=(16, 18))).sensor == Sensor(16, 18)
    assert first_recording(load_dataset("digits")) is None


@pytest.mark.parametrize(("options", "message"), [
    ({"recording": "digits"}, "digits holds images, not recordings"),
    ({"recording": "digits-dvs", "index": 360}, "index must be from 0 to 359"),
    ({"recording": "digits-dvs", "index": -1}, "index must be at least 0, got -1"),
    ({"recording": __file__, "index": 2}, "data_path and index have no effect on"),
])  # fmt: skip
def test_open_recording_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_recording(RecordingOptions(**options))  # type: ignore[arg-type]


def test_download_dataset_calls_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []
    monkeypatch.setattr("tonic.datasets.DVSGesture", lambda save_to, train: folders.append(Path(save_to) / str(train)))
    assert download_dataset(DownloadOptions("dvs128-gesture", tmp_path / "new")) == tmp_path / "new"
    assert folders == [tmp_path / "new" / "True", tmp_path / "new" / "False"]
    with pytest.raises(InputError, match="'n-cars' cannot be downloaded.*Those that can: cifar10-dvs, n-caltech101"):
        download_dataset(DownloadOptions("n-cars", tmp_path))
