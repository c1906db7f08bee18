"""A checkpoint as a file for other simulators, runtimes and chips, verified on test images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mst.conversion import convert
from mst.errors import InputError
from mst.interchange import (
    ChipCheck,
    Comparison,
    Graph,
    GraphNetwork,
    GraphRun,
    StepNetwork,
    Steps,
    Verification,
    ann_network,
    check_chip,
    compare_onnx,
    compare_spikes,
    export_onnx,
    export_torch,
    load,
    network_steps,
    quantize_weights,
    read_out,
    round_weights,
    run_steps,
    trace_graph,
    use_float64_operations,
    write_nir,
)
from mst.models import copy_network
from mst.progress import ProgressCallback, Stage
from mst.quantization import image_shape_of
from mst.threads import intra_op_threads

from .export_options import SUFFIXES, ExportOptions
from .opening import OpenedRun, load_network, open_checkpoint
from .options import CheckpointOptions, CodingOptions
from .spiking_run import check_coding


@dataclass(frozen=True)
class ExportRun:
    """A checkpoint that has been exported."""

    file: Path
    """The file that was written."""

    options: ExportOptions
    """As they were asked for."""

    graph: Graph | None = None
    """nir: what the file holds."""

    chip: ChipCheck | None = None
    """The chip that it was held against."""

    verification: Verification | None = None
    """nir: spikes here and in the other simulator."""

    comparison: Comparison | None = None
    """onnx: answers in torch and in onnxruntime."""

    exact: Comparison | None = None
    """onnx: likewise of a copy in float64."""

    plain: GraphRun | None = None
    """The network with its own weights on test images, where weights were rounded."""

    rounded: GraphRun | None = None
    """The network with rounded weights on the same images."""

    any_batch: bool = True
    """False if the file takes one image at a time."""

    def figures(self) -> dict[str, Any]:
        """The results as plain values."""
        found: dict[str, Any] = {}
        if self.verification is not None:
            each = self.verification
            found |= {
                "spikes": each.spikes, "differing": each.differing, "compared": each.compared,
                "same_answers": each.same_answers, "num_images": each.num_images, "num_steps": each.num_steps,
                "differing_by_site": {name: site.differing for name, site in each.sites.items()},
            }  # fmt: skip
        if self.comparison is not None:
            found |= {"comparison": self.comparison}
        if self.exact is not None:
            found |= {"exact": self.exact}
        if self.plain is not None and self.rounded is not None:
            found |= {"plain": self.plain, "rounded": self.rounded}
        if self.chip is not None:
            found |= {"fits": self.chip.fits, "too_large": self.chip.too_large, "refusals": self.chip.refusals}
        return found


def run_export(
    checkpoint: CheckpointOptions,
    options: ExportOptions,
    coding: CodingOptions = CodingOptions(),  # noqa: B008  frozen
    *,
    progress: ProgressCallback | None = None,
) -> ExportRun:
    """Export a checkpoint, and verify the file if asked.

    Test images are opened only where something runs on them.

    Args:
        checkpoint: the network, and the images.
        options: the form of the file, and what is verified.
        coding: of a time step.
        progress: called with the image-steps done.

    Returns:
        The file, and what was found.

    Raises:
        ExportError: places that the file cannot hold, all of them (it is an InputError).
        MissingFileError, InputError: as `open_checkpoint`; a package that is not installed; options without effect.
    """
    check_coding(coding)
    if options.part != "step" and coding != CodingOptions():
        raise InputError("the coding has no effect without --to onnx --part step", remedy="leave its options out")
    opened: OpenedRun | None = None
    if options.verify is not None or options.weight_bits is not None:
        opened = open_checkpoint(checkpoint)
        model = opened.model
    else:
        model = load_network(checkpoint)
    model = copy_network(model).cpu().eval()
    file = options.output or Path(checkpoint.checkpoint.stem.rpartition(":")[2] + SUFFIXES[options.to])
    with intra_op_threads(1 if opened is None else opened.threads):
        if options.to == "nir":
            return _export_nir(model, opened, options, file, progress)
        return _export_program(model, opened, options, coding, file)


def _export_nir(
    model: nn.Module, opened: OpenedRun | None, options: ExportOptions, file: Path, progress: ProgressCallback | None
) -> ExportRun:
    graph = plain = trace_graph(model)
    if options.weight_bits is not None:
        graph = quantize_weights(graph, options.weight_bits)
    write_nir(graph, file)
    chip = None if options.check is None else check_chip(graph, options.check)
    verification = before = after = None
    if opened is not None:
        dtype = torch.float64 if options.in_double else torch.float32
        images = min(options.images, opened.num_images)
        count = images * options.time_steps

        def advance(name: str) -> Any:
            stage = Stage(progress, name, count, "image-steps")
            return lambda image_steps: stage.advance(image_steps)

        ours: Steps = GraphNetwork(graph, dtype).steps
        if options.weight_bits is None:
            snn = convert(copy_network(model).to(dtype), "rate")
            ours = partial(network_steps, snn)
        else:
            labelled = list(_batches(opened, images, dtype))
            others = GraphNetwork(plain, dtype).steps
            before = run_steps(others, labelled, options.time_steps, advance("simulating with unrounded weights"))
            after = run_steps(ours, labelled, options.time_steps, advance("simulating with rounded weights"))
        if options.verify is not None:
            theirs = load(file, options.verify, dtype=dtype).steps
            batches = (images for images, _ in _batches(opened, images, dtype))
            verification = compare_spikes(
                ours, theirs, batches, options.time_steps, advance(f"comparing with {options.verify}")
            )
    return ExportRun(file, options, graph, chip, verification, plain=before, rounded=after)


def _export_program(
    model: nn.Module, opened: OpenedRun | None, options: ExportOptions, coding: CodingOptions, file: Path
) -> ExportRun:
    shape = image_shape_of(model)
    if shape is None:
        raise InputError("it does not state which images it takes", remedy="quantise it with calibration images")
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()).dtype)
    facts: dict[str, Any] = {"weight_bits": options.weight_bits}
    network = written = _network(model, images, options, coding)
    if options.part == "step":
        facts |= {"coding": coding.coding}
    elif options.to == "onnx" and options.weight_bits is not None and options.qdq is not False:
        written = ann_network(model, options.weight_bits, quantized=True)
    program = export_onnx(written, images, file, facts) if options.to == "onnx" else export_torch(written, images, file)
    comparison = exact = before = after = None
    if opened is not None:
        batches = list(_batches(opened, options.images, images.dtype))
        if options.verify is not None:
            comparison = compare_onnx(network, program, (each for each, _ in batches), options.time_steps)
            if options.in_double:
                exact = _compared_in_double(model, images, batches, options, coding)
        if options.weight_bits is not None:
            plain = _network(model, images, replace(options, weight_bits=None, qdq=None), coding)
            before, after = (_accuracy(each, batches, options.time_steps) for each in (plain, network))
    any_batch = program.any_batch
    return ExportRun(
        file, options, comparison=comparison, exact=exact, plain=before, rounded=after, any_batch=any_batch
    )  # fmt: skip


def _network(model: nn.Module, images: Tensor, options: ExportOptions, coding: CodingOptions) -> Any:
    """The network that is exported, without QuantizeLinear."""
    if options.part == "ann":
        return ann_network(model, options.weight_bits)
    if options.weight_bits is not None:
        model = round_weights(copy_network(model), options.weight_bits)
    return StepNetwork(convert(model, coding.coding, images, burst=coding.burst, schedule=coding.schedule), images)


def _compared_in_double(
    model: nn.Module,
    images: Tensor,
    batches: list[tuple[Tensor, Tensor]],
    options: ExportOptions,
    coding: CodingOptions,
) -> Comparison:
    """A copy in float64, in torch and in onnxruntime."""
    ours, theirs = (_network(copy_network(model).double(), images.double(), options, coding) for _ in range(2))
    use_float64_operations(theirs)
    with TemporaryDirectory() as folder:
        program = export_onnx(theirs, images.double(), Path(folder) / "double.onnx")
        return compare_onnx(ours, program, (each.double() for each, _ in batches), options.time_steps)


def _accuracy(network: Any, batches: list[tuple[Tensor, Tensor]], num_steps: int) -> GraphRun:
    """Without spikes: an ANN sends none, and a program does not return those of its steps."""
    hits = sum(int((read_out(network, images, num_steps).argmax(dim=1) == labels).sum()) for images, labels in batches)
    number = sum(len(labels) for _, labels in batches)
    return GraphRun(hits / max(1, number), 0.0, number)


def _batches(opened: OpenedRun, most: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """The first test images with their labels."""
    left = min(most, opened.num_images)
    reading: Any = DataLoader(opened.images, opened.batch_size, num_workers=opened.num_workers)
    for images, labels in reading:
        yield images[:left].to(dtype), labels[:left]
        left -= len(images[:left])
        if left <= 0:
            return
