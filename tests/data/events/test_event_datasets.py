"""The event data sets in the layouts in which they are published, their splits, and the input that a network gets."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from event_data import (
    LAYOUTS,
    SMALL,
    aedat3_bytes,
    bin_bytes,
    cifar10_dvs,
    dat_bytes,
    n_caltech101,
    put,
    small_events,
)
from mst.data import (
    DATASETS,
    AugmentConfig,
    DataSplits,
    EventAugmentConfig,
    EventRepresentation,
    Preprocessing,
    Sensor,
    UnreadableEventsError,
    in_order,
    load_dataset,
    write_events,
)
from mst.data.events.class_folders import split_by_class
from mst.data.events.gestures import GESTURES
from mst.data.events.recorded import ASL_LETTERS

pytestmark = pytest.mark.slow

ONE = EventRepresentation(num_bins=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MST_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def cache_of_this_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def shared_cache(_own_cache: None, cache_of_this_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test find the frames that others have made."""
    monkeypatch.setenv("MST_CACHE", str(cache_of_this_file))


@pytest.mark.parametrize("case", LAYOUTS)
def test_published_layout_is_opened_and_read(case: str, tmp_path: Path) -> None:
    write, sensor = LAYOUTS[case]
    name = case.partition(" ")[0]
    write(tmp_path)
    assert DATASETS[name].find(tmp_path) is not None
    splits = load_dataset(name, tmp_path, events=ONE)
    assert splits.info.sensor == sensor
    assert len(splits.info.class_names) == 2
    assert (len(splits.train), len(splits.test)) == (18, 2)
    assert splits.preprocessing.size == (max(sensor.height, sensor.width),) * 2
    for split in (splits.train, splits.test):
        for index in range(len(split)):
            frame, label = split[index]
            assert frame.shape == (2, *splits.preprocessing.size)
            counts = frame * torch.tensor(splits.preprocessing.std)[:, None, None]
            assert float(counts.sum()) == pytest.approx(len(SMALL) + 1, abs=1e-3)
            assert label in (0, 1)


@pytest.mark.parametrize("case", LAYOUTS)
def test_no_recording_is_in_both_splits(case: str, tmp_path: Path) -> None:
    LAYOUTS[case][0](tmp_path)
    splits = load_dataset(case.partition(" ")[0], tmp_path, events=ONE)
    paths = [{file.path for file in split.raw.files} for split in (splits.train, splits.test)]  # type: ignore[attr-defined]
    assert paths[0].isdisjoint(paths[1])
    assert len(paths[0] | paths[1]) == 20


def test_split_is_nine_to_one_a_class_whatever_the_order_of_the_listing() -> None:
    found = {name: [Path(f"{name}/{i}") for i in range(100)] for name in ("b", "a")}
    train, test = split_by_class(found, Path())
    assert {name: (len(train[name]), len(test[name])) for name in found} == {"a": (90, 10), "b": (90, 10)}
    backwards = {name: list(reversed(paths)) for name, paths in reversed(found.items())}
    assert split_by_class(backwards, Path()) == (train, test)
    assert [path.name for path in test["a"]] == ["1", "15", "16", "19", "20", "3", "52", "58", "91", "94"]


def test_class_of_one_recording_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="class 'a' has 1 recording; to be split it needs at least 2"):
        split_by_class({"a": [Path("a/1")]}, Path("root"))


def test_folder_of_no_class_is_refused(tmp_path: Path) -> None:
    cifar10_dvs(tmp_path)
    put(tmp_path / "CIFAR10DVS" / "aeroplane" / "1.aedat", b"")
    with pytest.raises(
        ValueError, match="not a class of this data set: aeroplane; its classes are airplane, automobile"
    ):
        load_dataset("cifar10-dvs", tmp_path)


@pytest.mark.parametrize(
    "name", ["cifar10-dvs", "n-caltech101", "n-cars", "asl-dvs", "action-recognition", "dvs128-gesture"]
)
def test_missing_files_are_asked_for(name: str, tmp_path: Path) -> None:
    assert DATASETS[name].find(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=rf"{name} is not in {tmp_path}; name the folder .* Needed: "):
        load_dataset(name, tmp_path)


