from __future__ import annotations

import io
import logging
import multiprocessing
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from image_data import write_folder
from mst.data import load_dataset
from mst.data.images.decoding import Noted, decode
from mst.errors import InputError

GREY16 = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
GREY8 = (GREY16 >> 8).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(bits: int, photometric: int, data: bytes) -> bytes:
    """A grey TIFF of 8 x 8 pixels, as Pillow does not write it."""
    tags = [
        (256, 8),
        (257, 8),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 122),
        (277, 1),
        (278, 8),
        (279, len(data)),
    ]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


def twelve_bits() -> bytes:
    pairs = (GREY16 >> 4).astype(int).reshape(-1, 2).tolist()
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(GREY16), "PNG"), saved(Image.fromarray(GREY16), "TIFF"),
        b"P5 8 8 65535\n" + GREY16.astype(">u2").tobytes(), tiff(16, 1, GREY16.tobytes()),
        tiff(16, 0, (65535 - GREY16).tobytes()), tiff(12, 1, twelve_bits()), saved(Image.fromarray(GREY8), "PNG"),
    ],
    ids=["png", "tiff", "pgm", "tiff-made", "white-is-zero", "twelve-bits", "eight-bits"],
)  # fmt: skip
@pytest.mark.parametrize("in_chans", [1, 3])
def test_pixels_of_more_than_8_bits_are_scaled(content: bytes, in_chans: int) -> None:
    pixels = np.asarray(decode(Image.open(io.BytesIO(content)), in_chans)).reshape(8, 8, in_chans)
    assert (pixels == GREY8[..., None]).all()


@pytest.mark.parametrize(("kind", "message"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit numbers")])
def test_pixels_of_unknown_range_are_refused_by_name(kind: type, message: str, tmp_path: Path) -> None:
    content = saved(Image.fromarray(GREY16.astype(kind)), "TIFF")
    with pytest.raises(InputError, match=f"its pixels are {message}, whose range is not stated"):
        decode(Image.open(io.BytesIO(content)), 3)
    write_folder(tmp_path, {f"{split}/{c}/1.tif": content for split in ("train", "val") for c in "ab"})
    with pytest.raises(InputError, match=rf"a.1\.tif: .*{message}.*--on-bad-image skip"):
        load_dataset(f"folder:{tmp_path}", img_size=8).train[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_that_a_camera_has_marked_as_turned_are_turned_upright(kind: str, orientation: int) -> None:
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :16] = 255  # white above on the left
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
              6: np.rot90(upright), 7: np.rot90(upright, 2).T, 8: np.rot90(upright, -1)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = np.asarray(decode(Image.open(io.BytesIO(saved(Image.fromarray(stored), kind, exif=exif))), 1))
    assert picture.shape == upright.shape
    assert picture[:7, :15].min() > 200
    assert picture[9:].max() < 50
    assert picture[:, 17:].max() < 50


def test_a_damaged_note_of_the_camera_leaves_the_picture_as_it_is() -> None:
    content = saved(Image.fromarray(GREY8), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(Image.open(io.BytesIO(content)), 1).size == (8, 8)


def _frames(kind: str) -> bytes:
    frames = [Image.fromarray(np.roll(GREY8, i)) for i in range(3)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def _transparent(mode: str) -> bytes:
    pixels = np.stack([GREY8, GREY8, GREY8, np.full_like(GREY8, 255)], axis=-1)
    pixels[0, 0, 3] = 0
    return saved(Image.fromarray(pixels).convert(mode), "PNG")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_frames("GIF"), "it has 3 frames, of which the first is read"),
        (_frames("TIFF"), "it has 3 frames"), (_frames("PNG"), "it has 3 frames"),
        (_transparent("RGBA"), "some of its pixels are transparent; the colours stored for them are read"),
        (_transparent("LA"), "some of its pixels are transparent"),
        (saved(Image.fromarray(GREY8).convert("P"), "PNG", transparency=0), "some of its pixels are transparent"),
        (saved(Image.fromarray(GREY16 >> 5), "PNG"), "its 16-bit pixels reach 2047 of 65,535"),
    ],
    ids=["gif", "tiff", "apng", "rgba", "grey-alpha", "palette", "dark"],
)  # fmt: skip
def test_what_is_not_read_of_a_picture_is_noted_once(
    content: bytes, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path, {f"{split}/{c}/1.png": content for split in ("train", "val") for c in "ab"})
    data = load_dataset(f"folder:{tmp_path}", img_size=8)
    with caplog.at_level(logging.INFO, "mst.notes"):
        pictures = [np.asarray(data.train.raw.read(i)[0]) for i in range(2)]
    assert [said in record.message and "a/1.png" in record.message for record in caplog.records] == [True]
    if "16-bit" not in said:
        assert (pictures[0][..., 0] == GREY8).all()


def test_a_remark_noted_by_a_worker_is_noted_for_all() -> None:
    noted = Noted()
    worker = multiprocessing.get_context("fork").Process(target=noted.add, args=("alpha",))
    worker.start()
    worker.join()
    assert [kind in noted for kind in Noted.KINDS] == [False, True, False]
    assert "alpha" not in pickle.loads(pickle.dumps(noted))  # for a spawned process, which shares nothing


def test_opaque_and_single_pictures_have_no_remark(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = {
        "1.png": saved(Image.fromarray(GREY8).convert("RGBA"), "PNG"), "2.gif": saved(Image.fromarray(GREY8), "GIF"),
        "3.png": saved(Image.fromarray(GREY16), "PNG"), "4.jpg": saved(Image.fromarray(GREY8).convert("CMYK"), "JPEG"),
        "5.png": saved(Image.fromarray(GREY8 > 99), "PNG"), "6.png": saved(Image.new("I;16", (8, 8)), "PNG"),
    }  # fmt: skip
    write_folder(
        tmp_path, {f"{s}/{c}/{n}": data for s in ("train", "val") for c in "ab" for n, data in contents.items()}
    )
    data = load_dataset(f"folder:{tmp_path}", img_size=8)
    with caplog.at_level(logging.INFO, "mst.notes"):
        shapes = {data.train[i][0].shape for i in range(len(data.train))}
    assert shapes == {(3, 8, 8)}
    assert not caplog.records
