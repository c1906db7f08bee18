"""Files of a user -> classes, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mst.checkpoints import CheckpointInfo, load_checkpoint, pinned_reference, read_checkpoint_info
from mst.conversion import SpikingNetwork, convert
from mst.data import (
    DATASETS,
    PictureInputs,
    Preprocessing,
    RecordingInputs,
    Sensor,
    UnreadableSampleError,
    dataset_info,
    inputs_of,
)
from mst.errors import InputError
from mst.progress import ProgressCallback, Stage
from mst.simulation import SimulationOptions, SimulationResult, readouts_of, run_batches
from mst.text import note
from mst.threads import choose_threads, intra_op_threads
from mst.training import evaluate

from .opening import choose_device, set_masking
from .options import CodingOptions
from .predict_options import PredictionOptions
from .spiking_run import check_coding

SCHEMA_VERSION = 1
"""Version of `predictions.json`."""

IMAGES_OF_PART = 256
"""Images whose logits at all steps are held at once."""


@dataclass(frozen=True)
class Prediction:
    """What a network says about one file."""

    file: Path
    """The file."""

    top: tuple[int, ...]
    """Classes with the largest scores after the last step, best first."""

    scores: tuple[float, ...]
    """Softmax of the read-out of these classes, fractions. They are not calibrated."""

    answers: tuple[tuple[int, int], ...]
    """(step, class): the answer from this step on; the first is of step 1, the last stays to the end."""

    ann_answer: int
    """Answer of the quantised ANN."""

    settled_at: int | None
    """Steps after which no neuron could fire any more; None if it has not settled, or under a coding that does not."""

    ann_difference: float
    """Largest difference of a logit between the SNN after the last step and the quantised ANN."""

    @property
    def answer(self) -> int:
        """Class after the last step."""
        return self.answers[-1][1]

    @property
    def final_from(self) -> int:
        """Step from which the answer no longer changes."""
        return self.answers[-1][0]

    def answer_at(self, step: int) -> int:
        """Class after `step` steps, from 1."""
        return [answer for begin, answer in self.answers if begin <= step][-1]


@dataclass(frozen=True)
class DrawnPrediction:
    """Of the first files also what the network saw, and its scores at each step."""

    prediction: Prediction
    """The prediction."""

    image: Tensor
    """[C, height, width] from 0 to 1 as the network saw it, before normalisation; of recordings counts of events."""

    scores: Tensor
    """[T, K], softmax of the read-out after each step."""


@dataclass(frozen=True)
class PredictionRun:
    """Predictions for some files."""

    checkpoint: Path
    """The network."""

    class_names: tuple[str, ...]
    """Names in the order of the classes; numbers as text where they are not known."""

    coding: CodingOptions
    """The coding."""

    num_steps: int
    """T."""

    predictions: tuple[Prediction, ...]
    """One for each file that could be read."""

    drawn: tuple[DrawnPrediction, ...]
    """The first of them, in full."""

    unreadable: tuple[tuple[Path, str], ...]
    """(file, what is wrong with it)."""

    spikes_per_neuron: float
    """Spikes per neuron and image, mean over images; NaN without images."""

    mean_steps: float
    """Steps that an image took until it had settled, else T; mean over images."""

    def record(self) -> dict[str, Any]:
        """Content of predictions.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "checkpoint": self.checkpoint,
            "coding": self.coding.coding,
            "time_steps": self.num_steps,
            "class_names": self.class_names,
            "spikes_per_neuron": self.spikes_per_neuron,
            "mean_steps": self.mean_steps,
            "files": [
                {
                    "file": each.file,
                    "class": each.answer,
                    "class_name": self.class_names[each.answer],
                    "final_from_step": each.final_from,
                    "settled_at_step": each.settled_at,
                    "ann_class": each.ann_answer,
                    "largest_logit_difference_from_ann": each.ann_difference,
                    "top": [
                        {"class": number, "class_name": self.class_names[number], "score": score}
                        for number, score in zip(each.top, each.scores, strict=True)
                    ],
                    "answers": [{"from_step": step, "class": number} for step, number in each.answers],
                }
                for each in self.predictions
            ],
            "unreadable": [{"file": path, "problem": problem} for path, problem in self.unreadable],
        }


