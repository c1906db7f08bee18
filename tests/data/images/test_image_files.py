from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import datasets as hugging_face
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from image_data import encoded, image_files, write_folder, write_tar, write_zip
from mst.data import (
    AugmentConfig,
    DataSplits,
    Preprocessing,
    in_order,
    load_dataset,
)
from mst.data.images.transform import ImageTransform

FILES = image_files(classes=3, train=4, test=2)
CLASSES = ("n00001000", "n00001001", "n00001002")


def pixels(data: DataSplits) -> list[tuple[bytes, int]]:
    return [(np.asarray(image).tobytes(), label) for image, label in (data.test.raw.read(i) for i in range(6))]


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_imagenet_every_layout_holds_the_same_images(
    tmp_path: Path, write: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    data = load_dataset("imagenet", write(tmp_path / "x", FILES), img_size=16)
    assert (len(data.train), len(data.test), data.info.class_names) == (12, 6, CLASSES)
    assert [label for _, label in pixels(data)] == [0, 0, 1, 1, 2, 2]
    assert pixels(data) == pixels(load_dataset("imagenet", write_folder(tmp_path / "y", FILES), img_size=16))
    assert data.train[0][0].shape == (3, 16, 16)
    held = load_dataset("imagenet", tmp_path / "x", img_size=16, cache_images=True)
    assert pixels(held) == pixels(data)


def test_tar_files_can_be_read_by_forked_workers_after_the_parent_has_read_one(tmp_path: Path) -> None:
    data = load_dataset("imagenet", write_tar(tmp_path, FILES), img_size=16)
    expected = torch.stack([data.test[i][0] for i in range(6)])
    loader: DataLoader[object] = DataLoader(data.test, 1, num_workers=2)
    got = torch.cat([images for images, _ in loader])  # type: ignore[misc]
    assert torch.equal(got, expected)


def test_hugging_face_data_set_is_read(tmp_path: Path) -> None:
    features = hugging_face.Features(
        {"image": hugging_face.Image(), "label": hugging_face.ClassLabel(names=["cat", "dog"])}
    )
    for split, count in (("train", 6), ("validation", 4)):
        rows = {
            "image": [{"bytes": encoded(i % 2, i), "path": None} for i in range(count)],
            "label": [i % 2 for i in range(count)],
        }
        table = hugging_face.Dataset.from_dict(rows, features=features)
        (tmp_path / "data").mkdir(exist_ok=True)
        table.to_parquet(str(tmp_path / "data" / f"{split}-00000-of-00001.parquet"))
    data = load_dataset(f"hf:{tmp_path}", img_size=16)
    assert (len(data.train), len(data.test), data.info.class_names) == (6, 4, ("cat", "dog"))
    assert data.train[1][1] == 1
    assert len(data.fingerprint) == 64
    with pytest.raises(ValueError, match="hf:.*nowhere: the data set cannot be opened"):
        load_dataset(f"hf:{tmp_path}/nowhere", img_size=16)


def test_own_folder_without_splits_is_split_once_and_for_all(tmp_path: Path) -> None:
    files = {name.removeprefix("train/"): content for name, content in image_files(3, 10, 0).items()}
    write_folder(tmp_path, files)
    one, two = load_dataset(f"folder:{tmp_path}", img_size=16), load_dataset(f"folder:{tmp_path}", img_size=16)
    assert (len(one.train), len(one.test)) == (24, 6)
    assert [label for _, label in pixels(one)] == [0, 0, 1, 1, 2, 2]
    assert pixels(one) == pixels(two)
    assert one.fingerprint == two.fingerprint
    train = {np.asarray(one.train.raw.read(i)[0]).tobytes() for i in range(24)}
    assert not train & {image for image, _ in pixels(one)}
    with pytest.raises(ValueError, match="--data-path has no effect on folder:.*, which names its place"):
        load_dataset(f"folder:{tmp_path}", tmp_path)


def test_validation_classes_that_are_a_subset_keep_their_labels(tmp_path: Path) -> None:
    write_folder(tmp_path, {n: c for n, c in FILES.items() if not n.startswith(f"val/{CLASSES[0]}")})
    data = load_dataset("imagenet", tmp_path, img_size=16)
    assert [data.test.raw.read(i)[1] for i in range(4)] == [1, 1, 2, 2]


def test_missing_or_misplaced_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"imagenet is not in .*hf:ILSVRC/imagenet-1k"):
        load_dataset("imagenet", tmp_path, img_size=16)
    with pytest.raises(FileNotFoundError, match="no such folder of images"):
        load_dataset(f"folder:{tmp_path}/none", img_size=16)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: no images are found .*; it needs one folder per class"):
        load_dataset(f"folder:{tmp_path}/empty", img_size=16)
    flat = {f"val/{Path(name).name}" if name.startswith("val") else name: c for name, c in FILES.items()}
    write_folder(tmp_path / "flat", flat)
    with pytest.raises(ValueError, match="images that lie in no class folder; both splits need one folder per class"):
        load_dataset("imagenet", tmp_path / "flat", img_size=16)
    write_zip(tmp_path / "zip", FILES)
    (tmp_path / "zip" / "val_map.txt").write_text("n1/nothing.JPEG\t0\n")
    with pytest.raises(ValueError, match=r"val_map.txt, line 1: .* does not name a member of val.zip"):
        load_dataset("imagenet", tmp_path / "zip", img_size=16)
    with pytest.raises(ValueError, match="have no common size; choose the network's input size with img_size"):
        load_dataset("imagenet", write_folder(tmp_path / "x", FILES))


