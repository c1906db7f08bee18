"""What several verbs share: devices, output folders, opening a checkpoint with its data, progress bars."""

from __future__ import annotations

import glob
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from mst.checkpoints import CheckpointInfo, load_checkpoint, read_checkpoint_info
from mst.data import BadImages, DataSplits, load_dataset
from mst.distributed import is_main_process, join_processes, one_process_first
from mst.models import MaskedSpikingTransformer
from mst.neurons import ALL_SITES, check_masking_ratio, mask_spikes, name_sites
from mst.quantization import calibrate, image_shape_of, num_classes_of, quantization_of, set_thresholds

console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160, quiet=not is_main_process())
"""Results go to standard output; into a file as wide as the tables need. Of several processes the first speaks."""

_status = Console(stderr=True, quiet=not is_main_process())
"""Progress and remarks go to standard error."""


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes an accelerator if there is one.

    Raises:
        ValueError: no such device here.
    """
    joined = join_processes(name)
    if joined is not None and name in ("auto", joined.type):
        return joined
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} is not available here ({str(error).splitlines()[0]}); try --device cpu"
        ) from error
    return device


def prepare_output(folder: Path) -> Path:
    """Make the output folder, before any work is done.

    Raises:
        OSError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{secrets.token_hex(6)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"the output folder {folder} cannot be written: {error.strerror or error}") from error
    return folder


@dataclass(frozen=True)
class OpenedRun:
    """A checkpoint's model on its device, the test images it is to see, and what is known of both."""

    model: nn.Module
    info: CheckpointInfo
    data: DataSplits
    images: Dataset[tuple[Tensor, int]]
    batch_size: int
    num_workers: int
    num_images: int
    checkpoint: Path

    def facts(self) -> dict[str, Any]:
        """What was run on what, as the options resolved it: for the records."""
        return {
            "checkpoint": self.checkpoint,
            "dataset": self.data.info.name,
            "masking_ratio": masking_ratio_of(self.model),
            "device": str(next(self.model.parameters()).device),
            "data_fingerprint": self.data.fingerprint,
        }


def open_run(
    checkpoint: Path,
    dataset: str | None,
    data_path: Path | None,
    batch_size: int,
    max_images: int | None,
    masking_ratio: float | None,
    device: str,
    num_workers: int = 0,
    on_bad_image: BadImages = "fail",
    mask_sites: tuple[str, ...] | None = None,
) -> OpenedRun:
    """Load a checkpoint and the test split of its data set, or of the one named.

    Raises:
        FileNotFoundError, ValueError: as `load_checkpoint` and `open_model`.
    """
    check_counts(batch_size=batch_size, max_images=max_images)
    join_processes(device)
    model, info = load_checkpoint(checkpoint), read_checkpoint_info(checkpoint)
    if masking_ratio is not None:
        set_masking(model, checkpoint, masking_ratio, mask_sites)
    elif mask_sites is not None:
        raise ValueError("mask_sites has no effect without masking_ratio")
    return open_model(
        model, info, checkpoint, dataset, data_path, batch_size, max_images, device, num_workers, on_bad_image
    )


