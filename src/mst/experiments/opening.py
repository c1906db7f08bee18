"""A checkpoint opened together with the test images that it runs on."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from mst.checkpoints import CheckpointInfo, checkpoint_file, load_checkpoint, pinned_reference, read_checkpoint_info
from mst.data import DATASETS, DataSplits, load_dataset
from mst.distributed import join_processes, one_process_first
from mst.errors import InputError
from mst.models import spec_of
from mst.neurons import ALL_SITES, find_sites, limit_powers, mask_spikes
from mst.quantization import calibrate, image_shape_of, num_classes_of, set_thresholds
from mst.text import note
from mst.threads import choose_threads

from .options import CheckpointOptions

CALIBRATION_IMAGES = 256
"""Training images that set statistics and thresholds by default."""

CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class OpenedRun:
    """A network on its device, with the test images that it is to see."""

    model: nn.Module
    """The ANN, on its device."""

    info: CheckpointInfo
    """Data set, preprocessing and provenance, as the checkpoint states them."""

    data: DataSplits
    """The data set, preprocessed for the network."""

    images: Dataset[tuple[Tensor, int]]
    """The test images to report on."""

    batch_size: int
    """Images at once."""

    num_workers: int
    """Processes that prepare images."""

    num_images: int
    """Length of `images`."""

    checkpoint: Path
    """File that the network came from."""

    threads: int
    """CPU threads that its runs use."""

    digest: str | None
    """SHA-256 digest of the file, in hexadecimal digits; None if the network was not read from a file."""

    def facts(self) -> dict[str, Any]:
        """Entries of a record that identify the network and its images."""
        limit = max((site.max_powers for site in find_sites(self.model).values() if site.max_powers), default=None)
        return {
            "checkpoint": self.checkpoint,
            "checkpoint_sha256": self.digest,
            "dataset": self.data.info.name,
            "masking_ratio": masking_ratio_of(self.model),
            **({} if limit is None else {"max_powers": limit}),
            "device": str(next(self.model.parameters()).device),
            "data_fingerprint": self.data.fingerprint,
            "threads": self.threads,
        }

    def __repr__(self) -> str:
        return f"OpenedRun({self.checkpoint}, {self.num_images} test images of {self.data.info.name})"


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes an accelerator if there is one.

    Raises:
        InputError: this machine has no such device.
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
        raise InputError(
            f"device {name!r} is not available here ({str(error).splitlines()[0]})", remedy="try --device cpu"
        ) from error
    return device


def open_checkpoint(options: CheckpointOptions | str | Path) -> OpenedRun:
    """Load a checkpoint and the test split of its data set, or of the one named.

    Args:
        options: the checkpoint and how to open it, or its path alone.

    Raises:
        MissingFileError: the checkpoint or the data set's files do not exist.
        InputError: a damaged file; classes or sizes that do not match; no such device.
    """
    if not isinstance(options, CheckpointOptions):
        options = CheckpointOptions(Path(options))
    join_processes(options.device)
    return open_network(load_network(options), read_checkpoint_info(options.checkpoint), options)


def load_network(options: CheckpointOptions) -> nn.Module:
    """Load a checkpoint's network, with the masks and levels that the options ask for; no data set is opened.

    Raises:
        MissingFileError: the checkpoint does not exist.
        InputError: a damaged file; masks or levels that do not fit.
    """
    model = load_checkpoint(options.checkpoint)
    if options.masking_ratio is not None:
        set_masking(model, options.checkpoint, options.masking_ratio, options.mask_sites, options.mask_rule)
    if options.max_powers is not None:
        _limit(model, options.checkpoint, options.max_powers)
    return model


def open_network(
    model: nn.Module, info: CheckpointInfo, options: CheckpointOptions, cache_images: bool = False
) -> OpenedRun:
    """Put a network on its device and open the test split that it is to see.

    Args:
        model: the network, masked as it is to run.
        info: what is known of it.
        options: where it comes from, the images, the device. Masks are left as they are.
        cache_images: read image files into memory at the start.

    Raises:
        MissingFileError: the data set's files do not exist.
        InputError: classes or sizes that do not match; no such device.
    """
    checkpoint = pinned_reference(options.checkpoint)
    name = options.dataset or info.dataset
    if name is None:
        raise InputError("it does not state its data set", where=str(checkpoint), remedy="give --dataset")
    shape = image_shape_of(model)
    if shape is None:
        raise InputError(
            "it does not state which images it takes",
            where=str(checkpoint),
            remedy="quantise the network with calibration images, which fix the shape",
        )
    in_chans, height, width = shape
    device = choose_device(options.device)
    with one_process_first():
        data = load_dataset(
            name, options.data_path, preprocessing=info.preprocessing, img_size=(height, width),
            on_bad_image=options.on_bad_image, cache_images=cache_images,
        )  # fmt: skip
    if data.preprocessing.size != (height, width) or data.preprocessing.in_chans != in_chans:
        gives = " x ".join(map(str, (data.preprocessing.in_chans, *data.preprocessing.size)))
        raise InputError(f"{name} gives images of {gives}, {checkpoint} takes {in_chans} x {height} x {width}")
    if name != info.dataset and not (info.class_names and data.info.class_names):
        note(
            f"{name}: the names of its classes or of the network's are not known, so that labels are taken as they are"
        )
    data = data.with_classes(info.class_names, same_data=name == info.dataset and name in DATASETS)
    if data.info.num_classes != num_classes_of(model):
        raise InputError(f"{name} has {data.info.num_classes} classes, {checkpoint} has {num_classes_of(model)}")
    num_images = min(options.max_images or len(data.test), len(data.test))
    images = Subset(data.test, range(num_images))
    model = model.to(device)
    threads = choose_threads(model, shape, options.batch_size, options.threads)
    file = checkpoint_file(options.checkpoint)
    digest = sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    return OpenedRun(
        model, info, data, images, options.batch_size, options.num_workers, num_images, checkpoint, threads, digest
    )


def set_masking(
    model: nn.Module,
    checkpoint: Path,
    masking_ratio: float,
    mask_sites: tuple[str, ...] | None = None,
    mask_rule: str | None = None,
) -> None:
    """Mask with another ratio or rule than the checkpoint's, or at other sites, and report it.

    Without mask_sites the masks stay where they are; a network without masks gets them at the sites that its
    specification names, or at all.

    Raises:
        InputError: a ratio outside [0, 1), an unknown rule, or no site to mask.
    """
    before = {name: site.mask for name, site in find_sites(model).items()}
    masked = {name: mask for name, mask in before.items() if mask is not None}
    if mask_sites is not None:
        rule = mask_rule or next(iter(masked.values()), "random")
        mask_spikes(model, 0.0)
        mask_spikes(model, masking_ratio, mask_sites, rule)
    elif masked:
        for name, mask in masked.items():
            mask_spikes(model, masking_ratio, glob.escape(name), mask_rule or mask)
    else:
        spec = spec_of(model)
        named = (ALL_SITES,) if spec is None else spec.default_mask_sites
        if not named:
            raise InputError(
                "it names no mask sites, so --masking-ratio has no effect",
                where=str(checkpoint),
                remedy="add --mask-sites",
            )
        mask_spikes(model, masking_ratio, named, mask_rule or "random")
    after = {name: site.mask for name, site in find_sites(model).items()}
    if after != before:
        stored = ", ".join(f"{ratio:g}" for ratio in sorted({mask.masking_ratio for mask in masked.values()})) or "0"
        now = [mask for mask in after.values() if mask is not None]
        rules = ", ".join(sorted({mask.name for mask in now} - {"random"}))
        note(
            f"{checkpoint} was made with masking ratio {stored}; it runs with {masking_ratio:g} at {len(now)} of "
            f"{len(after)} sites{f', rule {rules}' if rules else ''}"
        )


def _limit(model: nn.Module, checkpoint: Path, max_powers: int) -> None:
    """Round the levels of all sites, and report what the checkpoint says otherwise."""
    stored = {site.max_powers for site in find_sites(model).values()} - {max_powers}
    limit_powers(model, max_powers)
    if stored:
        made = ", ".join(
            f"at most {limit} powers of two" if limit else "every level" for limit in sorted(stored, key=str)
        )
        note(f"{checkpoint} was made with {made}; its levels are rounded to at most {max_powers} powers of two")


def masking_ratio_of(model: nn.Module) -> float:
    """The largest masking ratio of any site; 0 if there is none."""
    return max((site.masking_ratio for site in find_sites(model).values()), default=0.0)


def calibrate_on(model: nn.Module, data: DataSplits, num_images: int, **how: Any) -> int:
    """Set thresholds from evenly spaced training images; where sites do not stand in for activations, as in an MST with
    a Swin's weights, the BatchNorm statistics too.

    Args:
        model: the network.
        data: the data set whose training images are used.
        num_images: how many; all if there are fewer.
        how: for a network that `mst.quantize` made, see there: threshold_from, percentile, per_channel.

    Returns:
        The number of images used.

    Raises:
        InputError: fewer than one image, or as `set_thresholds`.
    """
    if num_images < 1:
        raise InputError(f"calibration_images must be at least 1, got {num_images}")
    images = training_images(data, num_images)
    spec = spec_of(model)
    if spec is not None and not spec.sites_replace_activations:
        calibrate(model, [images])
    else:
        set_thresholds(model, list(torch.split(images, CALIBRATION_BATCH)), **how)
    return len(images)


def training_images(data: DataSplits, num_images: int) -> Tensor:
    """Evenly spaced training images [N, C, height, width], preprocessed as test images are; all if there are fewer."""
    plain = data.without_augmentation()
    count = min(num_images, len(plain))
    return torch.stack([plain[index * len(plain) // count][0] for index in range(count)])
