"""Recordings for the tests, written byte by byte as the formats specify, without the project's own writers."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import scipy.io

from mst.data import Events, Sensor, make_events

SMALL = [(0, 3, 2, 1), (40, 0, 0, 0), (40, 5, 7, 1), (1_000, 9, 4, 0), (131_071, 3, 2, 1)]
"""(t, x, y, p)."""


def small_events() -> Events:
    """The events of `SMALL`."""
    return make_events(*zip(*SMALL, strict=True))


def random_events(number: int, height: int, width: int, duration_us: int = 100_000, seed: int = 0) -> Events:
    """Events at random pixels, in order of time."""
    draw = np.random.default_rng(seed)
    return make_events(
        np.sort(draw.integers(0, duration_us, number)), draw.integers(0, width, number),
        draw.integers(0, height, number), draw.integers(0, 2, number),
    )  # fmt: skip


def dat_bytes(
    rows: list[tuple[int, int, int, int]], header: str = "% A recording\n% Version 2\n", kind: int = 0
) -> bytes:
    """Prophesee's .dat."""
    body = b"".join(struct.pack("<II", t, x | y << 14 | p << 28) for t, x, y, p in rows)
    return header.encode() + bytes([kind, 8]) + body


def bin_bytes(rows: list[tuple[int, int, int, int]]) -> bytes:
    """N-MNIST's .bin: 40 bits per event."""
    return b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for t, x, y, p in rows)


def aedat2_bytes(addresses: list[tuple[int, int]], header: str = "#!AER-DAT2.0\r\n# made by a test\r\n") -> bytes:
    """AEDAT 2.0 of (address, time)."""
    return header.encode() + b"".join(struct.pack(">II", address, t) for address, t in addresses)


def davis_address(x: int, y: int, p: int) -> int:
    """A DAVIS346's address of a pixel counted from the top left."""
    return (259 - y) << 22 | (345 - x) << 12 | p << 11


def dvs128_address(x: int, y: int, p: int) -> int:
    """CIFAR10-DVS's address of a pixel of the upright picture."""
    return (127 - x) << 8 | (127 - y) << 1 | (1 - p)


def aedat3_bytes(packets: list[tuple[int, int, list[tuple[int, int, int, int]]]]) -> bytes:
    """AEDAT 3.1 of packets (event type, overflow count, rows)."""
    parts = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"]
    for kind, overflow, rows in packets:
        parts.append(struct.pack("<HHIIIIII", kind, 1, 8, 4, overflow, len(rows), len(rows), len(rows)))
        parts += [struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t) for t, x, y, p in rows]
    return b"".join(parts)


def aedat4_bytes(rows: list[tuple[int, int, int, int]], height: int, width: int) -> bytes:
    """AEDAT 4, uncompressed: flatbuffers of a header and of one packet of events."""
    description = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/"><node name="0" '
        'path="/mainloop/Recorder/outInfo/0/"><attr key="typeIdentifier" type="string">EVTS</attr><node name="info" '
        'path="/mainloop/Recorder/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr></node>'
        "</node></node></dv>"
    ).encode()
    # root offset, identifier, vtable (three fields), padding, table: vtable's distance, info, compression, position
    header = struct.pack("<I4sHHHHHH", 28, b"IOHE", 10, 20, 8, 12, 4, 0).ljust(28, b"\0")
    header += struct.pack("<iIiq", 20, 16, 0, -1) + struct.pack("<I", len(description)) + description + b"\0"
    # root offset, identifier, vtable (one field), padding, table: vtable's distance, vector's distance
    packet = struct.pack("<I4sHHH", 16, b"EVTS", 6, 8, 4).ljust(16, b"\0")
    packet += struct.pack("<iI", 8, 4) + struct.pack("<I", len(rows))
    packet = packet.ljust(28, b"\0") + b"".join(struct.pack("<qhh?3x", t, x, y, bool(p)) for t, x, y, p in rows)
    return (
        b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header
        + struct.pack("<ii", 0, len(packet) + 4) + struct.pack("<I", len(packet)) + packet
    )  # fmt: skip


def mat_file(path: Path, rows: list[tuple[int, int, int, int]]) -> None:
    """ASL-DVS's .mat: columns, rows of the picture counted from below."""
    t, x, y, p = (np.array(column)[:, None] for column in zip(*rows, strict=True))
    scipy.io.savemat(path, {"ts": t, "x": x, "y": 179 - y, "pol": p})


# ------------------------------------------------------------------- data sets in their published layouts


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def numbered(number: int) -> list[tuple[int, int, int, int]]:
    """A recording whose number is the row of its first event."""
    return [(0, 1, number, 1), *[(t + 1, x, y, p) for t, x, y, p in SMALL]]


def cifar10_dvs(root: Path) -> None:
    for name in ("airplane", "frog"):
        for i in range(10):
            addresses = [(dvs128_address(x, y, p), t) for t, x, y, p in numbered(i)]
            put(root / "CIFAR10DVS" / name / f"cifar10_{name}_{i}.aedat", aedat2_bytes(addresses))


def cifar10_dvs_of_tonic(root: Path) -> None:
    for name in ("airplane", "frog"):
        for i in range(10):
            put(root / "CIFAR10DVS" / name / f"{i}.aedat4", aedat4_bytes(numbered(i), 128, 128))


def n_caltech101(root: Path) -> None:
    for name in ("accordion", "wrench"):
        for i in range(10):
            put(root / "Caltech101" / name / f"image_{i:04d}.bin", bin_bytes(numbered(i)))


def n_cars(root: Path) -> None:
    for part, count in (("train", 18), ("test", 2)):
        for name in ("cars", "background"):
            for i in range(count // 2):
                put(root / f"n-cars_{part}" / name / f"obj_{i:06d}_td.dat", dat_bytes(numbered(i)))


def asl_dvs(root: Path) -> None:
    for name in ("a", "y"):
        (root / "ASLDVS" / "part" / name).mkdir(parents=True)
        for i in range(10):
            mat_file(root / "ASLDVS" / "part" / name / f"{name}_{i:04d}.mat", numbered(i))


def action_recognition(root: Path) -> None:
    for name in ("arm crossing", "waving"):
        for i in range(10):
            addresses = [(davis_address(x, y, p), t) for t, x, y, p in numbered(i)]
            put(root / "action-recognition" / name / f"{i}.aedat", aedat2_bytes(addresses))


LAYOUTS = {
    "cifar10-dvs": (cifar10_dvs, Sensor(128, 128)), "cifar10-dvs (tonic)": (cifar10_dvs_of_tonic, Sensor(128, 128)),
    "n-caltech101": (n_caltech101, Sensor(180, 240)), "n-cars": (n_cars, Sensor(100, 120)),
    "asl-dvs": (asl_dvs, Sensor(180, 240)), "action-recognition": (action_recognition, Sensor(260, 346)),
}  # fmt: skip