def check_counts(**counts: int | None) -> None:
    """See that each of these options is left out or at least 1.

    Raises:
        ValueError: one is not.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def open_model(
    model: nn.Module,
    info: CheckpointInfo,
    checkpoint: Path,
    dataset: str | None,
    data_path: Path | None,
    batch_size: int,
    max_images: int | None = None,
    device: str = "auto",
    num_workers: int = 0,
    on_bad_image: BadImages = "fail",
    cache_images: bool = False,
) -> OpenedRun:
    """Put a model on its device and open the test split that it is to see.

    Args:
        model, info, checkpoint: a network, what is known of it, and where it comes from.
        dataset: name; None takes the one it was trained on.

    Raises:
        FileNotFoundError, ValueError: as `load_dataset`; classes or sizes that do not match; options out of range.
    """
    check_counts(batch_size=batch_size, max_images=max_images)
    name = dataset or info.dataset
    if name is None:
        raise ValueError(f"{checkpoint} does not say which data set it belongs to; give --dataset")
    shape = image_shape_of(model)
    if shape is None:
        raise ValueError(f"{checkpoint} does not say which images it takes")
    in_chans, height, width = shape
    on = choose_device(device)
    with one_process_first():
        data = load_dataset(
            name, data_path, preprocessing=info.preprocessing, img_size=(height, width), on_bad_image=on_bad_image,
            cache_images=cache_images,
        )  # fmt: skip
    if data.preprocessing.size != (height, width) or data.preprocessing.in_chans != in_chans:
        gives = " x ".join(map(str, (data.preprocessing.in_chans, *data.preprocessing.size)))
        raise ValueError(f"{name} gives images of {gives}, {checkpoint} takes {in_chans} x {height} x {width}")
    if data.info.num_classes != num_classes_of(model):
        raise ValueError(f"{name} has {data.info.num_classes} classes, {checkpoint} has {num_classes_of(model)}")
    num_images = min(max_images or len(data.test), len(data.test))
    images = Subset(data.test, range(num_images))
    return OpenedRun(model.to(on), info, data, images, batch_size, num_workers, num_images, checkpoint)


def set_masking(
    model: nn.Module, checkpoint: Path, masking_ratio: float, mask_sites: tuple[str, ...] | None = None
) -> None:
    """Mask with another ratio than the checkpoint's, or elsewhere, and say so.

    Without mask_sites the masks stay where they are; where there are none, at the sites that an MST names for them,
    or at all of another network.
    """
    check_masking_ratio(masking_ratio)
    before = {name: site.masking_ratio for name, site in name_sites(model).items()}
    masked = [name for name, ratio in before.items() if ratio > 0]
    if mask_sites is not None:
        mask_spikes(model, 0.0)
        mask_spikes(model, masking_ratio, mask_sites)
    elif masked:
        for name in masked:
            mask_spikes(model, masking_ratio, glob.escape(name))
    else:
        named = model.config.mask_sites if isinstance(model, MaskedSpikingTransformer) else (ALL_SITES,)
        if not named:
            raise ValueError(f"{checkpoint} names no mask sites, so --masking-ratio has no effect; add --mask-sites")
        mask_spikes(model, masking_ratio, named)
    after = {name: site.masking_ratio for name, site in name_sites(model).items()}
    if after != before:
        stored = ", ".join(f"{ratio:g}" for ratio in sorted({before[name] for name in masked})) or "0"
        count = sum(ratio > 0 for ratio in after.values())
        remark(
            f"{checkpoint} was made with masking ratio {stored}; it is run with {masking_ratio:g} at {count} of "
            f"{len(after)} sites"
        )


CALIBRATION_IMAGES = 256
"""Training images that set statistics and thresholds where nobody says how many."""

CALIBRATION_BATCH = 64


def calibrate_on(model: nn.Module, data: DataSplits, num_images: int, **how: Any) -> int:
    """Set thresholds from training images, evenly taken; returns how many there were. Of an MST, whose weights come
    from a Swin, the BatchNorm statistics too.

    Args:
        how: for a network quantised by `mst.quantize`, see there: threshold_from, percentile, per_channel.

    Raises:
        ValueError: fewer than one image, or as `set_thresholds`.
    """
    if num_images < 1:
        raise ValueError(f"calibration_images must be at least 1, got {num_images}")
    images = training_images(data, num_images)
    count = len(images)
    noted = quantization_of(model)
    if noted is None:
        calibrate(model, [images])
    else:
        batches = [images[start : start + CALIBRATION_BATCH] for start in range(0, count, CALIBRATION_BATCH)]
        set_thresholds(model, batches, noted.caps, how["threshold_from"], how["percentile"], how["per_channel"])
    return count


def training_images(data: DataSplits, num_images: int) -> Tensor:
    """[N, C, height, width]: so many training images, evenly taken, as the network sees test images; all if there are
    fewer."""
    plain = data.without_augmentation()
    count = min(num_images, len(plain))
    return torch.stack([plain[index * len(plain) // count][0] for index in range(count)])


def masking_ratio_of(model: nn.Module) -> float:
    """The largest masking ratio of any site."""
    return max(site.masking_ratio for site in name_sites(model).values())


def remark(text: str) -> None:
    """Say something to the user that is no result."""
    _status.print(f"[bold]note:[/bold] {text}", highlight=False, soft_wrap=True)


def print_files(*paths: Path) -> None:
    """Name the files that were written."""
    console.print("\nWritten:")
    for path in paths:
        console.print(f"  {path}", highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """A bar on standard error; call what it yields with (amount, description=...)."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=_status, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(description, total=total)

        def advance(amount: int, description: str | None = None) -> None:
            bar.update(task, advance=amount, description=description)

        yield advance
