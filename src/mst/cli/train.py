"""`mst train`: a data set in, checkpoints out."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mst.checkpoints import CheckpointInfo
from mst.data import (
    AugmentConfig,
    BadImages,
    DataSplits,
    EventAugmentConfig,
    EventRepresentation,
    Interpolation,
    load_dataset,
)
from mst.distributed import is_main_process, join_processes, num_processes, one_process_first
from mst.files import write_json
from mst.report import run_record, write_run_record
from mst.training import EpochRecord, TrainConfig, TrainingResult, has_training_state
from mst.training import train as train_model

from .common import console, prepare_output, print_files, progress_bar, remark
from .network import QuantizeConfig, build_network, image_size_option, start_from
from .parser import OPTIONS_FILE

SECONDS_BETWEEN_LINES = 5.0


def train(
    output: Path = Path("runs/train"),
    model: str = "mst_nano_patch2_window2_8",
    model_kwargs: dict[str, Any] | None = None,
    pretrained: bool = False,
    init_from: str | None = None,
    calibration_images: int | None = None,
    masking_ratio: float = 0.0,
    mask_sites: tuple[str, ...] | None = None,
    num_levels: int = 16,
    quantize: QuantizeConfig = QuantizeConfig(),  # noqa: B008 (frozen)
    dataset: str = "digits",
    data_path: Path | None = None,
    train_images: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    interpolation: Interpolation | None = None,
    crop_ratio: float | None = None,
    cache_images: bool = False,
    augment: AugmentConfig = AugmentConfig(),  # noqa: B008 (frozen)
    events: EventRepresentation = EventRepresentation(),  # noqa: B008 (frozen)
    event_augment: EventAugmentConfig = EventAugmentConfig(),  # noqa: B008 (frozen)
    align_chans: int = 0,
    train: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    on_bad_image: BadImages = "fail",
    resume: bool = False,
) -> None:
    """Train an ANN with quantised activations and, if asked, random spike masking.

    It is an MST, or any network of timm or torchvision with activations like ReLU.

    Writes last.safetensors and best.safetensors (best on the test split), the training state for --resume,
    TensorBoard logs and run_record.json. SIGTERM and Ctrl-C write the training state before they end the command.
    On several devices: torchrun --nproc_per_node 8 -m mst train ...

    Example: mst train --config digits-mst-masked --output runs/masked
    Example: mst train --model resnet18.a1_in1k --pretrained --dataset cifar10 --output runs/resnet

    Args:
        output: folder for everything this run writes.
        model: an MST by its registered name, any name of timm, or torchvision:NAME.
        model_kwargs: how to build it, for example --model-kwargs.depths 2,2 or --model-kwargs.width 16.
        pretrained: start from the weights that timm or torchvision publish under this name, which are downloaded.
        init_from: weights to start from: a checkpoint, released .pth weights, those of a Swin Transformer (a file,
            or timm:swin_tiny_patch4_window7_224, which is downloaded), or of the same network. A head for other classes
            starts anew.
        calibration_images: training images that set thresholds where the start brings none; 256 by default.
        masking_ratio: fraction of the spikes dropped at the mask sites, in [0, 1).
        mask_sites: where to mask: all, attention (the default for an MST), mlp, a role, or a glob of site names.
        num_levels: L, quantisation levels of every activation.
        quantize: how to quantise a network that is no MST.
        dataset: name; `mst datasets` lists them.
        data_path: folder with the data set's files; without it the usual places are looked through.
        train_images: use so many training images only, evenly taken.
        img_size: pixels to which images are resized, one number or HEIGHT,WIDTH; by default those of the data set, if
            it has one size. Frames of events are repeated (larger) or added up (smaller).
        interpolation: where images are resized: bicubic (the default), bilinear or nearest.
        crop_ratio: test images are resized to the network's size / crop_ratio, then their centre is cut out; by default
            7/8 for photographs of many sizes and 1 for others.
        cache_images: read image files into memory at the start.
        augment: random changes of the training images.
        events: how recordings of event cameras become frames.
        event_augment: random changes of the training recordings.
        align_chans: channels to which a 1x1 convolution in front brings those of the frames, 3 in the paper; 0: none,
            the network takes the frames as they are.
        train: how to train.
        on_bad_image: at an image file or a recording that cannot be read: fail, or skip it and say so.
        resume: continue the run in the output folder exactly where it was; its options need not be repeated.
    """
    settings = dict(locals())
    if pretrained and init_from is not None:
        raise ValueError("pretrained and init_from are two starts; choose one")
    prepare_output(output)
    join_processes(train.device)
    if resume and not has_training_state(output) and (output / OPTIONS_FILE).exists():
        remark(f"the run in {output} was cut before its first training state was written; it starts anew")
        resume = False
    if not resume and not has_training_state(output) and is_main_process():
        write_json(output / OPTIONS_FILE, {**settings, "resume": False})
    with one_process_first():
        splits = load_dataset(
            dataset, data_path, img_size=image_size_option(img_size, model_kwargs), interpolation=interpolation,
            crop_ratio=crop_ratio, augment=augment, events=events, event_augment=event_augment,
            on_bad_image=on_bad_image, cache_images=cache_images,
        )  # fmt: skip
    if train_images is not None:
        splits = splits.with_train_images(train_images)
    torch.manual_seed(train.seed)
    network = build_network(
        model, model_kwargs, splits, num_levels=num_levels, masking_ratio=masking_ratio, mask_sites=mask_sites,
        quantize=quantize, pretrained=pretrained and not resume, align_chans=align_chans,
    )  # fmt: skip
    if not resume:
        start_from(network, init_from, pretrained, splits, calibration_images, quantize)
    provenance = {
        "model": model,
        "init_from": init_from,
        "pretrained": pretrained,
        "augment": asdict(augment if splits.info.sensor is None else event_augment),
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


def _train_with_progress(
    title: str,
    network: nn.Module,
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