def test_other_data_beside_it_is_not_taken_for_a_data_set(tmp_path: Path) -> None:
    put(tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin", b"x" * 50)
    assert all(DATASETS[name].find(tmp_path) is None for name in ("n-caltech101", "n-cars", "asl-dvs"))


# ---------------------------------------------------------------------------------------------- gestures


def gestures_as_published(root: Path) -> None:
    rows = [(t, x, 5, 1) for t, x in zip(range(0, 1000, 10), [7] * 100, strict=True)]
    for name in ("user01_led", "user24_led"):
        put(root / "DvsGesture" / f"{name}.aedat", aedat3_bytes([(1, 0, rows)]))
        put(root / "DvsGesture" / f"{name}_labels.csv",
            b"class,startTime_usec,endTime_usec\n1,0,300\n11,500,990\n")  # fmt: skip
    put(root / "DvsGesture" / "trials_to_train.txt", b"user01_led.aedat\n")
    put(root / "DvsGesture" / "trials_to_test.txt", b"user24_led.aedat\n")


def test_gestures_as_published_are_cut_by_their_labels(tmp_path: Path) -> None:
    gestures_as_published(tmp_path)
    splits = load_dataset("dvs128-gesture", tmp_path, events=ONE)
    assert splits.info.class_names == GESTURES
    assert (len(splits.train), len(splits.test)) == (2, 2)
    recordings = [splits.test.raw.read(index) for index in range(2)]
    assert [label for _, label in recordings] == [0, 10]
    assert [len(file.events()) for file, _ in recordings] == [31, 50]  # type: ignore[union-attr]
    assert recordings[0][0].digest() != recordings[1][0].digest()  # type: ignore[union-attr]


@pytest.mark.parametrize(("change", "message"), [
    (lambda root: put(root / "user24_led_labels.csv", b"class,start\n1,0\n"), r"line 2: needs class, startTime_usec"),
    (lambda root: put(root / "user24_led_labels.csv", b"class,startTime_usec,endTime_usec\n12,0,9\n"), "class 12 from"),
    (lambda root: (root / "user24_led.aedat").unlink(), "names user24_led.aedat, but .* is not there"),
    (lambda root: put(root / "trials_to_test.txt", b"\n"), "does not name any recordings"),
    (lambda root: put(root / "trials_to_test.txt", b"user01_led.aedat\n"), "is in both lists"),
    (lambda root: put(root / "trials_to_test.txt", "user24".encode("utf-16")), "not a text in UTF-8"),
])  # fmt: skip
def test_damaged_lists_of_gestures_are_refused(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    gestures_as_published(tmp_path)
    change(tmp_path / "DvsGesture")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_dataset("dvs128-gesture", tmp_path, events=ONE)


def test_gestures_of_tonic_are_read(tmp_path: Path) -> None:
    for part, user in (("Train", "user01_led"), ("Test", "user24_led")):
        folder = tmp_path / "DVSGesture" / f"ibmGesture{part}" / user
        folder.mkdir(parents=True)
        for label in (0, 10):
            np.save(folder / f"{label}.npy", np.array([[3, 2, 1, 0], [5, 7, 0, 9]]))
    splits = load_dataset("dvs128-gesture", tmp_path, events=ONE)
    assert [splits.test[index][1] for index in range(2)] == [0, 10]
    np.save(folder / "eleven.npy", np.zeros((1, 4)))
    with pytest.raises(ValueError, match="are named 0.npy to 10.npy"):
        load_dataset("dvs128-gesture", tmp_path, events=ONE)


# ----------------------------------------------------------------------------------------- own recordings


def own_recordings(root: Path, names: tuple[str, ...] = ("train/x", "train/y", "test/x", "test/y")) -> Path:
    for name in names:
        for i in range(3):
            path = root / name / f"{i}.dat"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_events(path, small_events(), Sensor(8, 10), "dat")
    return root


def test_own_recordings_with_and_without_splits(tmp_path: Path) -> None:
    splits = load_dataset(f"events:{own_recordings(tmp_path / 'a')}", events=ONE)
    assert (len(splits.train), len(splits.test)) == (6, 6)
    assert splits.info.sensor == Sensor(8, 10)
    assert splits.info.class_names == ("x", "y")
    splits = load_dataset(f"events:{own_recordings(tmp_path / 'b', ('x', 'y'))}", events=ONE)
    assert (len(splits.train), len(splits.test)) == (4, 2)


def test_own_recordings_that_do_not_state_their_sensor(tmp_path: Path) -> None:
    for name in ("x", "y"):
        for i in range(2):
            put(tmp_path / name / f"{i}.bin", bin_bytes(SMALL))
    with pytest.raises(ValueError, match="does not state the sensor's size; give it with --events.sensor HEIGHT,WIDTH"):
        load_dataset(f"events:{tmp_path}")
    splits = load_dataset(f"events:{tmp_path}", events=EventRepresentation(sensor=(8, 10)))
    assert splits.info.sensor == Sensor(8, 10)


def test_checkpoint_brings_the_sensor_along(tmp_path: Path) -> None:
    for name in ("x", "y"):
        for i in range(2):
            put(tmp_path / name / f"{i}.bin", bin_bytes(SMALL))
    trained = load_dataset(f"events:{tmp_path}", events=EventRepresentation(num_bins=1, sensor=(8, 10)))
    again = load_dataset(f"events:{tmp_path}", preprocessing=trained.preprocessing)
    assert again.info.sensor == Sensor(8, 10)
    assert torch.equal(again.test[0][0], trained.test[0][0])
    lenient = load_dataset(
        f"events:{tmp_path}", preprocessing=trained.preprocessing,
        events=EventRepresentation(num_bins=1, sensor=(8, 10), drop_bad_events=True),
    )  # fmt: skip
    assert lenient.preprocessing.events is not None
    assert lenient.preprocessing.events.drop_bad_events


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "VAL"), ("train", "valid")])
def test_official_split_is_recognised_however_it_is_spelled(names: tuple[str, str], tmp_path: Path) -> None:
    own_recordings(tmp_path, tuple(f"{part}/{name}" for part in names for name in "xy"))
    splits = load_dataset(f"events:{tmp_path}", events=ONE)
    assert (len(splits.train), len(splits.test)) == (6, 6)


