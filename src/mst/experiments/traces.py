"""Traces of a run: which images and sites, with what is needed to show them, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from mst.conversion import SpikingNetwork
from mst.data import Preprocessing
from mst.errors import InputError, MissingFileError
from mst.files import write_atomically
from mst.neurons import select_sites
from mst.simulation import ImageTrace, SimulationOptions, SimulationResult, SiteTrace, trace_images
from mst.text import note
from mst.training import Evaluation

from .opening import OpenedRun
from .options import CodingOptions, StepOptions
from .trace_options import MOST_SITES, TraceOptions

TRACES_FILE = "traces.safetensors"
"""The file beside simulation.json."""

MOST_VALUES = 2**22
"""Most numbers in all traces of a run, of spikes and of potentials each; neurons are left out until they fit."""

_DEFAULT_IMAGES = 3


@dataclass(frozen=True, repr=False)
class TracedImage:
    """The trace of one image, and the image."""

    trace: ImageTrace
    """Its trace."""

    picture: Tensor
    """uint8 [height, width] or [height, width, 3], as the network sees it."""

    label: int | None
    """Its class, if it is known."""

    ann_scores: Tensor
    """float32 [K]: logits of the ANN."""


@dataclass(frozen=True, repr=False)
class RunTraces:
    """Traces of a run."""

    images: tuple[TracedImage, ...]
    """One for each image asked for."""

    class_names: tuple[str, ...]
    """Names of the classes; empty if they are not known."""

    sends_changes: bool
    """True if spikes stand for changes, and are counted in quanta."""

    notes: tuple[str, ...]
    """Limits that have cut something, in words."""

    score_difference: float | None
    """Largest difference between a score at the end of a trace and that of the run in batches; None with early exit."""


def sites_to_trace(opened: OpenedRun, options: TraceOptions) -> list[str]:
    """Names of the sites that the options select.

    Raises:
        InputError: no site matches, or an image that is not there.
    """
    for index in options.trace_images or ():
        if index >= opened.num_images:
            raise InputError(f"trace_images: there is no image {index} among the {opened.num_images} test images")
    return [] if options.trace_sites is None else list(select_sites(opened.model, options.trace_sites))


def one_by_one(steps: StepOptions, coding: CodingOptions) -> SimulationOptions:
    """Options of a simulation that shows the images of a run one by one."""
    return SimulationOptions(
        steps.time_steps, seed=steps.seed, in_slices=steps.slices is not None, input_steps=coding.input_steps
    )


def record_traces(
    opened: OpenedRun,
    snn: SpikingNetwork,
    images: Dataset[tuple[Tensor, int]],
    simulation: SimulationOptions,
    options: TraceOptions,
    result: SimulationResult,
    evaluation: Evaluation,
) -> RunTraces:
    """Simulate some images of a run again and record them.

    Args:
        opened: the run.
        snn: its spiking network.
        images: what it has simulated, which may be slices.
        simulation: steps, seed and input of the run.
        options: what to record.
        result, evaluation: of SNN and ANN on all images.

    Raises:
        InputError: as `trace_images`.
    """
    names = sites_to_trace(opened, options)
    indices = options.trace_images or range(min(_DEFAULT_IMAGES, opened.num_images))
    sites, neurons, notes = _within_limits(names, len(indices), simulation.num_steps, options.trace_neurons)
    shown = [(index, *images[index]) for index in indices]
    traces = trace_images(snn, [(index, image) for index, image, _ in shown], simulation, sites, neurons)
    difference = None
    if result.early_exit is None:
        last = torch.stack([trace.scores[-1] for trace in traces])
        difference = float((last - result.logits[list(indices)]).abs().max())
    for text in notes:
        note(text)
    return RunTraces(
        tuple(
            TracedImage(
                trace,
                picture_of(image, opened.data.preprocessing),
                int(label) if label >= 0 else None,
                evaluation.logits[trace.index].float().cpu(),
            )
            for trace, (_, image, label) in zip(traces, shown, strict=True)
        ),
        tuple(opened.data.info.class_names),
        snn.coding.sends_changes,
        notes,
        difference,
    )


def _within_limits(
    names: Sequence[str], num_images: int, num_steps: int, neurons: int
) -> tuple[Sequence[str], int, tuple[str, ...]]:
    """Sites and neurons that are recorded, and what has been left out, in words."""
    notes = []
    if len(names) > MOST_SITES:
        notes.append(f"Traces hold the first {MOST_SITES} of {len(names)} sites that were selected.")
        names = names[:MOST_SITES]
    fit = max(1, MOST_VALUES // max(1, num_images * len(names) * num_steps))
    if fit < neurons:
        notes.append(f"Traces hold {fit} instead of {neurons} neurons of a site, {MOST_VALUES:,} numbers in all.")
    return names, min(fit, neurons), tuple(notes)


def picture_of(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """An image as people can look at it.

    Args:
        image: as the network takes it, [C, height, width], or slices [K, C, height, width], which are averaged.
        preprocessing: what has been done to it.

    Returns:
        uint8 [height, width, 3] of three channels; otherwise the mean of all channels, [height, width].
    """
    pixels = image.float().cpu().mean(dim=0) if image.dim() == 4 else image.float().cpu()
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    pixels = pixels * std + mean
    pixels = pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels.mean(dim=0)
    if preprocessing.events is not None:  # counts
        pixels = pixels / pixels.max().clamp_min(1e-6)
    return (255 * pixels.clamp(0, 1)).round().to(torch.uint8).contiguous()


# --------------------------------------------------------------------------------------------------- the file


def write_traces(path: Path, traces: RunTraces) -> Path:
    """Write the traces as safetensors.

    Raises:
        OSError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    described = []
    for number, image in enumerate(traces.images):
        trace, key = image.trace, f"image{number}"
        tensors |= {
            f"{key}.picture": image.picture,
            f"{key}.ann_scores": image.ann_scores,
            f"{key}.scores": trace.scores,
        }
        for place, site in enumerate(trace.sites.values()):
            parts = {"neurons": site.neurons, "sent": site.sent, "potential": site.potential}
            tensors |= {f"{key}.site{place}.{part}": each for part, each in parts.items() if each is not None}
        tensors |= {f"{key}.attention{n}": each for n, each in enumerate(trace.attention.values())}
        described.append({
            "index": trace.index, "label": image.label, "attention": list(trace.attention),
            "sites": {name: site.num_neurons for name, site in trace.sites.items()},
        })  # fmt: skip
    content = {
        "version": 1, "images": described, "class_names": traces.class_names, "sends_changes": traces.sends_changes,
        "notes": traces.notes, "score_difference": traces.score_difference,
    }  # fmt: skip
    whole = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_file(whole, temporary, {"traces": json.dumps(content)}))
    return path


