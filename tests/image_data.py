"""Small image data sets in their real formats, written for tests."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(label: int, seed: int, size: tuple[int, int] = (20, 24), kind: str = "JPEG") -> bytes:
    """A noisy image whose brightness depends on its class."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 60, (*size, 3)) + 60 * (label % 4)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def image_files(classes: int, train: int, test: int, names: tuple[str, ...] = ("train", "val")) -> dict[str, bytes]:
    """Path below the root -> content: one folder per class, with names like ImageNet's."""
    files = {}
    for split, count in zip(names, (train, test), strict=True):
        for label in range(classes):
            for i in range(count):
                size = (20 + i, 24 - i)
                content = encoded(label, hash((split == names[0], label, i)) % 2**31, size)
                files[f"{split}/n{1000 + label:08d}/{split}_{label}_{i}.JPEG"] = content
    return files


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_tar(root: Path, files: dict[str, bytes]) -> Path:
    """train.tar and val.tar, with class folders inside."""
    root.mkdir(parents=True, exist_ok=True)
    for split in {name.split("/")[0] for name in files}:
        with tarfile.open(root / f"{split}.tar", "w") as archive:
            for name, content in files.items():
                if name.startswith(f"{split}/"):
                    member = tarfile.TarInfo(name.split("/", 1)[1])
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return root


def write_zip(root: Path, files: dict[str, bytes]) -> Path:
    """train.zip with train_map.txt, val.zip with val_map.txt, as the Swin code describes them: val has no folders."""
    root.mkdir(parents=True, exist_ok=True)
    folders = sorted({name.split("/")[1] for name in files})
    for split in {name.split("/")[0] for name in files}:
        lines = []
        with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
            for name, content in files.items():
                if name.startswith(f"{split}/"):
                    inside = name.split("/", 1)[1] if split == "train" else name.rsplit("/", 1)[1]
                    archive.writestr(inside, content)
                    lines.append(f"{inside}\t{folders.index(name.split('/')[1])}\n")
        (root / f"{split}_map.txt").write_text("".join(lines))
    return root


def cifar_batch(count: int, classes: int, label_key: str, seed: int) -> bytes:
    """One batch as Python 2 pickled them: byte strings as keys' types, protocol 2."""
    generator = np.random.default_rng(seed)
    labels = [int(label) for label in generator.integers(0, classes, count)]
    pixels = generator.integers(0, 100, (count, 3072)) + 15 * (np.array(labels)[:, None] % 10)
    batch = {"batch_label": "small", label_key: labels, "data": pixels.astype(np.uint8), "filenames": ["x"] * count}
    if label_key == "fine_labels":
        batch["coarse_labels"] = [label // 5 for label in labels]
    return pickle.dumps(batch, protocol=2)


def write_cifar10(root: Path, per_batch: int = 8, archive: bool = False) -> Path:
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {n: cifar_batch(per_batch, 10, "labels", seed) for seed, n in enumerate(names)}
    return _write_cifar(root, "cifar-10-batches-py", "cifar-10-python.tar.gz", files, archive)


def write_cifar100(root: Path, count: int = 40, archive: bool = False) -> Path:
    files = {n: cifar_batch(count, 100, "fine_labels", seed) for seed, n in enumerate(("train", "test"))}
    return _write_cifar(root, "cifar-100-python", "cifar-100-python.tar.gz", files, archive)


def _write_cifar(root: Path, folder: str, packed: str, files: dict[str, bytes], archive: bool) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    if not archive:
        write_folder(root / folder, files)
        return root
    with tarfile.open(root / packed, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return root
