from __future__ import annotations

import io
import logging
import os
import tarfile
from pathlib import Path

import pytest

from image_data import encoded, image_files, write_folder, write_tar, write_zip
from mst.data import load_dataset
from mst.errors import InputError
from mst.experiments import check_dataset
from mst.experiments.dataset_options import DatasetCheckOptions

IMAGE = encoded(0, 0, (6, 6), "PNG")
TWO = {f"{name}/{i}.png": IMAGE for name in ("cat", "dog") for i in range(5)}
SPLIT = {f"{split}/{path}": content for split in ("train", "val") for path, content in TWO.items()}

Log = pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def _notes(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "mst.notes")


def classes(root: Path) -> tuple[str, ...]:
    return load_dataset(f"folder:{root}", img_size=4).info.class_names


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "$RECYCLE.BIN"])
@pytest.mark.parametrize("within", ["", "cat/"])
def test_folders_of_tools_are_no_classes_and_are_named(hidden: str, within: str, tmp_path: Path, caplog: Log) -> None:
    write_folder(tmp_path, {**TWO, f"{within}{hidden}/x.png": IMAGE, "cat/._0.png": b"of a Mac", "Thumbs.db": b""})
    data = load_dataset(f"folder:{tmp_path}", img_size=4)
    assert data.info.class_names == ("cat", "dog")
    assert len(data.train) + len(data.test) == len(TWO)
    assert f"hidden folders and those of tools are left out (1): {within}{hidden}" in caplog.text
    assert "not read as images" not in caplog.text


def test_hidden_members_of_archives_are_no_images(tmp_path: Path, caplog: Log) -> None:
    stray = {f"train/{name}": b"" for name in ("__MACOSX/cat/1.png", "cat/._0.png", ".git/x.png")}
    data = load_dataset(f"folder:{write_tar(tmp_path / 't', {**SPLIT, **stray})}", img_size=4)
    assert (data.info.class_names, len(data.train), len(data.test)) == (("cat", "dog"), 10, 10)
    write_zip(tmp_path / "z", {f"{s}/{c}/{c}{i}.png": IMAGE for s in ("train", "val") for c in "ab" for i in range(2)})
    (tmp_path / "z" / "val_map.txt").write_text("a0.png\t0\n")
    assert len(load_dataset(f"folder:{tmp_path / 'z'}", img_size=4).test) == 1
    assert "val.zip: 3 files that val_map.txt does not name are left out: 3 .png" in caplog.text


def test_archives_inside_an_archive_are_classes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as outer:
            for label, name in enumerate(("n2", "n10")):
                buffer = io.BytesIO()
                with tarfile.open(fileobj=buffer, mode="w") as inner:
                    for i in range(2):
                        content = encoded(label, i, (6, 6), "PNG")
                        member = tarfile.TarInfo(f"{name}_{i}.PNG")
                        member.size = len(content)
                        inner.addfile(member, io.BytesIO(content))
                member = tarfile.TarInfo(f"./{name}.tar")
                member.size = len(buffer.getvalue())
                outer.addfile(member, io.BytesIO(buffer.getvalue()))
    data = load_dataset(f"folder:{tmp_path}", img_size=4)
    assert data.info.class_names == ("n2", "n10")  # numbers in names count as numbers
    assert [data.train.raw.read(i)[1] for i in range(4)] == [0, 0, 1, 1]
    assert data.train.raw.read(3)[0].getpixel((0, 0))[0] >= 60  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"a.png": IMAGE, "b.png": IMAGE}, r"a\.png: there are 2 images that lie in no class folder"),
        ({"cat/old/9.png": IMAGE}, r"lie both in cat \(cat/0\.png\) and in a folder below it \(cat/old/9\.png\)"),
        ({"a/2019/1.png": IMAGE, "b/2019/1.png": IMAGE}, r"'2019' among them: a/2019, b/2019"),
        ({"hare/1.heic": b"x", "hare/2.heic": b"x"}, r"1 folders hold only .* not read; hare holds 2 \.heic"),
    ],
    ids=["stray", "below", "merged", "unread"],
)
def test_layouts_that_would_be_misread_are_refused(more: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        classes(write_folder(tmp_path, {**TWO, **more}))


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: Log) -> None:
    more = {"cat/1.txt": b"", "cat/2.heic": b"", "labels.txt": b"", "notes/a.md": b"", "README": b""}
    write_folder(tmp_path, {**TWO, **more})
    (tmp_path / "hare").mkdir()
    assert classes(tmp_path) == ("cat", "dog")
    assert "2 folders without images are no classes: hare (empty), notes (1 .md)" in caplog.text
    assert "5 files that are not read as images are left out: 2 .txt, 1 .heic, 1 .md, 1 without a suffix" in caplog.text


