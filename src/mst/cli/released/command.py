"""The command line of the paper's released code, translated into runs of this package."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from mst.checkpoints import CheckpointInfo, NoDescriptionError, import_released, load_checkpoint, read_checkpoint_info
from mst.cli.display import print_line, progress_bar
from mst.cli.evaluate import report_evaluation
from mst.cli.launcher import print_error
from mst.cli.main import run_reporting_errors
from mst.cli.simulate import report_simulation
from mst.cli.train import train_and_report
from mst.data import DataOptions, Preprocessing, dataset_info, load_dataset
from mst.distributed import is_main_process, join_processes
from mst.errors import InputError
from mst.experiments import (
    OPTIONS_FILE,
    CheckpointOptions,
    NetworkOptions,
    OpenedRun,
    StepOptions,
    TrainingOptions,
    choose_device,
    open_network,
    run_evaluation,
    run_simulation,
    set_masking,
)
from mst.files import prepare_folder
from mst.measure import measure_throughput
from mst.models import MaskedSpikingTransformer
from mst.quantization import create_model
from mst.text import note
from mst.training import LAST_CHECKPOINT

from .settings import BASE_MODEL, Settings, resolve


def main(argv: Sequence[str] | None = None) -> int:
    """Run one released command; returns the exit code."""
    return run_reporting_errors(lambda: run(list(sys.argv[1:] if argv is None else argv)), "main.py")


def run(argv: Sequence[str]) -> None:
    """Parse `argv` and do what it asks for.

    Raises:
        SystemExit: with 0 after --help, with 2 after a wrong flag.
        ValueError, FileNotFoundError: what was asked for cannot be done.
    """
    flags = _parser().parse_args(argv)
    if flags.local_rank is not None and "WORLD_SIZE" in os.environ:
        os.environ.setdefault("LOCAL_RANK", str(flags.local_rank))
    settings = resolve(flags)
    device = settings["DEVICE"]
    join_processes(device)
    if flags.throughput:
        _throughput(settings)
    elif flags.eval or (flags.snnvalidate and settings.weights is not None):
        opened = _open(settings)
        if flags.eval:
            _evaluate(settings, opened)
        if flags.snnvalidate:
            _validate_snn(settings, opened)
    else:
        checkpoint = _train(settings)
        if flags.snnvalidate:
            _validate_snn(settings, _open(settings, checkpoint))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print_error(f"main.py: error: {message} (see main.py --help)")
        self.exit(2)


REFUSED = {
    "--amp-opt-level": "apex is not used: mixed precision is on by default, and --disable_amp turns it off",
    "--fused_window_process": "there is no fused kernel for windows here",
    "--fused_layernorm": "apex is not used",
}
"""Flags of the code that the released one descends from, and why they have no counterpart."""


class _Refuse(argparse.Action):
    def __init__(self, *args: Any, reason: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reason = reason

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        parser.error(f"{self.option_strings[0]} is refused: {self.reason}")


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be True or False, got {text!r}")
    return text.lower() == "true"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "main.py", description="The released commands of the Masked Spiking Transformer.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--cfg", required=True, metavar="FILE", help="YAML file, for example configs/mst/MST.yaml")
    add("--opts", nargs="+", default=[], metavar="KEY VALUE", help="override keys of the YAML file")
    add("--dataset", help="imagenet, Cifar10 or Cifar100")
    add("--data-path", help="folder with the data set's files")
    add("--batch-size", type=int, help="images at once, for each process")
    add("--masking_ratio", type=float, help="fraction of spikes dropped, in [0, 1)")
    add("--pretrained", metavar="FILE", help="weights: released, a checkpoint of ours, or a Swin's to start from")
    add("--resume", metavar="FOLDER", help="continue the run in this folder")
    add("--eval", action="store_true", help="evaluate the weights as an ANN")
    add("--snnvalidate", type=_boolean, default=False, metavar="True|False", help="validate as a spiking network")
    add("--sim_len", type=int, help="time steps T of the spiking network")
    add("--throughput", action="store_true", help="measure images per second of the ANN, and end")
    add("-lr", "--learning_rate", type=float, help="at the end of the warm-up; not scaled by the batch size")
    add("--optim", help="optimizer, by timm's name")
    add("--threshold", type=float, help="initial threshold of a new network")
    add("--accumulation-steps", type=int, help="batches per step")
    add("--use-checkpoint", action="store_true", help="gradient checkpointing")
    add("--disable_amp", action="store_true", help="train in float32")
    add("--seed", type=int)
    add("--output", help="results go to OUTPUT/<model>/<tag>")
    add("--tag", help="name of this experiment")
    add("--wandb", action="store_true", help="log to Weights & Biases too")
    add("--zip", action="store_true", help="read ImageNet from zip files")
    add("--cache-mode", choices=("no", "full", "part"), help="full reads ImageNet's files into memory")
    add(
        "--on-bad-image", choices=("fail", "skip"), help="at an image file that cannot be decoded (not a released flag)"
    )
    for name, reason in REFUSED.items():
        add(name, nargs="?", const="", action=_Refuse, reason=reason, help=argparse.SUPPRESS)
    add("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)  # torch.distributed.launch passes it
    return parser


# ----------------------------------------------------------------------------------------------- actions


def _train(settings: Settings) -> Path:
    options = TrainingOptions(
        NetworkOptions(
            model=BASE_MODEL,
            model_kwargs=settings.model_kwargs(),
            init_from=_start(settings),
            masking_ratio=settings.masking_ratio or 0.0,
            num_levels=settings["MODEL.NUM_LEVELS"],
        ),
        DataOptions(
            dataset=settings.dataset,
            data_path=settings.data_path,
            interpolation=settings["DATA.INTERPOLATION"],
            crop_ratio=settings.crop_ratio,
            cache_images=settings.cache_images,
            augment=settings.augment(),
            on_bad_image=settings["ON_BAD_IMAGE"],
        ),
        settings.train_config(settings["TRACKERS"]),
    )
    train_and_report(options, settings.output, resume=settings.resumed is not None)
    return settings.output / LAST_CHECKPOINT


def _start(settings: Settings) -> str | None:
    """The weights that training starts from; a resumed run remembers its own."""
    if settings.resumed is None:
        return settings["MODEL.PRETRAINED"] or None
    try:
        begun = json.loads((settings.resumed / OPTIONS_FILE).read_text(encoding="utf-8"))
        return None if begun["init_from"] is None else str(begun["init_from"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{settings.resumed} holds no run that can continue: {OPTIONS_FILE} is missing or damaged"
        ) from error


def _open(settings: Settings, weights: Path | None = None) -> OpenedRun:
    """The weights with the test images of the data set."""
    path = weights or settings.weights
    assert path is not None
    model, info = _load(settings, path)
    settings.check_sizes(model.config, path)
    options = CheckpointOptions(
        path, settings.dataset, settings.data_path, settings["DATA.BATCH_SIZE"], device=settings["DEVICE"],
        num_workers=settings["DATA.NUM_WORKERS"], on_bad_image=settings["ON_BAD_IMAGE"],
    )  # fmt: skip
    return open_network(model, info, options, cache_images=settings.cache_images)


def _load(settings: Settings, path: Path) -> tuple[MaskedSpikingTransformer, CheckpointInfo]:
    ratio = settings.masking_ratio
    try:
        model, info = load_checkpoint(path), read_checkpoint_info(path)
    except NoDescriptionError:
        pass  # weights from elsewhere
    except ValueError:
        if path.suffix == ".safetensors":
            raise
    else:
        if not isinstance(model, MaskedSpikingTransformer):
            raise InputError(f"{path} holds {type(model).__name__}; this command runs the Masked Spiking Transformer")
        if ratio is not None:
            set_masking(model, path, ratio)
        return model, info
    if ratio is None:
        note(f"{path} stores no masking ratio and none is given: 0 is assumed (--masking_ratio)")
    size = settings["DATA.IMG_SIZE"]
    model = import_released(path, size, settings["MODEL.NUM_LEVELS"], ratio or 0.0)
    known = dataset_info(settings.dataset)
    assert known.mean is not None
    assert known.std is not None
    preprocessing = Preprocessing(
        size, model.config.in_chans, known.mean, known.std, settings["DATA.INTERPOLATION"], settings.crop_ratio
    )
    return model, CheckpointInfo(settings.dataset, preprocessing=preprocessing)


def _evaluate(settings: Settings, opened: OpenedRun) -> None:
    prepare_folder(settings.output)
    seed = settings["SEED"]
    report_evaluation(run_evaluation(opened, seed=seed), settings.output, dict(settings.values), seed)


def _validate_snn(settings: Settings, opened: OpenedRun) -> None:
    prepare_folder(settings.output)
    with progress_bar() as progress:
        run = run_simulation(opened, StepOptions(settings["SIM_LEN"], seed=settings["SEED"]), progress=progress)
    report_simulation(run, settings.output, dict(settings.values))
    top1, top5 = run.result.accuracy, run.result.top5_accuracy
    assert top1 is not None
    assert top5 is not None
    for t, (first, among_five) in enumerate(zip(top1.tolist(), top5.tolist(), strict=True), 1):
        print_line(f"step {t:>4}  top-1 {100 * first:.2f} %  top-5 {100 * among_five:.2f} %")


def _throughput(settings: Settings) -> None:
    """Images per second of the ANN on this process's device, at the batch size given."""
    device = choose_device(settings["DEVICE"])
    data = load_dataset(settings.dataset, settings.data_path, img_size=settings["DATA.IMG_SIZE"])
    if settings.weights is not None:
        model, _ = _load(settings, settings.weights)
    else:
        options = settings.model_kwargs() | {"num_classes": data.info.num_classes, "in_chans": data.info.in_chans}
        options |= {"num_levels": settings["MODEL.NUM_LEVELS"], "masking_ratio": settings.masking_ratio or 0.0}
        built = create_model(BASE_MODEL, **options)
        assert isinstance(built, MaskedSpikingTransformer)
        model = built
    count = settings["DATA.BATCH_SIZE"]
    images = [data.test[index % len(data.test)][0] for index in range(count)]
    rate = measure_throughput(model.to(device), torch.stack(images).to(device))
    if is_main_process():
        print_line(f"batch size {count}: {rate:,.1f} images/s on {device}")
