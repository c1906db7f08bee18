from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from event_data import small_events
from image_data import image_files, write_folder
from mst.data import (
    BatchLoader,
    EventRepresentation,
    Sensor,
    UnreadableEventsError,
    UnreadableImageError,
    UnreadableSampleError,
    first_readable,
    in_order,
    load_dataset,
    write_events,
)

FILES = image_files(classes=3, train=4, test=2)
CLASSES = ("n00001000", "n00001001", "n00001002")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_in_order_leaves_out_a_batch_without_a_readable_image(tmp_path: Path, num_workers: int) -> None:
    bad = [f"val/{name}/val_{label}_{i}.JPEG" for label, name in enumerate(CLASSES[:2]) for i in range(2)]
    write_folder(tmp_path, {**FILES, **dict.fromkeys(bad, b"x")})
    data = load_dataset("imagenet", tmp_path, img_size=16, on_bad_image="skip")
    assert [labels.tolist() for _, labels in in_order(data.test, range(6), 2, num_workers)] == [[2, 2]]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_in_order_raises_the_error_of_a_worker_with_its_fields(tmp_path: Path, num_workers: int) -> None:
    bad = f"val/{CLASSES[1]}/val_1_0.JPEG"
    write_folder(tmp_path, {**FILES, bad: b"x"})
    data = load_dataset("imagenet", tmp_path, img_size=16)
    batches = iter(in_order(data.test, range(6), 2, num_workers))
    assert next(batches)[1].tolist() == [0, 0]
    with pytest.raises(UnreadableImageError) as caught:
        next(batches)
    assert caught.value.where == str(tmp_path / bad)
    assert caught.value.what.startswith("the file cannot be read as an image (cannot identify image file")
    assert caught.value.remedy.endswith("--on-bad-image skip")


def test_in_order_keeps_labels_below_zero() -> None:
    data = TensorDataset(torch.zeros(3, 1), torch.tensor([-1, 0, -1]))
    assert [labels.tolist() for _, labels in in_order(data, range(3), 2, 0)] == [[-1, 0], [-1]]  # type: ignore[arg-type]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_in_order_raises_where_a_recording_is_damaged(tmp_path: Path, num_workers: int) -> None:
    for part in ("train", "test"):
        for label in "xy":
            path = tmp_path / part / label / "0.dat"
            path.parent.mkdir(parents=True)
            write_events(path, small_events(), Sensor(8, 10), "dat")
    path.write_bytes(path.read_bytes()[:-5])
    data = load_dataset(f"events:{tmp_path}", events=EventRepresentation(num_bins=1))
    with pytest.raises(UnreadableEventsError) as caught:
        list(in_order(data.test, range(2), 2, num_workers))
    assert (caught.value.path, caught.value.event) == (path, 4)
    assert caught.value.offset == len(path.read_bytes()) - 3
    assert caught.value.where == f"{path}, byte {caught.value.offset} (event 4)"


def test_batch_loader_skips_through_views_of_a_data_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = f"val/{CLASSES[0]}/val_0_1.JPEG"
    write_folder(tmp_path, {**FILES, bad: b"x"})
    data = load_dataset("imagenet", tmp_path, img_size=16, on_bad_image="skip")
    loader = BatchLoader(Subset(Subset(data.test, range(5)), range(4)), batch_size=3)
    assert [labels.tolist() for _, labels in loader] == [[0, 1], [1]]
    assert len(loader) == 2
    assert f"skipped: {tmp_path / bad}: the file cannot be read as an image" in caplog.text


def test_first_readable_skips_or_raises(tmp_path: Path) -> None:
    bad = [name for name in FILES if name.startswith(f"val/{CLASSES[0]}")]
    write_folder(tmp_path, {**FILES, **dict.fromkeys(bad, b"x")})
    data = load_dataset("imagenet", tmp_path, img_size=16, on_bad_image="skip")
    before = torch.random.get_rng_state()
    assert first_readable(data.test)[1] == 1
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(UnreadableImageError):
        first_readable(load_dataset("imagenet", tmp_path, img_size=16).test)
    with pytest.raises(UnreadableSampleError, match="not one sample of this data set can be read"):
        first_readable(Subset(data.test, range(2)))


def test_workers_leave_signals_to_the_main_process() -> None:
    """A launcher signals the whole group; a worker that died of it would stop the main process while it saves."""

    class Slow(Dataset[tuple[torch.Tensor, int]]):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            time.sleep(0.02)
            return torch.zeros(1), index

    batches = iter(in_order(Slow(), range(60), 1, num_workers=2))
    next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    pids = [worker.pid for worker in workers]
    launcher = f"import os, signal\nfor pid in {pids}: os.kill(pid, signal.SIGTERM); os.kill(pid, signal.SIGINT)"
    subprocess.run([sys.executable, "-c", launcher], check=True)
    assert [int(labels) for _, labels in batches] == list(range(1, 60))
