"""`mst train`: a data set in, checkpoints out."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mst.data import AugmentConfig, BadImages, DataSplits, Interpolation, load_dataset
from mst.models import CheckpointInfo, MaskedSpikingTransformer, create_model, load_initial_weights
from mst.report import run_record, write_json, write_run_record
from mst.train import (
    EpochRecord,
    TrainConfig,
    TrainingResult,
    has_training_state,
    is_main_process,
    join_processes,
    num_processes,
    one_process_first,
)
from mst.train import train as train_model

from .common import CALIBRATION_IMAGES, calibrate_on, console, prepare_output, print_files, progress_bar, remark
from .parser import OPTIONS_FILE

SECONDS_BETWEEN_LINES = 5.0


def train(
    output: Path = Path("runs/train"),
    model: str = "mst_nano_patch2_window2_8",
    model_options: dict[str, Any] | None = None,
    init_from: str | None = None,
    calibration_images: int | None = None,
    masking_ratio: float = 0.0,
    mask_sites: tuple[str, ...] = ("query", "key", "attention"),
    num_levels: int = 16,
    dataset: str = "digits",
    data_path: Path | None = None,
    interpolation: Interpolation = "bicubic",
    crop_ratio: float | None = None,
    cache_images: bool = False,
    augment: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
    train: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    on_bad_image: BadImages = "fail",
    resume: bool = False,
) -> None:
    """Train an ANN with quantised activations and, if asked, random spike masking.

    Writes last.safetensors and best.safetensors (best on the test split), the training state for --resume,
    TensorBoard logs and run_record.json. SIGTERM and Ctrl-C write the training state before they end the command.
    On several devices: torchrun --nproc_per_node 8 -m mst train ...

    Example: mst train --config digits-mst-masked --output runs/masked

    Args:
        output: folder for everything this run writes.
        model: registered name.
        model_options: further fields of MSTConfig, for example --model-options.embed_dim 64.
        init_from: weights to start from: a checkpoint, released .pth weights, or those of a Swin Transformer (a file,
            or timm:swin_tiny_patch4_window7_224, which is downloaded). A head for other classes starts anew.
        calibration_images: training images that set statistics and thresholds where the start is a Swin; 256 by
            default.
        masking_ratio: fraction of the spikes dropped at the mask sites, in [0, 1).
        mask_sites: where to mask; any of query, key, attention, mlp.
        num_levels: L, quantisation levels of every activation.
        dataset: name; `mst datasets` lists them.
        data_path: folder with the data set's files; without it the usual places are looked through.
        interpolation: where images are resized: bicubic, bilinear or nearest.
        crop_ratio: test images are resized to the network's size / crop_ratio, then their centre is cut out; by default
            7/8 for photographs of many sizes and 1 for others.
        cache_images: read image files into memory at the start.
        augment: random changes of the training images.
        train: how to train.
        on_bad_image: at an image file that cannot be decoded: fail, or skip it and say so.
        resume: continue the run in the output folder exactly where it was; its options need not be repeated.
    """
    settings = dict(locals())
    prepare_output(output)
    join_processes(train.device)
    if resume and not has_training_state(output) and (output / OPTIONS_FILE).exists():
        remark(f"the run in {output} was cut before its first training state was written; it starts anew")
        resume = False
    if not resume and not has_training_state(output) and is_main_process():
        write_json(output / OPTIONS_FILE, {**settings, "resume": False})
    options = dict(model_options or {})
    taken = {"masking_ratio", "mask_sites", "num_levels", "num_classes", "in_chans"} & options.keys()
    if taken:
        raise ValueError(
            f"model_options may not hold {', '.join(sorted(taken))}: masking_ratio, mask_sites and num_levels are "
            "options of their own, num_classes and in_chans follow from the data set"
        )
    img_size = options.pop("img_size", None)
    with one_process_first():
        splits = load_dataset(
            dataset, data_path, img_size=img_size, interpolation=interpolation, crop_ratio=crop_ratio, augment=augment,
            on_bad_image=on_bad_image, cache_images=cache_images,
        )  # fmt: skip
    options |= {
        "img_size": splits.preprocessing.img_size,
        "in_chans": splits.preprocessing.in_chans,
        "num_classes": splits.info.num_classes,
        "masking_ratio": masking_ratio,
        "mask_sites": tuple(mask_sites),
        "num_levels": num_levels,
    }
    torch.manual_seed(train.seed)
    network = create_model(model, **options)
    if init_from is None and calibration_images is not None:
        raise ValueError("calibration_images has no effect without init_from")
    if init_from is not None and not resume:
        _initialise(network, init_from, splits, calibration_images)
    provenance = {
        "model": model,
        "init_from": init_from,
        "augment": asdict(augment),
        "data_fingerprint": splits.fingerprint,
    }
    info = CheckpointInfo(dataset, splits.info.class_names, splits.preprocessing, provenance)
    result = _train_with_progress(f"{model} on {dataset}", network, splits, output, train, info, resume)
    if not is_main_process():
        return
    last = result.history[-1]
    console.print(
        f"ANN test accuracy: {100 * last.accuracy:.2f} % after the last epoch, "
        f"{100 * result.best_accuracy:.2f} % at best",
        highlight=False,
    )
    results = {
        "accuracy": last.accuracy,
        "best_accuracy": result.best_accuracy,
        "num_parameters": sum(p.numel() for p in network.parameters()),
        "seconds": sum(record.seconds for record in result.history),
        "history": result.history,
        "num_processes": num_processes(),
    }
    device = str(next(network.parameters()).device)
    record = run_record("train", settings, results, seed=train.seed, device=device, data_fingerprint=splits.fingerprint)
    print_files(result.last_checkpoint, result.best_checkpoint, write_run_record(output, record))


def _initialise(
    network: MaskedSpikingTransformer, source: str, splits: DataSplits, calibration_images: int | None
) -> None:
    """Fill `network` with the weights of `source`, and say what came of it."""
    start = load_initial_weights(network, source)
    said = f"starting from {source}" + (
        "" if start.head_kept else "; its head is for other classes, so a new one starts"
    )
    if start.kind == "swin":
        count = calibrate_on(network, splits, CALIBRATION_IMAGES if calibration_images is None else calibration_images)
        said += f"; a Swin: statistics and thresholds are set from {count} training images"
    elif calibration_images is not None:
        raise ValueError(f"calibration_images has no effect: {source} is no Swin and brings thresholds of its own")
    remark(said)


def _train_with_progress(
    title: str,
    network: MaskedSpikingTransformer,
    splits: DataSplits,
    output: Path,
    config: TrainConfig,
    info: CheckpointInfo,
    resume: bool,
) -> TrainingResult:
    """Train under a progress bar, with a line of results every few seconds."""
    steps_per_epoch = len(splits.train) // (config.batch_size * config.accumulation_steps * num_processes())
    last_line = time.monotonic()

    def report_epoch(record: EpochRecord) -> None:
        nonlocal last_line
        if record.epoch + 1 < config.epochs and time.monotonic() - last_line < SECONDS_BETWEEN_LINES:
            return
        last_line = time.monotonic()
        console.print(
            f"epoch {record.epoch + 1:>3}/{config.epochs}  loss {record.loss:.4f}  "
            f"test accuracy {100 * record.accuracy:.2f} %  {record.seconds:.1f} s  "
            f"{record.images_per_second:,.0f} images/s  data wait {100 * record.data_wait:.0f} %",
            highlight=False,
            soft_wrap=True,
        )

    with progress_bar(f"training {title}", config.epochs * steps_per_epoch, "steps") as advance:
        return train_model(
            network,
            splits.train,
            splits.test,
            output,
            config,
            info,
            resume=resume,
            on_step=lambda done, loss: advance(done, f"loss {loss:.3f}"),
            on_epoch=report_epoch,
            on_resume=advance,
        )
