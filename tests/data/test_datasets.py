from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from mst.data import (
    AugmentConfig,
    DataOptions,
    EventRepresentation,
    Preprocessing,
    dataset_info,
    find_fashion_mnist,
    load_dataset,
)
from mst.data.images.idx import read_idx
from mst.errors import InputError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(values: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, values.dim()]) + struct.pack(f">{values.dim()}I", *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


def write_fashion_mnist(folder: Path, compressed: bool = True) -> dict[str, torch.Tensor]:
    """Four small files in the real format."""
    generator = torch.Generator().manual_seed(0)
    content = {}
    for name, count in zip(NAMES, (40, 40, 20, 20), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        content[name] = torch.randint(0, 256 if "images" in name else 10, shape, generator=generator)
        folder.mkdir(parents=True, exist_ok=True)
        data = idx(content[name])
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(data) if compressed else data)
    return content


def test_digits_split_is_fixed_stratified_and_disjoint() -> None:
    one, two = load_dataset("digits"), load_dataset("digits")
    assert (len(one.train), len(one.test)) == (dataset_info("digits").num_train, dataset_info("digits").num_test)
    assert one.fingerprint == two.fingerprint
    counts = torch.bincount(one.test.raw.labels).tolist()
    assert max(counts) - min(counts) <= 2
    everything = torch.cat([one.train.raw.images, one.test.raw.images]).flatten(1)
    assert everything.shape[0] == 1797
    assert 0.0 <= everything.min() < everything.max() <= 1.0


def test_training_images_are_normalised_by_their_own_statistics() -> None:
    data = load_dataset("digits")
    pixels = torch.stack([data.train[i][0] for i in range(len(data.train))])
    assert pixels.shape == (1437, 1, 8, 8)
    assert pixels.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("layout", ["", "FashionMNIST/raw", "fashion-mnist"])
def test_fashion_mnist_is_read_from_every_layout(tmp_path: Path, layout: str, compressed: bool) -> None:
    content = write_fashion_mnist(tmp_path / layout, compressed)
    data = load_dataset("fashion-mnist", tmp_path)
    assert torch.equal(data.train.raw.images[:, 0], content[NAMES[0]].to(torch.uint8))
    assert torch.equal(data.test.raw.labels, content[NAMES[3]])
    assert data.train[0][0].dtype == torch.float32
    assert data.info.class_names[9] == "Ankle boot"


def test_fashion_mnist_missing_files_say_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", offline)
    write_fashion_mnist(tmp_path)
    (tmp_path / f"{NAMES[1]}.gz").unlink()
    assert find_fashion_mnist(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"--data-path, or install Debian's package dataset-fashion-mnist"):
        load_dataset("fashion-mnist", tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[: len(b) // 2], "not a gzip file, or a truncated one"),
        (lambda b: b"not gzip", "not a gzip file, or a truncated one"),
        (lambda b: gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abc"), "should hold 13 bytes .* it holds 11"),
        (lambda b: gzip.compress(b"\x00\x00\x0d\x01"), "not an idx file of unsigned bytes: it begins with 00000d01"),
        (lambda b: gzip.compress(b""), "begins with nothing"),
        (lambda b: gzip.compress(b"\x00\x00\x08\x03\x00"), "truncated inside its header of 16 bytes"),
    ],
)
def test_idx_damaged_file_is_named(tmp_path: Path, damage: object, message: str) -> None:
    write_fashion_mnist(tmp_path)
    path = tmp_path / f"{NAMES[0]}.gz"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_fashion_mnist_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path, compressed=False)
    (tmp_path / NAMES[1]).write_bytes(idx(torch.zeros(39)))
    with pytest.raises(ValueError, match="are not Fashion-MNIST's"):
        load_dataset("fashion-mnist", tmp_path)
    (tmp_path / NAMES[1]).write_bytes(idx(torch.full((40,), 10)))
    with pytest.raises(ValueError, match="label 10, but there are 10 classes"):
        load_dataset("fashion-mnist", tmp_path)


def test_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown data set 'fashon-mnist'; did you mean fashion-mnist"):
        load_dataset("fashon-mnist")
    with pytest.raises(
        ValueError, match=r"unknown data set 'zzz'; known: action-recognition, .*cifar10, .*digits, .*imagenet"
    ):
        load_dataset("zzz")


def test_data_set_with_other_channels_than_the_network_is_refused() -> None:
    wanted = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match=r"digits has 1 channel\(s\), the network takes 3"):
        load_dataset("digits", preprocessing=wanted)


def test_images_are_resized_to_what_the_network_expects() -> None:
    assert load_dataset("digits", img_size=12).test[0][0].shape == (1, 12, 12)


@pytest.mark.parametrize(
    "augment",
    [AugmentConfig(crop_padding=2), AugmentConfig(horizontal_flip=True), AugmentConfig(erasing_probability=1.0)],
    ids=str,
)
def test_augmentation_changes_training_images_and_no_test_images(augment: AugmentConfig) -> None:
    plain, changed = load_dataset("digits"), load_dataset("digits", augment=augment)
    draws = [changed.train[0][0] for _ in range(8)]
    assert any(not torch.equal(draw, plain.train[0][0]) for draw in draws)
    assert torch.equal(changed.test[0][0], plain.test[0][0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AugmentConfig(crop_padding=-1), "crop_padding must not be negative"),
        (lambda: AugmentConfig(erasing_probability=2.0), r"erasing_probability must be in \[0, 1\]"),
        (lambda: Preprocessing(8, 3, (0.5,), (0.5,)), "mean needs 3 entries"),
        (lambda: Preprocessing(8, 1, (0.5,), (0.0,)), "std above 0"),
        (lambda: Preprocessing((8, 8, 8), 1, (0.5,), (0.5,)), "img_size must be one whole number"),
        (lambda: Preprocessing(8.5, 1, (0.5,), (0.5,)), "img_size must be one whole number"),
        (lambda: Preprocessing(8, 1, (0.5,), (0.5,), crop_ratio=0.0), r"crop_ratio must be in \(0, 1\], got 0.0"),
        (lambda: Preprocessing(8, 1, (0.5,), (0.5,), "cubic"), "interpolation must be one of bicubic, .*got 'cubic'"),
        (lambda: Preprocessing(8, 2, (0.5,) * 2, (0.5,) * 2, events={"bins": 3}), "is not a representation"),
        (
            lambda: Preprocessing(8, 2, (0.5,) * 2, (0.5,) * 2, events=EventRepresentation(num_bins=9)),
            "9 bins of frames are 18 channels, not 2",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_load_dataset_takes_options_or_keywords() -> None:
    options = DataOptions("digits", train_images=100, img_size=12)
    one, two = load_dataset(options), load_dataset("digits", train_images=100, img_size=12)
    assert len(one.train) == len(two.train) == 100
    assert one.fingerprint == two.fingerprint == load_dataset("digits").with_train_images(100).fingerprint
    assert load_dataset(options, img_size=10).test[0][0].shape == (1, 10, 10)


@pytest.mark.parametrize(("options", "message"), [
    ({"img_sise": 12}, "unknown option 'img_sise'; did you mean img_size"),
    ({"on_bad_image": "ignore"}, "on_bad_image must be one of fail, skip, got 'ignore'"),
    ({"interpolation": "cubic"}, "interpolation must be one of bicubic, bilinear, nearest, got 'cubic'"),
    ({"augment": True}, "augment must be of type AugmentConfig, got True"),
    ({"train_images": 0}, "train_images must be from 1 to the 1437 that digits has, got 0"),
])  # fmt: skip
def test_load_dataset_refuses_options_that_it_does_not_know(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset("digits", **options)
