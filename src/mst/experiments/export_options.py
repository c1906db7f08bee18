"""Options of `mst export`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mst.errors import InputError

from .options import check_counts

ExportForm = Literal["nir", "onnx", "torch"]
ExportedPart = Literal["ann", "step"]
VerifyIn = Literal["mst", "spikingjelly", "sinabs", "norse", "snntorch", "onnxruntime"]
ChipName = Literal["speck", "loihi2"]

SUFFIXES: dict[str, str] = {"nir": ".nir", "onnx": ".onnx", "torch": ".pt2"}
"""Ends of the names of files, by form."""


@dataclass(frozen=True)
class ExportOptions:
    """The form of the file, what is exported, and what is verified."""

    to: ExportForm = "nir"
    """Form: nir, the spiking network for other simulators and chips; onnx, standard operators; torch, a program of
    torch.export."""

    part: ExportedPart = "ann"
    """onnx and torch: the quantised ann, or one time step of the spiking network with its state as inputs and
    outputs."""

    weight_bits: int | None = None
    """Round weights to this many bits, one scale for each output channel. By default they stay as they are. Accuracy
    and spikes are printed beside those of the unrounded weights."""

    qdq: bool | None = None
    """onnx, the ann with --weight-bits: write levels that fit into 8 bits, and the weights behind them, as
    QuantizeLinear and DequantizeLinear. --qdq false: as floating-point operations."""

    check: ChipName | None = None
    """nir: count what the network needs of a chip, speck or loihi2, and what does not fit."""

    verify: VerifyIn | None = None
    """Run the file and this library on the same test images and report what differs. nir: in mst (a plain loop),
    spikingjelly, sinabs, norse or snntorch, each of which must be installed; onnx: in onnxruntime."""

    double: bool | None = None
    """Verify in float64, where rounding hides nothing. nir: instead of float32, and by default (--double false: in
    float32, as the simulators run). onnx: a copy in float64 beside the file, not by default."""

    time_steps: int = 32
    """T of the verification, and of the accuracy with rounded weights."""

    images: int = 100
    """Test images of the verification, and of the accuracy with rounded weights."""

    output: Path | None = None
    """The file to write; -o for short. By default named after the checkpoint, in this folder."""

    def __post_init__(self) -> None:
        check_counts(time_steps=self.time_steps, images=self.images)
        if self.to == "nir" and self.part != "ann":
            raise InputError("part has no effect on nir, which holds the spiking network", remedy="leave --part out")
        if self.qdq is not None and (self.to != "onnx" or self.part != "ann" or self.weight_bits is None):
            raise InputError("--qdq has no effect without --to onnx --part ann --weight-bits", remedy="leave --qdq out")
        if self.to != "nir" and self.check is not None:
            raise InputError(f"chips are checked on the graph of nir, not on {self.to}", remedy="add --to nir")
        if self.verify is not None:
            is_onnx = self.verify == "onnxruntime"
            if is_onnx != (self.to == "onnx") or self.to == "torch":
                fitting = {"nir": "mst, spikingjelly, sinabs, norse or snntorch", "onnx": "onnxruntime"}.get(self.to)
                remedy = f"choose {fitting}" if fitting else "leave --verify out"
                raise InputError(f"--verify {self.verify} does not read {self.to}", remedy=remedy)
        if self.to != "nir" and self.double and self.verify is None:
            raise InputError(f"double has no effect on {self.to} alone", remedy="add --to onnx --verify onnxruntime")

    @property
    def in_double(self) -> bool:
        """True if the verification is in float64, as asked or by default."""
        return self.to == "nir" if self.double is None else self.double
