"""Single files, read as a network's test images were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mst
from mst.data import (
    DatasetInfo,
    PictureInputs,
    RecordingInputs,
    Sensor,
    UnreadableSampleError,
    dataset_info,
    files_below,
    inputs_of,
    make_events,
    write_events,
)
from mst.data.images.transform import ImageTransform

GREY = mst.Preprocessing(8, 1, (0.25,), (0.5,))
COLOUR = mst.Preprocessing(8, 3, (0.25, 0.5, 0.125), (0.5, 0.25, 0.5))


def test_pictures_are_read_as_those_of_the_data_set(tmp_path: Path) -> None:
    test = mst.load_dataset("digits", img_size=8)
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.asarray(test.test.raw.read(number)[0]))
    found = inputs_of([tmp_path], test.preprocessing)
    assert [path.name for path in found.paths] == ["0.npy", "1.npy", "2.npy"]
    for number in range(3):
        assert torch.equal(found.read(number), test.test[number][0])


def test_pictures_are_resized_as_those_of_the_data_set(tmp_path: Path) -> None:
    stored = mst.data.StoredImages(
        torch.randint(256, (2, 1, 12, 12), dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    )
    for number in range(2):
        Image.fromarray(stored.read(number)[0][0].numpy()).save(tmp_path / f"{number}.png")
    expected = ImageTransform((12, 12), GREY, None)
    found = inputs_of([tmp_path], GREY, dataset_info("fashion-mnist"))
    for number in range(2):
        assert torch.equal(found.read(number), expected(stored.read(number)[0]))
    with Image.open(tmp_path / "0.png") as picture:
        assert torch.equal(inputs_of([tmp_path], GREY).read(0), expected(picture))


def test_pictures_of_the_right_size_keep_their_pixels(tmp_path: Path) -> None:
    for how, mode in ((GREY, "L"), (COLOUR, "RGB")):
        pixels = torch.randint(256, (how.in_chans, 8, 8), dtype=torch.uint8)
        array = pixels.permute(1, 2, 0).squeeze(-1).numpy()
        Image.fromarray(array).save(tmp_path / f"{mode}.png")
        mean, std = (torch.tensor(each)[:, None, None] for each in (how.mean, how.std))
        found = PictureInputs([tmp_path / f"{mode}.png"], how).read(0)
        torch.testing.assert_close(found, (pixels / 255 - mean) / std)


def test_recordings_are_read_as_those_of_the_data_set(tmp_path: Path) -> None:
    splits = mst.load_dataset("digits-dvs", img_size=8)
    recording, _ = splits.test.raw.read(0)
    sensor = splits.info.sensor
    assert sensor is not None
    for suffix, kind in (("npz", "npz"), ("bin", "bin")):
        write_events(tmp_path / f"0.{suffix}", recording.events(False), sensor, kind)
    known = dataset_info("digits-dvs")
    found = inputs_of([tmp_path], splits.preprocessing, known)
    assert isinstance(found, RecordingInputs)
    for number in range(2):
        assert torch.equal(found.read(number), splits.test[0][0])
    slices = inputs_of([tmp_path / "0.npz"], splits.preprocessing, known, slices=4) if _has_one_bin(splits) else None
    if slices is not None:
        torch.testing.assert_close(slices.read(0).mean(dim=0), splits.test[0][0])
    alone = inputs_of([tmp_path / "0.bin"], splits.preprocessing)
    with pytest.raises(UnreadableSampleError, match="does not state its camera's pixels.*--sensor HEIGHT,WIDTH"):
        alone.read(0)
    assert torch.equal(inputs_of([tmp_path / "0.bin"], splits.preprocessing, sensor=sensor).read(0), found.read(0))
    other = inputs_of([tmp_path / "0.npz"], splits.preprocessing, sensor=Sensor(5, 5))
    with pytest.raises(UnreadableSampleError, match="states a sensor of"):
        other.read(0)


def _has_one_bin(splits: mst.DataSplits) -> bool:
    how = splits.preprocessing.events
    return how is not None and (how.kind, how.num_bins) == ("frames", 1)


def test_data_set_decides_how_its_format_is_read(tmp_path: Path) -> None:
    events = make_events([0, 1, 2], [1, 2, 3], [0, 0, 5], [1, 0, 1])
    how = mst.EventRepresentation(num_bins=1, pad_to_square=False)
    preprocessing = mst.Preprocessing((180, 240), 2, (0.0, 0.0), (1.0, 1.0), events=how)
    write_events(tmp_path / "a.mat", events, Sensor(180, 240), "mat-asl-dvs")
    frames = RecordingInputs([tmp_path / "a.mat"], preprocessing, dataset_info("asl-dvs")).read(0)
    assert frames[:, 0].sum() == 2  # rows of this data set's files are counted from below


@pytest.mark.parametrize(
    ("array", "how"),
    [
        (np.arange(64, dtype=np.uint8).reshape(8, 8), GREY),
        (np.arange(64, dtype=np.uint8).reshape(1, 8, 8), GREY),
        (np.arange(64, dtype=np.uint8).reshape(8, 8, 1) / np.float32(255), GREY),
        (np.arange(192, dtype=np.uint8).reshape(8, 8, 3), COLOUR),
        (np.arange(192, dtype=np.uint8).reshape(8, 8, 3).transpose(2, 0, 1) / 255.0, COLOUR),
    ],
)
def test_arrays_of_any_layout_are_one_picture(array: np.ndarray, how: mst.Preprocessing, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    found = PictureInputs([tmp_path / "a.npy"], how).read(0)
    pixels = np.arange(64 * how.in_chans).reshape(8, 8, how.in_chans).transpose(2, 0, 1) / 255
    mean, std = (np.array(each)[:, None, None] for each in (how.mean, how.std))
    torch.testing.assert_close(found, torch.from_numpy((pixels - mean) / std).float())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), r"shape \(2, 8, 8\) is no picture of 1 channels"),
        (np.zeros((8, 8), np.int64) + 300, "its values are int64 from 300 to 300"),
        (np.full((8, 8), 1.5), "its values are float64 from 1.5 to 1.5"),
        (np.full((8, 8), np.nan), "its values are float64"),
        (np.array([{}]), "not an array of NumPy"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UnreadableSampleError, match=f"a.npy: .*{message}"):
        PictureInputs([tmp_path / "a.npy"], GREY).read(0)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(UnreadableSampleError, match="cannot be read as an image"):
        PictureInputs([tmp_path / "a.png"], GREY).read(0)
    how = mst.Preprocessing(8, 18, (0.0,) * 18, (1.0,) * 18, events=mst.EventRepresentation())
    with pytest.raises(UnreadableSampleError, match="this kind of file is not known"):
        RecordingInputs([tmp_path / "a.png"], how, sensor=Sensor(8, 8)).read(0)
    with pytest.raises(mst.InputError, match="no recordings of an event camera in it"):
        files_below([tmp_path], takes_events=True)
    with pytest.raises(mst.MissingFileError, match="no such file or folder: .*b.png"):
        files_below([tmp_path / "b.png"], takes_events=False)
    with pytest.raises(mst.InputError, match="slices has no effect on a network that takes pictures"):
        inputs_of([tmp_path], GREY, slices=2)


def test_changes_to_fit_the_network_are_noted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mst")
    for name in ("a", "b"):
        Image.new("RGB", (20, 10), "red").save(tmp_path / f"{name}.png")
    found = inputs_of([tmp_path], GREY)
    assert found.read(0).shape == found.read(1).shape == (1, 8, 8)
    assert caplog.text.count("it is 10 x 20 and is fitted to 8 x 8 pixels") == 1
    assert caplog.text.count("its colours become grey") == 1


def test_unknown_data_set_is_none() -> None:
    assert isinstance(dataset_info("n-cars"), DatasetInfo)
    assert dataset_info("n-cars").event_formats == ("dat",)
