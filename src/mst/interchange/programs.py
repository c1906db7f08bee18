"""Networks as files of ONNX and of torch.export, and files of ONNX compared with the networks they came from.

Letters: B images, T steps, K classes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mst.errors import InputError
from mst.files import write_atomically
from mst.text import one_line

from .nir_files import package
from .stateless import STEP, AnnNetwork, StepNetwork
from .weights import check_bits, integer_weights
from .whole_weights import release_weights_of_analog_values

Network = AnnNetwork | StepNetwork

FACTS = "mst"
"""Key of the metadata of a file: what its inputs and outputs stand for, as JSON."""

MOST_IMAGES = 4096
"""Largest number of images that the batch axis of an exported network is declared for."""

OPSET = 20


@dataclass(frozen=True)
class Program:
    """A file that was written."""

    path: Path
    """The file."""

    inputs: tuple[str, ...]
    """Names of the inputs."""

    outputs: tuple[str, ...]
    """Names of the outputs."""

    any_batch: bool
    """True if the number of images is free. False: it is 1, since the network computes with it."""


def ann_network(model: nn.Module, weight_bits: int | None = None, *, quantized: bool = False) -> AnnNetwork:
    """The quantised ANN for export.

    Args:
        model: an ANN with QCFS sites.
        weight_bits: round the weights of linear maps and convolutions to this many bits, from 2 to 8 where `quantized`.
        quantized: write QuantizeLinear and DequantizeLinear where levels fit into 8 bits, and so the rounded weights.
            Such a network can only be exported to ONNX.

    Raises:
        ExportError, InputError: as `AnnNetwork`; bits out of range; `quantized` without `weight_bits`, since behind
            such levels onnxruntime rounds floating-point weights to 8 bits, unasked.
    """
    if quantized and weight_bits is None:
        raise InputError(
            "behind QuantizeLinear onnxruntime rounds floating-point weights to 8 bits, unasked",
            remedy="round them here, with weight_bits",
        )
    network = AnnNetwork(model, _rounded_by_onnx if quantized else None)
    if weight_bits is not None:
        _round_weights(network, check_bits(weight_bits), quantized)
    return network


def round_weights(model: nn.Module, bits: int) -> nn.Module:
    """Round the weights of linear maps and convolutions in place, each output channel to multiples of a scale.

    Args:
        model: an ANN, before `convert`.
        bits: see `integer_weights`.

    Returns:
        `model`.

    Raises:
        InputError: bits out of range.
    """
    _round_weights(model, check_bits(bits), quantized=False)
    return model


def _rounded_by_onnx(x: Tensor, quantum: Any, levels: tuple[int, int]) -> Tensor:
    """Levels by QuantizeLinear and back by DequantizeLinear, where they fit into 8 bits."""
    lowest, highest = levels
    number = None if isinstance(quantum, Tensor) else float(quantum)
    is_signed = lowest >= -128 and highest <= 127
    if number is None or not (is_signed or (lowest >= 0 and highest <= 255)):
        rounded: Tensor = (x * (1 / quantum) + 0.5).clamp(lowest, highest).floor() * quantum
        return rounded
    kind = torch.int8 if is_signed else torch.uint8
    scale, zero = torch.tensor(number, dtype=x.dtype), torch.zeros((), dtype=kind)
    clipped = x.clamp(lowest * number, highest * number)
    return _dequantized(_symbolic("QuantizeLinear", (clipped, scale, zero), {}, kind, x.shape), scale, zero, x.dtype)


def _dequantized(whole: Tensor, scale: Tensor, zero: Tensor, dtype: torch.dtype, axis: int | None = None) -> Tensor:
    attributes = {} if axis is None else {"axis": axis}
    return _symbolic("DequantizeLinear", (whole, scale, zero), attributes, dtype, whole.shape)


def _symbolic(name: str, inputs: Sequence[Tensor], attributes: dict[str, Any], dtype: Any, shape: Any) -> Tensor:
    operators: Any = torch.onnx.ops
    made: Tensor = operators.symbolic(name, inputs, attributes, dtype=dtype, shape=shape, version=OPSET)
    return made


class _WholeWeight(nn.Module):
    """Parametrisation: a weight as whole numbers and scales."""

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        whole, scale = integer_weights(weight.detach(), bits)
        self.register_buffer("whole", whole.to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(len(scale), dtype=torch.int8))

    def forward(self, weight: Tensor) -> Tensor:
        held: Any = self
        return _dequantized(held.whole, held.scale, held.zero, weight.dtype, axis=0)


def _round_weights(network: nn.Module, bits: int, quantized: bool) -> None:
    if quantized and bits > 8:
        raise InputError(f"QuantizeLinear takes weights of at most 8 bits here, got {bits}")
    for module in network.modules():
        if type(module) not in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
            continue
        weight: Any = module.weight
        if quantized:
            nn.utils.parametrize.register_parametrization(module, "weight", _WholeWeight(weight, bits), unsafe=True)
        else:
            whole, scale = integer_weights(weight.detach(), bits)
            weight.data = whole * scale.reshape(-1, *[1] * (weight.dim() - 1))


def export_onnx(network: Network, images: Tensor, path: Path | str, facts: dict[str, Any] | None = None) -> Program:
    """Write a network as a file of ONNX with standard operators.

    Args:
        network: result of `ann_network`, or a `StepNetwork`.
        images: [B, ...] with B >= 2, for their shape.
        path: the file, by custom *.onnx.
        facts: further entries of the metadata.

    Returns:
        The file, with its inputs and outputs.

    Raises:
        InputError: the packages onnx and onnxscript are not installed; torch cannot export the network.
        OSError: the file cannot be written.
    """
    package("onnx")
    package("onnxscript")
    inputs, outputs = _names(network)

    def export(given: tuple[Any, ...], shapes: Any) -> Any:
        made: Any = torch.onnx.export(
            network, given, dynamo=True, dynamic_shapes=shapes, input_names=inputs, output_names=outputs,
            opset_version=OPSET, verbose=False,
        )  # fmt: skip
        if shapes is not None and isinstance(made.model.graph.inputs[0].shape[0], int):
            raise ValueError("the exporter has fixed the number of images")
        return made

    program, any_batch = _exported(network, images, export)
    is_step = isinstance(network, StepNetwork)
    about = {
        "network": "step" if is_step else "ann", "any_batch": any_batch,
        "prediction": "mean of the logits" if is_step and network.averages_logits else "logits", **(facts or {}),
    }  # fmt: skip
    release_weights_of_analog_values(program.model.graph)
    program.model.metadata_props[FACTS] = json.dumps(about)
    write_atomically(Path(path), lambda temporary: program.save(temporary))
    return Program(Path(path), tuple(inputs), tuple(outputs), any_batch)


def export_torch(network: Network, images: Tensor, path: Path | str) -> Program:
    """Write a network as a program of torch.export, which `torch.export.load(path).module()` makes callable.

    Args:
        network, images, path: see `export_onnx`; the path by custom *.pt2.

    Raises:
        InputError: torch cannot export the network.
        OSError: the file cannot be written.
    """
    inputs, outputs = _names(network)

    def export(given: tuple[Any, ...], shapes: Any) -> Any:
        return torch.export.export(network, given, dynamic_shapes=shapes)

    program, any_batch = _exported(network, images, export)

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            torch.export.save(program, file)

    write_atomically(Path(path), write)
    return Program(Path(path), tuple(inputs), tuple(outputs), any_batch)


def _names(network: Network) -> tuple[list[str], list[str]]:
    if not isinstance(network, StepNetwork):
        return ["images"], ["logits"]
    names = [name.replace(".", "_") or "network" for name in network.state_names]
    return ["images", STEP, *(f"{name}_before" for name in names)], ["logits", *(f"{name}_after" for name in names)]


def _exported(network: Network, images: Tensor, export: Any) -> tuple[Any, bool]:
    """What `export` returns, with a free number of images where the network allows it."""
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    free: tuple[Any, ...] = ({0: batch},)
    if isinstance(network, StepNetwork):
        rows = tuple({0: batch if shape[0] == 1 else shape[0] * batch} for shape in network.state_shapes)
        free = (*free, None, rows)
    with _quiet():
        try:
            return export(_arguments(network, images[:2]), free), True
        except Exception:  # torch raises many kinds; the number of images may be a number of the network
            pass
        try:
            return export(_arguments(network, images[:1]), None), False
        except Exception as error:
            what = f"torch cannot export this network ({one_line(error)[:300]})"
            raise InputError(
                what, remedy="write scripted functions and loops over values as torch functions"
            ) from error


def _arguments(network: Network, images: Tensor) -> tuple[Any, ...]:
    if not isinstance(network, StepNetwork):
        return (images,)
    return (images, torch.tensor(0), *network.initial_state(len(images), images))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and logs of torch's exporters about their own doings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class OnnxNetwork:
    """A file of `export_onnx` in onnxruntime, on the CPU.

    Args:
        program: the file.

    Raises:
        InputError: the package onnxruntime is not installed, or it cannot read the file.
    """

    def __init__(self, program: Program) -> None:
        runtime = package("onnxruntime")
        self._program = program
        try:
            self._session = runtime.InferenceSession(str(program.path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its own kinds
            raise InputError(f"onnxruntime cannot read it: {one_line(error)}", where=str(program.path)) from error

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Inputs in their order -> outputs in their order."""
        known = {each.name for each in self._session.get_inputs()}  # an input that is not read may be left out
        fed = {name: each.numpy() for name, each in zip(self._program.inputs, given, strict=True) if name in known}
        return tuple(torch.from_numpy(each) for each in self._session.run(list(self._program.outputs), fed))