def test_classes_may_be_links(tmp_path: Path) -> None:
    own_recordings(tmp_path / "elsewhere", ("x", "y"))
    (tmp_path / "data").mkdir()
    for name in ("x", "y"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere" / name)
    assert load_dataset(f"events:{tmp_path / 'data'}", events=ONE).info.class_names == ("x", "y")


@pytest.mark.parametrize(("change", "message"), [
    (lambda root: put(root / "stray.dat", b"x"), "stray.dat: the recording is not in the folder of a class"),
    (lambda root: put(root / "x" / "subject1" / "0.dat", b"x"), "0.dat: the recording is not in the folder of a class"),
    (lambda root: put(root / "x" / "0.bin", b"x" * 5), "0.bin and .*0.dat look like one recording in two formats"),
    (lambda root: put(root / "train" / "x" / "0.dat", b"x"), "there is a folder train/ and none for the other split"),
])  # fmt: skip
def test_layout_that_would_be_misread_is_refused(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    own_recordings(tmp_path, ("x", "y"))
    change(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_dataset(f"events:{tmp_path}", events=ONE)


@pytest.mark.parametrize(("change", "message"), [
    (lambda root: put(root / "z" / "a" / "b" / "0.dat", b"x"), r"b/0\.dat: .* class, as 1 of 7 are not"),
    (lambda root: put(root / "z" / "0.raw", b"x"), r"1 folders hold only .* not read; z holds 1 \.raw"),
])  # fmt: skip
def test_recordings_that_would_be_left_out_are_refused(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    own_recordings(tmp_path, ("x", "y"))
    change(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_dataset(f"events:{tmp_path}", events=ONE)


def test_what_is_left_out_of_own_recordings_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own_recordings(tmp_path)
    own_recordings(tmp_path, ("val/x", "train/__MACOSX", "train/.ipynb_checkpoints", "train/z"))
    put(tmp_path / "train" / "x" / "notes.txt", b"")
    put(tmp_path / "train" / "x" / "0.raw", b"")
    (tmp_path / "train" / "none").mkdir()
    with caplog.at_level("INFO", "mst.notes"):
        splits = load_dataset(f"events:{tmp_path}", events=ONE)
    assert splits.info.class_names == ("x", "y", "z")
    for said in (
        "train and test are the splits; not used: val", "left out (2): .ipynb_checkpoints, __MACOSX",
        "1 folders without recordings are no classes: none (empty)", "2 files that are not read as recordings are left "
        "out: 1 .raw, 1 .txt", "there are no test recordings of 1 of 3 classes: z",
    ):  # fmt: skip
        assert said in caplog.text


def test_first_file_need_not_be_readable_and_sensors_must_agree(tmp_path: Path) -> None:
    own_recordings(tmp_path)
    (tmp_path / "test" / "x" / "0.dat").write_bytes(b"")
    put(tmp_path / "test" / "x" / "._0.dat", b"not a recording")
    write_events(tmp_path / "test" / "y" / "2.dat", small_events(), Sensor(40, 50), "dat")
    splits = load_dataset(f"events:{tmp_path}", events=ONE, on_bad_image="skip")
    assert splits.info.sensor == Sensor(8, 10)
    with pytest.raises(UnreadableEventsError, match="states a sensor of 40 x 50 px, where the data set's is 8 x 10 px"):
        load_dataset(f"events:{tmp_path}", events=ONE).test[5]


def test_fingerprint_does_not_depend_on_the_location_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_recordings(tmp_path / "here")
    before = load_dataset(f"events:{tmp_path / 'here'}", events=ONE).fingerprint
    monkeypatch.chdir(tmp_path / "here")
    assert load_dataset("events:.", events=ONE).fingerprint == before


def test_data_path_may_be_the_folder_itself(tmp_path: Path) -> None:
    n_caltech101(tmp_path)
    assert len(load_dataset("n-caltech101", tmp_path / "Caltech101", events=ONE).test) == 2


def test_own_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no such folder of recordings: .*none; give one that exists: --dataset events:FOLDER"
    ):
        load_dataset(f"events:{tmp_path / 'none'}")
    with pytest.raises(FileNotFoundError, match=r"there are no recordings \(.aedat, .aedat4"):
        load_dataset(f"events:{tmp_path}")


def test_damaged_recordings_fail_or_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = own_recordings(tmp_path)
    (root / "test" / "x" / "1.dat").write_bytes(b"")
    splits = load_dataset(f"events:{root}", events=ONE)
    with pytest.raises(UnreadableEventsError, match=r"1.dat: the file is empty; .* --on-bad-image skip"):
        splits.test[1]
    splits = load_dataset(f"events:{root}", events=ONE, on_bad_image="skip")
    labels = [labels.tolist() for _, labels in in_order(splits.test, range(6), 2, 0)]
    assert labels == [[0], [0, 1], [1, 1]]
    assert "skipped: " in caplog.text


def test_bad_events_are_dropped_where_the_representation_allows_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = own_recordings(tmp_path)
    late = dat_bytes([*SMALL, (5, 1, 1, 0)], "% Version 2\n% Height 8\n% Width 10\n")
    (root / "test" / "x" / "1.dat").write_bytes(late)
    with pytest.raises(UnreadableEventsError, match="time runs backwards, from 131,071 to 5 µs; .*drop-bad-events"):
        load_dataset(f"events:{root}", events=ONE).test[1]
    how = EventRepresentation(num_bins=1, drop_bad_events=True)
    frame = load_dataset(f"events:{root}", events=how).test[1][0]
    assert torch.equal(frame, load_dataset(f"events:{root}", events=how).test[0][0])
    assert "1 of 6 events left out" in caplog.text


# ------------------------------------------------------------------------------------- the input of a network


def digits(**options: object) -> DataSplits:
    return load_dataset("digits-dvs", **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("shared_cache")
def test_simulated_data_set_has_the_split_of_its_images() -> None:
    splits, images = digits(events=ONE), load_dataset("digits")
    assert (len(splits.train), len(splits.test)) == (len(images.train), len(images.test))
    assert [splits.test[i][1] for i in range(20)] == [images.test[i][1] for i in range(20)]
    assert digits(events=ONE).fingerprint == splits.fingerprint != images.fingerprint


@pytest.mark.usefixtures("shared_cache")
def test_frames_come_out_of_the_cache_as_they_went_in(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digits().test
    made = [before[i][0] for i in range(4)]
    monkeypatch.setattr("mst.data.events.transform.represent", None)
    again = digits(preprocessing=_nine()).test
    assert all(torch.equal(frame, again[i][0]) for i, frame in enumerate(made))


def _nine() -> Preprocessing:
    return Preprocessing(16, 18, (0.0,) * 18, digits_std(), "nearest", events=EventRepresentation())


def digits_std() -> tuple[float, ...]:
    return (0.777935, 0.716394, 0.814464, 0.76975, 0.865661, 0.746461, 0.90813, 0.947488, 1.050369, 1.030289,
            1.131181, 1.000787, 0.618755, 0.655422, 0.745457, 0.729075, 0.765078, 0.727901)  # fmt: skip


@pytest.mark.usefixtures("shared_cache")
def test_counts_are_scaled_by_their_spread_and_no_event_stays_zero() -> None:
    splits = digits()
    assert splits.preprocessing.mean == (0.0,) * 18
    frames = torch.stack([splits.train[i * 5][0] for i in range(200)])
    assert frames.std(dim=(0, 2, 3)).mean() == pytest.approx(1.0, abs=0.05)
    assert float((frames == 0).double().mean()) > 0.5


@pytest.mark.usefixtures("shared_cache")
def test_mean_over_slices_is_the_frame() -> None:
    splits = digits(events=ONE)
    for num_slices in (1, 4, 30):
        slices, label = splits.test_in_slices(num_slices)[7]
        assert slices.shape == (num_slices, 2, 16, 16)
        assert torch.allclose(slices.mean(dim=0), splits.test[7][0], atol=1e-5)
        assert label == splits.test[7][1]


@pytest.mark.usefixtures("shared_cache")
def test_slices_of_time_bins_or_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sees 9 time bins as channels .* train one with --events.num-bins 1"):
        digits().test_in_slices(8)
    with pytest.raises(ValueError, match="digits holds images"):
        load_dataset("digits").test_in_slices(8)


@pytest.mark.usefixtures("shared_cache")
def test_augmented_frames_keep_their_scale() -> None:
    splits = digits(events=ONE, event_augment=EventAugmentConfig(time_window=0.1))
    torch.manual_seed(0)
    shown = torch.stack([splits.train[i][0] for i in range(150)])
    plain = torch.stack([splits.without_augmentation()[i][0] for i in range(150)])
    assert float(shown.mean()) == pytest.approx(float(plain.mean()), rel=0.1)
    assert not torch.equal(shown, plain)


@pytest.mark.usefixtures("shared_cache")
def test_image_size_of_frames(tmp_path: Path) -> None:
    assert digits(events=ONE, img_size=8).test[0][0].shape == (2, 8, 8)
    how = EventRepresentation(num_bins=1, pad_to_square=False)
    splits = load_dataset(f"events:{own_recordings(tmp_path)}", events=how)
    assert splits.test[0][0].shape == (2, 8, 10)
    assert load_dataset(f"events:{tmp_path}", events=how, img_size=(16, 20)).test[0][0].shape == (2, 16, 20)


def test_preprocessing_of_events_round_trips_through_plain_values() -> None:
    import dataclasses
    import json

    how = EventRepresentation(num_bins=2, sensor=(16, 16))
    before = Preprocessing((8, 12), 4, (0.0,) * 4, (1.0,) * 4, "nearest", events=how)
    assert Preprocessing(**json.loads(json.dumps(dataclasses.asdict(before)))) == before


@pytest.mark.parametrize(("name", "options", "message"), [
    ("digits", {"events": ONE}, "events has no effect: digits holds images"),
    ("digits", {"event_augment": EventAugmentConfig(shift=1)}, "event_augment has no effect: digits holds images"),
    ("digits-dvs", {"augment": AugmentConfig(horizontal_flip=True)}, r"augment \(use event_augment\) has no effect"),
    ("digits-dvs", {"crop_ratio": 0.9}, "crop_ratio has no effect: digits-dvs holds recordings"),
    ("digits-dvs", {"interpolation": "bilinear"}, "interpolation has no effect"),
    ("digits-dvs", {"cache_images": True}, "cache_images has no effect"),
    ("digits-dvs", {"preprocessing": Preprocessing(8, 1, (0.0,), (1.0,))}, "the network takes images"),
    ("digits", {"preprocessing": Preprocessing(16, 2, (0.0,) * 2, (1.0,) * 2, events=ONE)}, "the network takes frames"),
    ("digits-dvs", {"preprocessing": Preprocessing(16, 2, (0.0,) * 2, (1.0,) * 2, events=ONE),
                    "events": EventRepresentation(num_bins=3)}, "which is given"),
])  # fmt: skip
def test_options_that_do_not_go_with_the_data_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(name, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("shared_cache")
def test_workers_give_what_the_main_process_gives() -> None:
    splits = digits(events=ONE)
    frames = torch.cat([images for images, _ in DataLoader(splits.test, 30, num_workers=2)])
    assert torch.equal(frames[:40], torch.stack([splits.test[i][0] for i in range(40)]))
    sent = pickle.loads(pickle.dumps(splits.test))  # as a spawned worker receives it
    assert torch.equal(sent[7][0], splits.test[7][0])


def test_registry_states_the_sensor_of_every_event_data_set() -> None:
    with_sensor = {name for name, entry in DATASETS.items() if entry.info.sensor is not None}
    assert with_sensor == {
        "digits-dvs", "fashion-mnist-dvs", "cifar10-dvs", "n-caltech101", "n-cars", "asl-dvs", "action-recognition",
        "dvs128-gesture",
    }  # fmt: skip
    assert len(ASL_LETTERS) == 24
