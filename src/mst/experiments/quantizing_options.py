"""Options of `mst quantize`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mst.errors import InputError

from .options import QuantizeOptions, check_counts


@dataclass(frozen=True)
class QuantizingOptions:
    """The float network, the images, and how it is quantised."""

    checkpoint: Path
    """A .safetensors file of a network trained in float, with mst train --quantize.placement none; or of an MST, whose
    sites then move from its activations to its products."""

    dataset: str | None = None
    """Name of a data set; by default the one that the network was trained on."""

    data_path: Path | None = None
    """Folder with the data set's files."""

    num_levels: int = 63
    """Levels above the lowest, 2^b - 1 for b bits: 255, 63, 31, 15 for 8, 6, 5, 4 bits. With placement
    activations, L."""

    quantize: QuantizeOptions = QuantizeOptions(placement="products")  # noqa: RUF009  frozen
    """Quantisation of the network."""

    max_powers: int | None = None
    """Round levels to sums of at most this many signed powers of two: the fewer, the fewer spikes under lossless coding
    with schedule free. By default every level stays."""

    allocate_levels: bool = False
    """Share the levels out: sites whose errors reach the output get more, others fewer, and the mean of the bits over
    all neurons stays. num_levels is then the mean's."""

    bias_correction: bool = False
    """Take the shift that quantisation makes in the mean of each channel out of the biases; helps at 4 bits."""

    weight_correction: bool = False
    """Fit the weights of each map to the quantised values that they multiply, and biases with them; takes a minute or
    more."""

    calibration_images: int = 256
    """Training images that set the levels."""

    batch_size: int = 256
    """Images at once."""

    max_images: int | None = None
    """Use only the first test images, this many, for the two accuracies."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""

    num_workers: int = 0
    """Processes that prepare images."""

    threads: int | None = None
    """CPU threads; by default chosen by the size of the network."""

    def __post_init__(self) -> None:
        check_counts(
            num_levels=self.num_levels, max_powers=self.max_powers, calibration_images=self.calibration_images,
            batch_size=self.batch_size, max_images=self.max_images, threads=self.threads,
        )  # fmt: skip
        if self.bias_correction and self.weight_correction:
            raise InputError("weight_correction corrects biases too", remedy="leave bias_correction out")
        if self.quantize.placement == "none":
            raise InputError("placement none sets no sites", remedy="choose products or activations")
        if self.quantize.small_stem:
            raise InputError("small_stem has no effect on a trained network", remedy="give it to mst train")