@dataclass(frozen=True)
class Comparison:
    """Answers of a file in onnxruntime beside those of the network in torch, image by image."""

    num_images: int
    """N."""

    same_answers: int
    """Images with the same class."""

    within: int
    """Images whose logits differ by at most 1e-5 times the largest magnitude of their logits, or 1e-5."""

    largest_difference: float
    """Of any logit. Where a value lies within rounding of the border between two levels, one level more or less is
    taken and what follows differs."""


def compare_onnx(network: Network, program: Program, batches: Iterable[Tensor], num_steps: int = 1) -> Comparison:
    """Run a file of ONNX and its network on the same images.

    Args:
        network: as it was exported; of `quantized` ones, the same made without.
        program: the file.
        batches: images [B, ...].
        num_steps: T, for a `StepNetwork`.

    Returns:
        The comparison of the read-out after T steps.
    """
    other, total = OnnxNetwork(program), Comparison(0, 0, 0, 0.0)
    for batch in batches:
        for images in torch.split(batch, len(batch) if program.any_batch else 1):
            ours, theirs = (read_out(network, images, num_steps, each) for each in (network, other))
            difference = (ours - theirs).abs().flatten(1).amax(dim=1)
            allowed = 1e-5 * ours.abs().flatten(1).amax(dim=1).clamp_min(1)
            total = replace(
                total,
                num_images=total.num_images + len(images),
                same_answers=total.same_answers + int((ours.argmax(dim=1) == theirs.argmax(dim=1)).sum()),
                within=total.within + int((difference <= allowed).sum()),
                largest_difference=max(total.largest_difference, float(difference.max())),
            )
    return total


@torch.no_grad()
def read_out(network: Network, images: Tensor, num_steps: int = 1, call: Any = None) -> Tensor:
    """The logits by which a network is judged: of an ANN's only pass, of a spiking network after T steps.

    Args:
        network: result of `ann_network`, or a `StepNetwork`.
        images: [B, ...].
        num_steps: T.
        call: what computes in the network's place, with its inputs and outputs; by default the network itself.

    Returns:
        [B, K].
    """
    call = network if call is None else call
    if not isinstance(network, StepNetwork):
        result = call(images)
        return result if isinstance(result, Tensor) else result[0]
    state: tuple[Tensor, ...] = network.initial_state(len(images), images)
    total = torch.zeros(())
    for step in range(num_steps):
        logits, *after = call(images, torch.tensor(step), *state)
        state = tuple(after)
        total = total + logits if network.averages_logits else logits
    return total / num_steps if network.averages_logits else total