@pytest.mark.parametrize("damage", [b"", b"no image", encoded(0, 0)[:300]])
def test_corrupt_image_fails_by_name_or_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    names = [name for name in FILES if "_1_0" in name]  # one training and one test image
    write_folder(tmp_path, {**FILES, **dict.fromkeys(names, damage)})
    data = load_dataset("imagenet", tmp_path, img_size=16)
    with pytest.raises(ValueError, match=r"train_1_0.JPEG: the file cannot be read as an image .*--on-bad-image skip"):
        [data.train[i] for i in range(len(data.train))]
    data = load_dataset("imagenet", tmp_path, img_size=16, on_bad_image="skip")
    with caplog.at_level(logging.WARNING):
        train = [data.train[i] for i in range(len(data.train))]
        batches = list(in_order(data.test, range(6), 2, 0))
    assert torch.equal(train[4][0], train[5][0])  # its neighbour replaces it
    assert [len(labels) for _, labels in batches] == [2, 1, 2]
    assert "train_1_0.JPEG" in caplog.text
    assert "val_1_0.JPEG" in caplog.text


def test_evaluation_resizes_the_shorter_side_and_cuts_out_the_centre() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 255  # the middle half is white
    transform = ImageTransform(None, Preprocessing(14, 3, (0.0,) * 3, (1.0,) * 3, crop_ratio=0.875), None)
    y = transform(Image.fromarray(pixels))
    assert y.shape == (3, 14, 14)
    assert y.min() > 0.99  # 40 px -> 16 px; the centre 14 px lie inside the white


@pytest.mark.parametrize(
    "augment",
    [
        AugmentConfig(random_resized_crop=0.08),
        AugmentConfig(auto_augment="rand-m9-mstd0.5-inc1"),
        AugmentConfig(color_jitter=0.4),
        AugmentConfig(erasing_probability=1.0),
        AugmentConfig(horizontal_flip=True),
    ],
    ids=lambda a: next(f"{k}" for k, v in a.__dict__.items() if v),
)
@pytest.mark.parametrize("chans", [1, 3])
def test_every_augmentation_changes_the_image(augment: AugmentConfig, chans: int) -> None:
    image = Image.open(__import__("io").BytesIO(encoded(1, 1))).convert("RGB" if chans == 3 else "L")
    preprocessing = Preprocessing(16, chans, (0.5,) * chans, (0.5,) * chans)
    plain = ImageTransform(None, preprocessing, None)(image)
    changed = ImageTransform(None, preprocessing, augment)
    outcomes = [changed(image) for _ in range(8)]
    assert all(y.shape == (chans, 16, 16) and y.dtype == torch.float32 for y in outcomes)
    assert any(not torch.equal(y, plain) for y in outcomes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_padding": 4, "random_resized_crop": 0.1}, "choose one"),
        ({"random_resized_crop": 1.5}, r"random_resized_crop must be in \[0, 1\]"),
        ({"color_jitter": -1.0}, "color_jitter must not be negative"),
        ({"auto_augment": "magic"}, "must name a policy of timm"),
    ],
)
def test_augmentation_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)  # type: ignore[arg-type]


def test_augmentation_that_the_images_do_not_allow_is_refused() -> None:
    preprocessing = Preprocessing(16, 3, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match="for images of many sizes use random_resized_crop"):
        ImageTransform(None, preprocessing, AugmentConfig(crop_padding=4))
    with pytest.raises(ValueError, match="not a policy that timm understands"):
        ImageTransform(None, preprocessing, AugmentConfig(auto_augment="rand-q9"))