def read_traces(path: Path) -> RunTraces:
    """The traces in a file.

    Raises:
        MissingFileError: it does not exist.
        InputError: it is damaged or holds something else.
    """
    if not path.is_file():
        raise MissingFileError("the file is missing", where=str(path), remedy="run the verb again")
    try:
        with safe_open(str(path), "pt") as file:
            content = json.loads((file.metadata() or {})["traces"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        images = tuple(_read_image(tensors, n, each) for n, each in enumerate(content["images"]))
        difference = content["score_difference"]
        return RunTraces(
            images,
            tuple(map(str, content["class_names"])),
            bool(content["sends_changes"]),
            tuple(map(str, content["notes"])),
            None if difference is None else float(difference),
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"it cannot be read ({error})", where=str(path), remedy="run the verb again") from error


def _read_image(tensors: dict[str, Tensor], number: int, described: dict[str, Any]) -> TracedImage:
    key = f"image{number}"
    scores, ann_scores = tensors[f"{key}.scores"], tensors[f"{key}.ann_scores"]
    steps, classes = scores.shape
    sites = {}
    for place, (name, total) in enumerate(described["sites"].items()):
        neurons, sent = tensors[f"{key}.site{place}.neurons"], tensors[f"{key}.site{place}.sent"]
        potential = tensors.get(f"{key}.site{place}.potential")
        for each in (sent, potential):
            if each is not None and each.shape != (steps, len(neurons)):
                raise ValueError(f"{name}: {tuple(each.shape)} values for {len(neurons)} neurons and {steps} steps")
        sites[str(name)] = SiteTrace(neurons, int(total), sent, potential)
    attention = {str(name): tensors[f"{key}.attention{n}"] for n, name in enumerate(described["attention"])}
    label, picture = described["label"], tensors[f"{key}.picture"]
    known = label is None or (isinstance(label, int) and 0 <= label < classes)
    if not known or ann_scores.shape != (classes,) or picture.dtype != torch.uint8 or picture.dim() not in (2, 3):
        raise ValueError(f"the parts of image {number} do not fit each other")
    if any(each.dim() != 4 for each in attention.values()):
        raise ValueError(f"a map of image {number} is not [windows, heads, queries, keys]")
    return TracedImage(ImageTrace(int(described["index"]), scores, sites, attention), picture, label, ann_scores)
