"""A training as a user asks for it: options in; checkpoints, history and a record out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mst.checkpoints import HUB, CheckpointInfo, pinned_reference
from mst.data import DataSplits, load_dataset
from mst.distributed import is_main_process, join_processes, num_processes, one_process_first, runs_on_cpu
from mst.files import prepare_folder, write_json
from mst.options import flatten
from mst.progress import ProgressCallback
from mst.text import note
from mst.threads import choose_threads, intra_op_threads
from mst.training import EpochRecord, TrainingObserver, TrainingResult, has_training_state, train

from .networks import build_network, image_size_option, start_from
from .options import TrainingOptions
from .records import run_record, write_run_record
from .teachers import build_teacher

OPTIONS_FILE = "options.json"
"""The options of a training, in its output folder; resuming reads it."""


@dataclass(frozen=True)
class TrainingRun:
    """A finished training."""

    options: TrainingOptions
    """The options, with every default filled in."""

    network: nn.Module
    """The network with its last weights."""

    result: TrainingResult
    """History, best accuracy and checkpoints."""

    record: Path | None
    """The run record; None in the other of several processes."""

    def __repr__(self) -> str:
        last = self.result.history[-1]
        return (
            f"TrainingRun({self.options.network.model} on {self.options.data.dataset}, {len(self.result.history)} "
            f"epochs, {100 * last.accuracy:.2f} %, {self.result.last_checkpoint})"
        )


def open_training_data(options: TrainingOptions) -> DataSplits:
    """The data set of a training, augmented as the options ask.

    Raises:
        MissingFileError, InputError: as `load_dataset`.
    """
    with one_process_first():
        return load_dataset(replace(options.data, img_size=image_size_option(options.data.img_size, options.network)))


def run_training(
    options: TrainingOptions,
    output: str | Path,
    *,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingRun:
    """Train an ANN with quantised activations and, if asked, masks.

    Writes last.safetensors and best.safetensors (best on the test split), the training state, TensorBoard logs and
    run_record.json to `output`.

    Args:
        options: the network, the images and how to train; `mst.load_recipe` returns one.
        output: folder for everything that this run writes.
        resume: continue the run in `output` exactly where it stopped.
        progress: called after each step.
        on_epoch: called with the record of each epoch.

    Raises:
        InputError: options that do not go together or that the data set refuses.
        MissingFileError: the data set's files, or a state to resume, do not exist.
        OSError: the folder cannot be written.
        TrainingStoppedError: SIGTERM or Ctrl-C; the training state has been written.
    """
    output = prepare_folder(Path(output))
    join_processes(options.train.device)
    options = with_pinned_checkpoints(options)
    settings = {"output": output, **flatten(options), "resume": resume}
    if resume and not has_training_state(output) and (output / OPTIONS_FILE).exists():
        note(f"the run in {output} was cut before its first training state was written; it starts from scratch")
        resume = False
    if not resume and not has_training_state(output) and is_main_process():
        write_json(output / OPTIONS_FILE, {**settings, "resume": False})
    splits = open_training_data(options)
    torch.manual_seed(options.train.seed)
    network = build_network(options.network, splits, download=not resume)
    if not resume:
        start_from(network, options.network, splits)
    record = None
    teacher = build_teacher(options, splits)
    with intra_op_threads(_threads(options, network, splits)):
        result = _train(network, teacher, splits, output, options, resume, TrainingObserver(progress, on_epoch))
        if is_main_process():
            record = write_run_record(output, _record(options, settings, network, splits, result))
    return TrainingRun(options, network, result, record)


def with_pinned_checkpoints(options: TrainingOptions) -> TrainingOptions:
    """The options with commits in names of checkpoints on the hub, so that a resumed run starts from these weights."""
    start, teacher = (
        name if name is None or not name.startswith(HUB) else str(pinned_reference(Path(name)))
        for name in (options.network.init_from, options.teacher)
    )
    return replace(options, network=replace(options.network, init_from=start), teacher=teacher)


def _threads(options: TrainingOptions, network: nn.Module, splits: DataSplits) -> int:
    """CPU threads for the training; where an accelerator computes, as many as there are."""
    if not runs_on_cpu(options.train.device):
        return options.threads or torch.get_num_threads()
    shape = (splits.preprocessing.in_chans, *splits.preprocessing.size)
    return choose_threads(network, shape, options.train.batch_size, options.threads)


def _train(
    network: nn.Module,
    teacher: nn.Module | None,
    splits: DataSplits,
    output: Path,
    options: TrainingOptions,
    resume: bool,
    observer: TrainingObserver,
) -> TrainingResult:
    data = options.data
    provenance = {
        "model": options.network.model,
        "init_from": options.network.init_from,
        "pretrained": options.network.pretrained,
        "teacher": options.teacher,
        "augment": asdict(data.augment if splits.info.sensor is None else data.event_augment),
        "data_fingerprint": splits.fingerprint,
    }
    info = CheckpointInfo(data.dataset, splits.info.class_names, splits.preprocessing, provenance)
    return train(
        network, splits.train, splits.test, output, options.train, info,
        resume=resume, observer=observer, teacher=teacher,
    )  # fmt: skip


def _record(
    options: TrainingOptions, settings: dict[str, Any], network: nn.Module, splits: DataSplits, result: TrainingResult
) -> dict[str, Any]:
    results = {
        "accuracy": result.history[-1].accuracy,
        "best_accuracy": result.best_accuracy,
        "num_parameters": sum(p.numel() for p in network.parameters()),
        "seconds": sum(record.seconds for record in result.history),
        "history": result.history,
        "num_processes": num_processes(),
    }
    device = str(next(network.parameters()).device)
    return run_record(
        "train", settings, results, seed=options.train.seed, device=device, data_fingerprint=splits.fingerprint
    )
