from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mst
from event_data import aedat2_bytes, aedat3_bytes, davis_address, put
from mst.data import EventRepresentation, Sensor, UnreadableEventsError, load_dataset, make_events, read_events
from mst.data.events.cameras import LAYOUTS, Camera, camera_of, camera_with
from mst.experiments import check_dataset
from mst.experiments.dataset_options import DatasetCheckOptions, RecordingOptions

SMALL = make_events([1, 5, 9], [0, 3, 127], [127, 2, 0], [1, 0, 1])
CHIPS = {
    "dvs128": "ch.unizh.ini.jaer.chip.retina.DVS128", "davis240": "eu.seebetter.ini.chips.davis.DAVIS240C",
    "davis346": "eu.seebetter.ini.chips.davis.Davis346blue", "davis640": "eu.seebetter.ini.chips.davis.DAVIS640",
}  # fmt: skip


def addresses(camera: str) -> list[tuple[int, int]]:
    columns = (SMALL[name].astype(np.int64) for name in ("x", "y", "p"))
    packed = LAYOUTS[camera].pack(*columns)  # type: ignore[index]
    return list(zip(packed.tolist(), SMALL["t"].tolist(), strict=True))


def file_of(camera: str, path: Path, chip: str = "") -> Path:
    stated = f"# AEChip: {chip}\r\n" if chip else ""
    put(path, aedat2_bytes(addresses(camera), f"#!AER-DAT2.0\r\n# Data format\r\n{stated}"))
    return path


@pytest.mark.parametrize("camera", CHIPS)
def test_the_camera_is_read_from_the_header_or_named(camera: str, tmp_path: Path) -> None:
    stated = read_events(file_of(camera, tmp_path / "a.aedat", CHIPS[camera]))
    assert np.array_equal(stated.events, SMALL)
    assert stated.sensor == LAYOUTS[camera].sensor  # type: ignore[index]
    bare = file_of(camera, tmp_path / "b.aedat")
    if camera != "davis346":  # whose addresses show it
        with pytest.raises(UnreadableEventsError, match=r"states no camera, .*--events\.camera dvs128\|davis240"):
            read_events(bare)
    assert np.array_equal(read_events(bare, f"aedat2-{camera}").events, SMALL)
    mst.write_events(tmp_path / "c.aedat", SMALL, stated.sensor, f"aedat2-{camera}")
    assert np.array_equal(read_events(tmp_path / "c.aedat").events, SMALL)  # what is written states its camera


def test_a_camera_that_contradicts_the_header_is_refused(tmp_path: Path) -> None:
    path = file_of("dvs128", tmp_path / "a.aedat", CHIPS["dvs128"])
    with pytest.raises(UnreadableEventsError, match="states the camera DVS128, but it is to be read as davis346"):
        read_events(path, "aedat2-davis346")


def test_addresses_that_only_a_davis346_has_show_it(tmp_path: Path) -> None:
    put(tmp_path / "a.aedat", aedat2_bytes([(davis_address(300, 250, 1), 1), (davis_address(1, 2, 0), 2)]))
    recording = read_events(tmp_path / "a.aedat")
    assert (recording.sensor, recording.events["x"].tolist()) == (Sensor(260, 346), [300, 1])


def test_names_of_chips_and_sizes_of_sensors_lead_to_cameras() -> None:
    assert {camera_of(chip.rpartition(".")[2]) for chip in CHIPS.values()} == set(CHIPS)
    assert (camera_of("SBret10"), camera_of("DAVIS128"), camera_of("")) == ("davis240", None, None)
    assert [camera_with((known.sensor.height, known.sensor.width)) for known in LAYOUTS.values()] == list(LAYOUTS)
    assert camera_with((8, 8)) is None


def folder(root: Path, camera: str, chip: str = "") -> str:
    for name in "xy":
        for i in range(2):
            file_of(camera, root / name / f"{i}.aedat", chip)
    return f"events:{root}"


@pytest.mark.parametrize("how", [
    {"camera": "dvs128"}, {"sensor": (128, 128)}, {"camera": "dvs128", "sensor": (128, 128)},
])  # fmt: skip
def test_own_recordings_of_a_named_camera_are_read_as_its(how: dict[str, object], tmp_path: Path) -> None:
    name = folder(tmp_path, "dvs128")
    with pytest.raises(UnreadableEventsError, match=r"not one of its 4 recordings can be read; the first: .*aedat: "):
        load_dataset(name)
    splits = load_dataset(name, events=EventRepresentation(num_bins=1, **how))  # type: ignore[arg-type]
    assert splits.info.sensor == Sensor(128, 128)
    assert np.array_equal(splits.test.raw.read(0)[0].events(), SMALL)  # type: ignore[union-attr]
    again = load_dataset(name, preprocessing=splits.preprocessing)  # as a checkpoint stores it
    assert (again.test[0][0] == splits.test[0][0]).all()


def test_own_recordings_state_their_camera(tmp_path: Path) -> None:
    assert load_dataset(folder(tmp_path / "a", "davis240", CHIPS["davis240"])).info.sensor == Sensor(180, 240)
    for name in "xy":
        for i in range(2):
            put(tmp_path / "b" / name / f"{i}.aedat", aedat3_bytes([(1, 0, [(1, 2, 3, 1)])]))
    assert load_dataset(f"events:{tmp_path / 'b'}").info.sensor == Sensor(128, 128)


def test_the_camera_has_an_effect_or_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "x" / "0.bin", b"\x01\x02\x80\x00\x01")
    put(tmp_path / "y" / "0.bin", b"\x01\x02\x80\x00\x01")
    for name in "xy":
        put(tmp_path / name / "1.bin", b"\x01\x02\x80\x00\x01")
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: EventRepresentation(camera="dvs" "64"), "camera must be one of dvs128, davis240"),  # type: ignore[arg-type]
        (lambda: load_dataset(f"events:{tmp_path}", events=EventRepresentation(camera="dvs128", sensor=(8, 8))),
         "camera dvs128 has no effect: .* holds no .aedat files"),
        (lambda: load_dataset("digits-dvs", events=EventRepresentation(camera="dvs128")),
         "the camera has no effect on digits-dvs"),
    ]  # fmt: skip
    for load, message in refused:
        with pytest.raises(mst.InputError, match=message):
            load()


def test_checks_and_pictures_take_the_camera(tmp_path: Path) -> None:
    camera: Camera = "dvs128"
    name = folder(tmp_path, camera)
    check = check_dataset(DatasetCheckOptions(name, decode=True, camera=camera))
    assert (check.damaged, check.num_train + check.num_test) == ((), 4)
    for recording in (name, str(tmp_path / "x" / "0.aedat")):
        opened = mst.open_recording(RecordingOptions(recording, camera=camera))
        assert (opened.sensor, len(opened.events)) == (Sensor(128, 128), 3)