def predict(
    paths: Sequence[Path | str],
    options: PredictionOptions | Path | str,
    coding: CodingOptions = CodingOptions(),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
) -> PredictionRun:
    """What a network says about pictures, arrays or recordings, after each time step.

    Files are preprocessed as the network's test images were. Those that cannot be read are named in the result.

    Args:
        paths: files, or folders in which all files that fit are taken.
        options: the network and how long it looks, or a checkpoint alone.
        coding: how spikes carry activations.
        progress: called with the image-steps done.

    Raises:
        MissingFileError: a path or the checkpoint does not exist.
        InputError: a checkpoint without preprocessing; options without effect; nothing that can be read.
        ConversionError: the coding cannot carry the network.
    """
    options = options if isinstance(options, PredictionOptions) else PredictionOptions(Path(options))
    check_coding(coding)
    if coding.resting_images:
        raise InputError(
            "resting_images needs training images, which a prediction does not open", remedy="leave it out"
        )
    checkpoint = pinned_reference(options.checkpoint)
    model, info, preprocessing = _opened(checkpoint, options)
    known = dataset_info(info.dataset) if info.dataset in DATASETS else None
    sensor = None if options.sensor is None else Sensor(*options.sensor)
    inputs = inputs_of([Path(path) for path in paths], preprocessing, known, sensor, options.slices)
    reader = _Reader(inputs, options.batch_size)
    shape = (preprocessing.in_chans, *preprocessing.size)
    with intra_op_threads(choose_threads(model, shape, options.batch_size, options.threads)):
        made, seen, results = _simulated(model, reader, options, coding, progress)
        zeros = ((_whole(images), torch.zeros(len(images), dtype=torch.int64)) for images in reader.batches())
        ann = evaluate(model, zeros, seed=options.seed).logits
    differences = (torch.cat([result.logits for result in results]) - ann).abs().amax(dim=1).tolist()
    names = info.class_names or (() if known is None else known.class_names)
    predictions = tuple(
        replace(each, ann_answer=answer, ann_difference=difference)
        for each, answer, difference in zip(made, ann.argmax(dim=1).tolist(), differences, strict=True)
    )
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
    drawn = tuple(
        DrawnPrediction(each, (_whole(image[None])[0] * std + mean), scores)
        for each, (image, scores) in zip(predictions, seen, strict=False)
    )
    images = sum(result.num_images for result in results)
    neurons = sum(site.num_neurons for site in results[0].sites.values())
    return PredictionRun(
        checkpoint,
        tuple(names) or tuple(map(str, range(results[0].logits.shape[1]))),
        coding,
        options.time_steps,
        predictions,
        drawn,
        tuple(reader.unreadable.items()),
        sum(sum(result.spike_counts.values()) for result in results) / (images * neurons) if neurons else math.nan,
        sum(float(result.steps_taken.sum()) for result in results) / images,
    )


def _opened(checkpoint: Path, options: PredictionOptions) -> tuple[nn.Module, CheckpointInfo, Preprocessing]:
    """The network on its device, with its description.

    Raises:
        InputError: a checkpoint without preprocessing.
    """
    info = read_checkpoint_info(checkpoint)
    if info.preprocessing is None:
        raise InputError(
            "it does not state how its images are made", where=str(checkpoint),
            remedy="save it with mst.save_checkpoint(model, path, CheckpointInfo(preprocessing=...))",
        )  # fmt: skip
    model = load_checkpoint(checkpoint)
    if options.masking_ratio is not None:
        set_masking(model, checkpoint, options.masking_ratio)
    return model.to(choose_device(options.device)), info, info.preprocessing


