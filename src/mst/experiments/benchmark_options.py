"""Options of `mst benchmark`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .options import check_counts


@dataclass(frozen=True)
class BenchmarkOptions:
    """The network, the size of the run, and where it runs."""

    network: str
    """A checkpoint (.safetensors), which sees its test images; or a model by name (an MST, any name of timm, or
    torchvision:NAME) with random weights, which sees random images."""

    dataset: str | None = None
    """Of a checkpoint: name of a data set; by default the one that it was trained on."""

    data_path: Path | None = None
    """Of a checkpoint: folder with the data set's files."""

    time_steps: int = 8
    """T of rate coding and of the plain loop; the most steps of lossless coding, which ends when it has settled."""

    batch_size: int = 8
    """Images at once."""

    rounds: int = 5
    """Rounds in which all take turns; times are medians over them."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""

    threads: int | None = None
    """CPU threads; by default chosen by the size of the network."""

    def __post_init__(self) -> None:
        check_counts(time_steps=self.time_steps, batch_size=self.batch_size, rounds=self.rounds, threads=self.threads)
