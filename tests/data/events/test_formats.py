"""Every file format of recordings: files written byte by byte are read, damaged ones are reported by name."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from event_data import (
    SMALL,
    aedat2_bytes,
    aedat3_bytes,
    aedat4_bytes,
    bin_bytes,
    dat_bytes,
    davis_address,
    dvs128_address,
    mat_file,
    random_events,
    small_events,
)
from mst.data import EVENT, Events, Sensor, UnreadableEventsError, make_events, read_events, write_events
from mst.data.events.formats import EVENT_FORMATS
from mst.data.events.stream import sound_events

pytestmark = pytest.mark.slow

SENSOR = Sensor(100, 120)
DAVIS, CIFAR = "aedat2-davis346", "aedat2-cifar10-dvs"
DAVIS346_HEADER = "#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346blue\r\n"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# -------------------------------------------------------------------------------- files as others write them


@pytest.mark.parametrize("kind", [0, 12])
def test_dat_is_read(kind: int, tmp_path: Path) -> None:
    recording = read_events(written(tmp_path / "a.dat", dat_bytes(SMALL, kind=kind)))
    assert np.array_equal(recording.events, small_events())
    assert recording.sensor is None
    assert recording.offset_of is not None
    assert recording.offset_of(2) == len("% A recording\n% Version 2\n") + 2 + 16


def test_dat_states_its_sensor(tmp_path: Path) -> None:
    content = dat_bytes(SMALL, "% Version 2\n% Height 240\n% Width 304\n")
    assert read_events(written(tmp_path / "a.dat", content)).sensor == Sensor(240, 304)


def test_bin_is_read(tmp_path: Path) -> None:
    assert np.array_equal(read_events(written(tmp_path / "a.bin", bin_bytes(SMALL))).events, small_events())


def test_bin_adds_a_run_of_the_clock_where_it_ran_over(tmp_path: Path) -> None:
    rows = [(5, 1, 2, 1), (0, 0, 240, 0), (3, 4, 5, 0), (0, 0, 240, 0), (9, 6, 7, 1)]
    recording = read_events(written(tmp_path / "a.bin", bin_bytes(rows)))
    assert recording.events["t"].tolist() == [5, 3 + 2**13, 9 + 2 * 2**13]
    assert recording.events["x"].tolist() == [1, 4, 6]
    assert recording.num_left_out == 2
    assert recording.offset_of is not None
    assert recording.offset_of(2) == 20


@pytest.mark.parametrize(("name", "address"), [(DAVIS, davis_address), (CIFAR, dvs128_address)])
def test_aedat2_is_read(name: str, address: Callable[[int, int, int], int], tmp_path: Path) -> None:
    content = aedat2_bytes([(address(x, y, p), t) for t, x, y, p in SMALL])
    recording = read_events(written(tmp_path / "a.aedat", content), name)
    assert np.array_equal(recording.events, small_events())


def test_aedat2_leaves_out_frames_and_triggers_of_a_davis(tmp_path: Path) -> None:
    pixel = davis_address(3, 2, 1)
    content = aedat2_bytes([(pixel, 0), (1 << 31 | 77, 1), (pixel | 1 << 10, 2), (pixel, 3)])
    recording = read_events(written(tmp_path / "a.aedat", content), DAVIS)
    assert recording.events["t"].tolist() == [0, 3]
    assert recording.num_left_out == 2


def test_aedat2_time_continues_when_its_32_bits_wrap(tmp_path: Path) -> None:
    pixel = davis_address(3, 2, 1)
    content = aedat2_bytes([(pixel, 2**32 - 2), (pixel, 3), (pixel, 1)])
    recording = read_events(written(tmp_path / "a.aedat", content), DAVIS)
    assert recording.events["t"].tolist() == [2**32 - 2, 2**32 + 3, 2**32 + 1]


def test_aedat2_whose_first_address_begins_with_the_header_sign(tmp_path: Path) -> None:
    address = 0x23 << 24 | 0x41 << 16 | 0x0A << 8  # "#A\n": like a short header line, except for the next byte
    content = aedat2_bytes([(address, 7), (address, 9)], "#!AER-DAT2.0\r\n")
    recording = read_events(written(tmp_path / "a.aedat", content), DAVIS)
    assert recording.events["t"].tolist() == [7, 9]


def test_aedat3_is_read_across_packets_and_overflows(tmp_path: Path) -> None:
    content = aedat3_bytes([(1, 0, SMALL[:2]), (0, 0, [(9, 9, 9, 0)]), (1, 0, SMALL[2:]), (1, 1, [(5, 1, 1, 0)])])
    recording = read_events(written(tmp_path / "a.aedat", content))
    assert np.array_equal(recording.events[:-1], small_events())
    assert recording.events["t"][-1] == 2**31 + 5
    assert recording.num_left_out == 1


def test_aedat4_is_read(tmp_path: Path) -> None:
    recording = read_events(written(tmp_path / "a.aedat4", aedat4_bytes(SMALL, 180, 240)))
    assert np.array_equal(recording.events, small_events())
    assert recording.sensor == Sensor(180, 240)


def test_mat_is_read(tmp_path: Path) -> None:
    mat_file(tmp_path / "a.mat", SMALL)
    assert np.array_equal(read_events(tmp_path / "a.mat", "mat-asl-dvs").events, small_events())
    assert read_events(tmp_path / "a.mat").events["y"].tolist() == [179 - y for _, _, y, _ in SMALL]


def test_npy_of_gestures_is_read_in_milliseconds(tmp_path: Path) -> None:
    np.save(tmp_path / "3.npy", np.array([[3, 2, 1, 0], [0, 0, 0, 4], [5, 7, 1, 9]]))
    events = read_events(tmp_path / "3.npy", "npy").events
    assert events["t"].tolist() == [0, 4000, 9000]
    assert events["y"].tolist() == [2, 0, 7]


def test_npz_with_polarities_of_either_sign(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", t=[0, 1], x=[2, 3], y=[4, 5], p=[-1, 1])
    assert read_events(tmp_path / "a.npz").events["p"].tolist() == [0, 1]


def test_readers_agree_with_tonic(tmp_path: Path) -> None:
    io = pytest.importorskip("tonic.io")
    path = written(tmp_path / "a.bin", bin_bytes(SMALL))
    theirs = io.read_mnist_file(str(path), dtype=np.dtype([("x", int), ("y", int), ("t", int), ("p", int)]))
    ours = read_events(path).events
    assert all(np.array_equal(theirs[name], ours[name]) for name in "xytp")
    path = written(tmp_path / "a.aedat", aedat2_bytes([(davis_address(x, y, p), t) for t, x, y, p in SMALL]))
    _, _, theirs = io.read_davis_346(str(path))
    ours = read_events(path, DAVIS).events
    assert all(np.array_equal(theirs[name], ours[name]) for name in "xytp")


# ------------------------------------------------------------------------------------------- round trips

LIMITS = {  # (largest time, height, width, unit of time)
    "dat": (2**32 - 1, 2**14, 2**14, 1), "npz": (2**52, 2**16, 2**16, 1), "bin": (2**23 - 1, 240, 256, 1),
    "aedat3": (2**40, 2**15, 2**15, 1), DAVIS: (2**32 - 1, 260, 346, 1), CIFAR: (2**32 - 1, 128, 128, 1),
    "mat": (2**52, 2**16, 2**16, 1), "mat-asl-dvs": (2**52, 180, 240, 1), "npy": (2**40, 2**16, 2**16, 1000),
}  # fmt: skip


@given(data=st.data())
@pytest.mark.parametrize("name", LIMITS)
def test_events_come_back_bit_for_bit(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    latest, height, width, unit = LIMITS[name]
    number = data.draw(st.integers(1, 40))
    times = sorted(data.draw(st.lists(st.integers(0, latest // unit), min_size=number, max_size=number)))
    if name in (DAVIS, CIFAR):  # a step of 2³¹ or more would mean a wrap
        times = [times[0] % 2**31 + index for index in range(number)]
    columns = [data.draw(st.lists(st.integers(0, top), min_size=number, max_size=number))
               for top in (width - 1, height - 1, 1)]  # fmt: skip
    events = make_events([unit * t for t in times], *columns)
    path = tmp_path_factory.mktemp("round") / f"a{EVENT_FORMATS[name].suffixes[0]}"
    write_events(path, events, Sensor(height, width), name)
    back = read_events(path, name)
    assert back.events.dtype == EVENT
    assert back.events.tobytes() == events.tobytes()
    if name in ("dat", "npz"):
        assert back.sensor == Sensor(height, width)


@pytest.mark.parametrize(
    ("name", "events", "message"),
    [
        ("dat", make_events([2**32], [0], [0], [0]), "holds times from 0 to 4,294,967,295"),
        ("dat", make_events([0], [2**14], [0], [0]), "coordinates up to 16383"),
        ("bin", make_events([0], [0], [240], [0]), "row 240"),
        ("bin", make_events([2**23], [0], [0], [0]), "holds times"),
        (DAVIS, make_events([0], [346], [0], [0]), "outside the sensor"),
        ("aedat3", make_events([0], [2**15], [0], [0]), "coordinates up to 32,767"),
        ("mat-asl-dvs", make_events([0], [0], [180], [0]), "outside the sensor"),
        ("mat", make_events([2**53], [0], [0], [0]), "times must be within"),
        ("npz", make_events([2**53], [0], [0], [0]), "times must be within"),
        ("aedat3", make_events([2**62], [0], [0], [0]), "times from 0 to"),
        (DAVIS, make_events([0, 2**31], [0, 0], [0, 0], [0, 0]), "overflow of the clock"),
        ("npy", make_events([1], [0], [0], [0]), "whole milliseconds"),
        ("aedat4", small_events(), "can be written as dat"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(name: str, events: Events, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_events(tmp_path / "a.x", events, SENSOR, name)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- damaged files


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('run')",)


def _npz(path: Path, **arrays: object) -> None:
    np.savez(path, **{"t": [0], "x": [0], "y": [0], "p": [0], **arrays})  # type: ignore[arg-type]


def _pickled_npz(path: Path) -> None:
    np.savez(path, t=np.array([_Evil()], dtype=object), x=[0], y=[0], p=[0])


def _huge_aedat3(path: Path) -> None:
    path.write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 2**30, 2**30, 2**30))


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("t", "x", "y", "p"):
            archive.writestr(f"{name}.npy", b"0")
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")  # the directory entry of the first member
    content[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(bytes(content))


def _cut_mat(path: Path) -> None:
    mat_file(path, SMALL)
    path.write_bytes(path.read_bytes()[:-9])


def _wrong_type(path: Path) -> None:
    """The type of a matrix's numbers: a reader that trusts this byte ends the process."""
    mat_file(path, SMALL)
    content = bytearray(path.read_bytes())
    content[176] = 0
    path.write_bytes(bytes(content))


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty dat": ("a.dat", lambda p: p.write_bytes(b""), "the file is empty"),
    "dat without an event": ("a.dat", lambda p: p.write_bytes(dat_bytes([])), "byte 28: there are no events after"),
    "dat cut in an event": (
        "a.dat", lambda p: p.write_bytes(dat_bytes(SMALL)[:-3]), r"byte 60 \(event 4\): .* 3 of whose 8 bytes",
    ),
    "dat of another kind": ("a.dat", lambda p: p.write_bytes(b"RIFF1234"), "byte 0: not a .dat file .* 52494646"),
    "dat of version 1": ("a.dat", lambda p: p.write_bytes(dat_bytes(SMALL, "% Version 1\n")), "version 1;"),
    "dat with triggers": ("a.dat", lambda p: p.write_bytes(dat_bytes(SMALL, kind=14)), "events of type 14"),
    "dat without an end": ("a.dat", lambda p: p.write_bytes(b"% Version 2"), "byte 0: the header does not end"),
    "dat with stray bits": (
        "a.dat", lambda p: p.write_bytes(dat_bytes([(0, 1, 1, 5)])), r"byte 28 \(event 0\): bits 29 to 31",
    ),
    "empty bin": ("a.bin", lambda p: p.write_bytes(b""), "the file is empty"),
    "bin cut in an event": (
        "a.bin", lambda p: p.write_bytes(bin_bytes(SMALL)[:-1]), r"byte 20 \(event 4\): .* 1 of whose 5",
    ),
    "empty aedat": ("a.aedat", lambda p: p.write_bytes(b""), "the file is empty"),
    "aedat of another kind": ("a.aedat", lambda p: p.write_bytes(b"no camera"), "byte 0: not an AEDAT file"),
    "aedat of version 1": ("a.aedat", lambda p: p.write_bytes(b"#!AER-DAT1.0\r\n123456"), "states AEDAT 1.0"),
    "aedat 2 cut in an event": (
        "a.aedat", lambda p: p.write_bytes(aedat2_bytes([(davis_address(1, 1, 1), 0)] * 2)[:-2]), "2 of whose 8 bytes",
    ),
    "aedat 2 with an address of no pixel": (
        "a.aedat", lambda p: p.write_bytes(aedat2_bytes([(0, 0), (511 << 22, 1)], DAVIS346_HEADER)),
        r"\(event 1\): .* is not a pixel",
    ),
    "aedat 2 of an unknown camera": (
        "a.aedat", lambda p: p.write_bytes(aedat2_bytes([(0, 0)], "#!AER-DAT2.0\r\n# AEChip: x.Cochlea\r\n")),
        "states the camera Cochlea, which is not known, .*; name it with --events.camera dvs128",
    ),
    "aedat 3 cut in a packet": (
        "a.aedat", lambda p: p.write_bytes(aedat3_bytes([(1, 0, SMALL)])[:-1]), "ends inside a packet of 5 events",
    ),
    "aedat 3 cut in a header": (
        "a.aedat", lambda p: p.write_bytes(aedat3_bytes([(1, 0, SMALL)]) + b"123"), "inside the header of a packet",
    ),
    "aedat 3 that promises gigabytes": ("a.aedat", _huge_aedat3, "ends inside a packet of 1,073,741,824 events"),
    "aedat 3 without light": ("a.aedat", lambda p: p.write_bytes(aedat3_bytes([(2, 0, SMALL)])), "no events of light"),
    "empty aedat 4": ("a.aedat4", lambda p: p.write_bytes(b""), "the file is empty"),
    "damaged aedat 4": (
        "a.aedat4", lambda p: p.write_bytes(aedat4_bytes(SMALL, 180, 240)[:200]), "cannot be decoded as AEDAT 4",
    ),
    "empty mat": ("a.mat", lambda p: p.write_bytes(b""), "the file is empty"),
    "mat of another kind": ("a.mat", lambda p: p.write_bytes(b"x" * 300), "cannot be read as a .mat file"),
    "mat without polarities": (
        "a.mat", lambda p: scipy.io.savemat(p, {"ts": [0], "x": [0], "y": [0]}), "no array p or pol .* ts, x, y",
    ),
    "empty npz": ("a.npz", lambda p: p.write_bytes(b""), "the file is empty"),
    "npz that is none": ("a.npz", lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "cannot be read as a .npz file"),
    "npz with code in it": ("a.npz", _pickled_npz, "cannot be read as a .npz file .*allow_pickle"),
    "npz of unequal arrays": ("a.npz", lambda p: _npz(p, x=[1, 2]), "its arrays differ in length"),
    "npz without events": ("a.npz", lambda p: _npz(p, t=[], x=[], y=[], p=[]), "there are no events"),
    "npz of text": ("a.npz", lambda p: _npz(p, x=["one"]), "array x holds .*, not numbers"),
    "npz of fractions": ("a.npz", lambda p: _npz(p, x=[1.5]), "array x holds numbers that are not whole"),
    "npz with polarity 2": ("a.npz", lambda p: _npz(p, p=[2]), r"\(event 0\): p 2 is out of range"),
    "npz with a column below 0": ("a.npz", lambda p: _npz(p, x=[-1]), "x -1 is out of range"),
    "npz with a sensor of nothing": ("a.npz", lambda p: _npz(p, sensor_size=[0, 5]), "sensor_size .* is no"),
    "pickle called npz": ("a.npz", lambda p: p.write_bytes(pickle.dumps(_Evil())), "cannot be read as a .npz file"),
    "npy of another shape": (
        "a.npy", lambda p: np.save(p, np.zeros((3, 5))), r"numbers \[N, 4\], it holds float64 \(3, 5\)",
    ),
    "npz with a time beyond all": ("a.npz", lambda p: _npz(p, t=[1e300]), "array t holds numbers from 1e[+]300"),
    "npz that promises gigabytes": ("a.npz", _bomb, "its arrays take [0-9,]+ bytes"),
    "dat of a sensor of nothing": (
        "a.dat", lambda p: p.write_bytes(dat_bytes(SMALL, "% Version 2\n% Height 0\n% Width 0\n")), "header is damaged",
    ),
    "aedat 3 with an overflow below 0": (
        "a.aedat", lambda p: p.write_bytes(aedat3_bytes([(1, 2**32 - 5, SMALL)])), "is not valid",
    ),
    "aedat 4 whose description is not text": (
        "a.aedat4", lambda p: p.write_bytes(aedat4_bytes(SMALL, 9, 9).replace(b"outInfo", b"out\xefnfo", 1)),
        "cannot be decoded as AEDAT 4 .its description",
    ),
    "mat cut in an element": ("a.mat", _cut_mat, "ends inside an element of"),
    "mat of version 7.3": (
        "a.mat", lambda p: p.write_bytes(b"MATLAB 7.3 MAT-file".ljust(126) + b"IM" + b"x" * 90), "version 7.3; save it",
    ),
    "mat with a wrong type": ("a.mat", _wrong_type, "cannot be read as a .mat file"),
    "npy of text": ("a.npy", lambda p: p.write_bytes(b"nothing"), "cannot be read as a .npy file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_damaged_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    name, write, message = BAD[case]
    path = tmp_path / name
    write(path)
    with pytest.raises(UnreadableEventsError, match=message) as refused:
        read_events(path, "npy" if path.suffix == ".npy" else None)
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize(("sensor", "rows", "message"), [
    (Sensor(7, 120), SMALL, r"byte 44 \(event 2\): x 5, y 7 is outside the sensor of 7 x 120 px"),
    (SENSOR, [SMALL[3], SMALL[0]], r"byte 36 \(event 1\): time runs backwards, from 1,000 to 0 µs"),
])  # fmt: skip
def test_bad_event_is_refused_with_its_offset(
    sensor: Sensor, rows: list[tuple[int, int, int, int]], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.dat", dat_bytes(rows))
    with pytest.raises(UnreadableEventsError, match=message):
        sound_events(read_events(path), sensor, path)


def test_bad_events_are_left_out_and_counted_on_request(tmp_path: Path) -> None:
    rows = [(5, 1, 1, 0), (9, 200, 1, 1), (9, 2, 1, 1), (7, 3, 1, 1), (8, 4, 1, 1), (9, 5, 1, 0)]
    path = written(tmp_path / "a.dat", dat_bytes(rows))
    events, dropped = sound_events(read_events(path), SENSOR, path, drop_bad=True)
    assert events["x"].tolist() == [1, 2, 5]
    assert dropped == 3


def test_recording_of_bad_events_only_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dat", dat_bytes([(5, 300, 1, 0)]))
    with pytest.raises(UnreadableEventsError, match="there are no events in it"):
        sound_events(read_events(path), SENSOR, path, drop_bad=True)


def test_compressed_mat_is_read(tmp_path: Path) -> None:
    columns = {"ts": [[1.0], [2.0]], "x": [[3], [4]], "y": [[5], [6]], "pol": [[0], [1]], "note": "text", "z": [1j]}
    scipy.io.savemat(tmp_path / "a.mat", columns, do_compression=True)
    events = read_events(tmp_path / "a.mat").events
    assert events.tolist() == [(1, 3, 5, 0), (2, 4, 6, 1)]


def test_few_sound_events_among_bad_ones_are_refused(tmp_path: Path) -> None:
    rows = [(0, 1, 1, 0), (99, 1, 1, 0), *[(t, 1, 1, 1) for t in range(1, 9)]]
    path = written(tmp_path / "a.dat", dat_bytes(rows))
    with pytest.raises(UnreadableEventsError, match="only 2 of its 10 events are valid"):
        sound_events(read_events(path), SENSOR, path, drop_bad=True)


def test_times_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for times, message in (([-5, 0], r"its time is -5 µs, before 0"), ([0, 2**41], "it claims to last 25 days")):
        np.savez(tmp_path / "a.npz", t=times, x=[0, 0], y=[0, 0], p=[0, 0])
        with pytest.raises(UnreadableEventsError, match=message):
            sound_events(read_events(tmp_path / "a.npz"), SENSOR, tmp_path / "a.npz")


def test_error_travels_between_processes() -> None:
    error = UnreadableEventsError("a.dat", "is bad", 5, 1)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UnreadableEventsError
    assert str(again) == str(error)


@pytest.mark.parametrize("header", [
    "#!AER-DAT2.0\r\n# by Jos\u00e9\r\n", "#!AER-DAT2.0\r\n# one\n# two\r\r\n# three\x0c\r\n", "#!AER-DAT2.0\n# unix\n",
])  # fmt: skip
def test_aedat2_headers_of_all_writers_are_skipped(header: str, tmp_path: Path) -> None:
    content = header.encode() + aedat2_bytes([(davis_address(3, 2, 1), 7)], "")
    assert read_events(written(tmp_path / "a.aedat", content), DAVIS).events["t"].tolist() == [7]


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind of file is not known; recordings end in .aedat, .aedat4, .bin"):
        read_events(tmp_path / "a.xyz")


@given(data=st.data())
@pytest.mark.parametrize("name", ["dat", "npz", "bin", "aedat3", DAVIS, "mat", "mat-asl-dvs", "npy"])
def test_mutated_file_gives_events_or_one_error(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("mutated") / f"a{EVENT_FORMATS[name].suffixes[0]}"
    write_events(path, random_events(20, 100, 100) if name != "npy" else make_events([0], [1], [1], [1]), SENSOR, name)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        events = read_events(path, name).events
    except UnreadableEventsError:
        return
    assert events.dtype == EVENT
    assert events["p"].max(initial=0) <= 1


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.npz", b"older")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(OSError, match="No space left"):
        write_events(path, small_events(), SENSOR, "npz")
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]