class _Reader:
    """Reads files in batches, and leaves out those that cannot be read.

    Attributes:
        unreadable: file -> what is wrong with it, of those that have been tried.
    """

    def __init__(self, inputs: PictureInputs | RecordingInputs, batch_size: int) -> None:
        self._inputs, self._batch_size = inputs, batch_size
        self.unreadable: dict[Path, str] = {}
        self.files: list[Path] = []

    def __len__(self) -> int:
        return len(self._inputs.paths)

    def batches(self) -> Iterator[Tensor]:
        """Images [B, C, height, width], or in slices [B, K, C, height, width], in the order of `files`.

        Raises:
            InputError: no file can be read.
        """
        self.files, batch = [], []
        for index, path in enumerate(self._inputs.paths):
            if path in self.unreadable:
                continue
            try:
                batch.append(self._inputs.read(index))
            except UnreadableSampleError as error:
                self.unreadable[path] = error.what
                continue
            self.files.append(path)
            if len(batch) == self._batch_size:
                yield torch.stack(batch)
                batch = []
        if batch:
            yield torch.stack(batch)
        if not self.files:
            problems = "; ".join(f"{path}: {problem}" for path, problem in self.unreadable.items())
            raise InputError(f"no file can be read: {problems}")


def _simulated(
    model: nn.Module,
    reader: _Reader,
    options: PredictionOptions,
    coding: CodingOptions,
    progress: ProgressCallback | None,
) -> tuple[list[Prediction], list[tuple[Tensor, Tensor]], list[SimulationResult]]:
    """Predictions without the ANN's answers; images and scores of the first files; results of the parts."""
    stage = Stage(progress, f"simulating {options.time_steps} steps", len(reader) * options.time_steps, "image-steps")
    how = SimulationOptions(
        options.time_steps, keep_step_logits=True, record_operations=False, seed=options.seed,
        in_slices=options.slices is not None, input_steps=coding.input_steps,
    )  # fmt: skip
    snn: SpikingNetwork | None = None
    made: list[Prediction] = []
    seen: list[tuple[Tensor, Tensor]] = []
    results: list[SimulationResult] = []
    for part in _parts(reader.batches()):
        if snn is None:
            snn = convert(model, coding.coding, _whole(part[0][:1]), burst=coding.burst, schedule=coding.schedule)
            for text in snn.notes:
                note(text)
            how.check_coding(snn.coding)
        first = len(made)
        result = run_batches(snn, ((images, None) for images in part), how, first_image=first, progress=stage.advance)
        scores_TNK = readouts_of(result).softmax(dim=2)
        files = reader.files[first : first + result.num_images]
        made += [_prediction(file, number, scores_TNK, result, options.top) for number, file in enumerate(files)]
        images = torch.cat(part)[: max(0, options.drawn - first)]
        seen += [(image, scores_TNK[:, number]) for number, image in enumerate(images)]
        results.append(replace(result, step_logits=None))  # which holds most of the memory
    return made, seen, results


def _parts(batches: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    """Batches together, about `IMAGES_OF_PART` images each."""
    part: list[Tensor] = []
    for images in batches:
        part.append(images)
        if sum(map(len, part)) >= IMAGES_OF_PART:
            yield part
            part = []
    if part:
        yield part


def _whole(images: Tensor) -> Tensor:
    """What an ANN sees of images in slices [B, K, ...]: their mean."""
    return images.mean(dim=1) if images.dim() == 5 else images


def _prediction(file: Path, number: int, scores_TNK: Tensor, result: SimulationResult, top: int) -> Prediction:
    answers_T = scores_TNK[:, number].argmax(dim=1)
    begins = [0, *((answers_T[1:] != answers_T[:-1]).nonzero()[:, 0] + 1).tolist()]
    best = scores_TNK[-1, number].topk(min(top, scores_TNK.shape[2]))
    settled = -1 if result.settled_at is None else int(result.settled_at[number])
    return Prediction(
        file, tuple(best.indices.tolist()), tuple(best.values.tolist()),
        tuple((step + 1, int(answers_T[step])) for step in begins), -1, settled if settled >= 0 else None,
        math.nan,
    )  # fmt: skip