def test_folder_without_images_is_refused_with_its_content(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat/1.heic": b"", "cat/2.heic": b"", "dog/1.gz": b""})
    with pytest.raises(FileNotFoundError, match=r"no images are found \(it holds 2 \.heic, 1 \.gz\)"):
        classes(tmp_path)


def test_nested_class_folders_are_classes_by_their_own_name_and_noted(tmp_path: Path, caplog: Log) -> None:
    write_folder(tmp_path, {f"animals/{path}": content for path, content in TWO.items()})
    assert classes(tmp_path) == ("cat", "dog")
    assert "classes are the innermost folders: animals/cat is class 'cat'" in caplog.text


def test_suffixes_of_every_case_and_kind_are_read(tmp_path: Path) -> None:
    kinds = {"BMP": "bmp", "GIF": "gif", "TIFF": "TIF", "WEBP": "webp", "PPM": "ppm", "JPEG": "JFIF", "PNG": "Png"}
    files = {f"{name}/1.{suffix}": encoded(0, 1, (6, 6), kind) for kind, suffix in kinds.items() for name in "ab"}
    write_folder(tmp_path, {**files, **{f"{name}/2.{s}": c for name in "ab" for s, c in
                            ((p.rsplit(".")[-1], c) for p, c in files.items())}})  # fmt: skip
    data = load_dataset(f"folder:{tmp_path}", img_size=4)
    assert len(data.train) + len(data.test) == 4 * len(kinds)
    assert check_dataset(DatasetCheckOptions(f"folder:{tmp_path}", decode=True)).damaged == ()


def test_links_are_followed_but_not_in_circles(tmp_path: Path, caplog: Log) -> None:
    write_folder(tmp_path / "elsewhere", {f"{i}.png": IMAGE for i in range(3)})
    root = write_folder(tmp_path / "root", TWO)
    os.symlink(tmp_path / "elsewhere", root / "hare")
    os.symlink(root, root / "cat" / "again")
    os.symlink(root / "cat", root / "cat" / "self")
    data = load_dataset(f"folder:{root}", img_size=4)
    assert data.info.class_names == ("cat", "dog", "hare")
    assert len(data.train) + len(data.test) == len(TWO) + 3
    assert "links to a folder that they lie in are left out (2)" in caplog.text


def test_splits_are_found_under_their_usual_names_in_any_case(tmp_path: Path, caplog: Log) -> None:
    for number, (train, test) in enumerate((("Train", "Valid"), ("training", "Testing"), ("TRAIN", "eval"))):
        files = {f"{train}/{path}": c for path, c in TWO.items()} | {f"{test}/{path}": c for path, c in TWO.items()}
        data = load_dataset(f"folder:{write_folder(tmp_path / str(number), files)}", img_size=4)
        assert (len(data.train), len(data.test)) == (10, 10)
    write_folder(tmp_path / "three", {**SPLIT, **{f"test/{path}": c for path, c in TWO.items()}})
    classes(tmp_path / "three")
    assert "train and val are the splits; not used: test" in caplog.text


def test_a_class_without_validation_images_keeps_its_label_and_is_noted(tmp_path: Path, caplog: Log) -> None:
    files = {path: content for path, content in SPLIT.items() if not path.startswith("val/cat")}
    data = load_dataset(f"folder:{write_folder(tmp_path, files)}", img_size=4)
    assert data.test.raw.read(0)[1] == 1
    assert "there are no images of 1 of 2 classes: cat" in caplog.text


def test_classes_are_numbered_alike_whatever_the_case_of_their_names(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{name}/{i}.png": IMAGE for name in ("Cat", "cat", "b²", "b10", "b9") for i in range(2)})
    assert classes(tmp_path) == ("b9", "b10", "b²", "Cat", "cat")


def test_earlier_layout_keeps_its_fingerprint(tmp_path: Path) -> None:
    files = dict.fromkeys(image_files(2, 2, 1), IMAGE)
    data = load_dataset(f"folder:{write_folder(tmp_path, files)}", img_size=4)
    assert data.fingerprint == "8da832fe2f8e94c1e18c207a43fc6496e23dcdcdae363b87f9619962ebfa79cf"


def test_a_data_set_of_which_nothing_can_be_read_names_the_first_and_its_reason(tmp_path: Path) -> None:
    write_folder(tmp_path, dict.fromkeys(SPLIT, b"no image"))
    data = load_dataset(f"folder:{tmp_path}", img_size=4, on_bad_image="skip")
    with pytest.raises(InputError, match=r"cat/0\.png: .*cannot identify.*; not one sample .* \(10 samples\)"):
        data.train[0]
