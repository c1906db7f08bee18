"""Options of every kind of run, as frozen groups.

Each group is written once. Verbs lay the groups flat on the command line, recipes fill them from YAML, programs build
them directly. Nothing here imports torch, so that `mst VERB --help` answers quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mst.data.options import DataOptions
from mst.data.unreadable import BadImages
from mst.errors import InputError
from mst.options import FLAT
from mst.training.config import TrainConfig

MaxPool = Literal["keep", "average"]
Placement = Literal["activations", "products", "none"]
ThresholdFrom = Literal["least_squares", "max", "percentile"]
ScheduleName = Literal["plain", "staggered", "weighted", "free"]
ExitRule = Literal["margin", "stability"]
CodingName = Literal["rate", "lossless"]

DEFAULT_MODEL = "mst_nano_patch2_window2_8"


def check_counts(**counts: int | None) -> None:
    """Check that each of these options is left out or at least 1.

    Raises:
        InputError: one is below 1.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name} must be at least 1, got {count}")


@dataclass(frozen=True)
class CheckpointOptions:
    """The network and the images that it runs on."""

    checkpoint: Path
    """A .safetensors file of `mst train` or `mst import`."""

    dataset: str | None = None
    """Name of a data set; by default the one that the checkpoint was trained on."""

    data_path: Path | None = None
    """Folder with the data set's files."""

    batch_size: int = 32
    """Images at once; more may pay off on a GPU, fewer need less memory."""

    max_images: int | None = None
    """Use only the first test images, this many."""

    masking_ratio: float | None = None
    """Fraction of the spikes dropped, if other than the checkpoint's."""

    mask_sites: tuple[str, ...] | None = None
    """Sites where that ratio acts, and no others: all, attention, mlp, a role or a glob of site names. By default where
    the checkpoint masks."""

    mask_rule: str | None = None
    """Unit that is dropped: random (single spikes), channel (whole channels) or token (whole tokens or places). By
    default as in the checkpoint."""

    max_powers: int | None = None
    """Round the levels of all sites to sums of at most this many signed powers of two, if other than the checkpoint's.
    With --schedule free a settled neuron then needs no more spikes."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps, ..."""

    num_workers: int = 0
    """Processes that prepare images."""

    threads: int | None = None
    """CPU threads; by default chosen by the size of the network."""

    on_bad_image: BadImages = "fail"
    """Action at an image file or a recording that cannot be read: fail, or skip it with a warning."""

    def __post_init__(self) -> None:
        check_counts(
            batch_size=self.batch_size, max_images=self.max_images, threads=self.threads, max_powers=self.max_powers
        )
        if self.masking_ratio is None and (self.mask_sites is not None or self.mask_rule is not None):
            raise InputError("mask_sites and mask_rule have no effect without masking_ratio")


@dataclass(frozen=True)
class EvaluationOptions(CheckpointOptions):
    """The network and the images that it is evaluated on."""

    batch_size: int = 256
    """Images at once."""

    seed: int = 0
    """Seed of the masks."""


@dataclass(frozen=True)
class CodingOptions:
    """The coding and its options."""

    coding: CodingName = "rate"
    """Coding: rate, whose answer is a mean over time; lossless, by signed spikes that send what has
    changed, until the answer equals the ANN's."""

    burst: int = 1
    """Lossless: maximum spikes per neuron per step; larger bursts settle in fewer steps."""

    schedule: ScheduleName | None = None
    """Lossless: weighted (the default), where a spike is worth 8, 4, 2, 1, 1 quanta in turn (for L = 16); free (the
    default with sites at products), where a spike carries its own power of two, with fewer steps and spikes; with
    spikes of one quantum: staggered, deeper sites start later; plain, all start at once."""

    resting_images: int = 0
    """Lossless: neurons start from their median level over this many training images; 0: they start from 0."""

    input_steps: int = 1
    """Lossless: spread the image over this many steps."""

    def __post_init__(self) -> None:
        if isinstance(self.burst, bool) or self.burst < 1:
            raise InputError(f"burst is the maximum of spikes per neuron per step, at least 1, got {self.burst}")
        if self.resting_images < 0:
            raise InputError(f"resting_images must be 0 (start from 0) or more, got {self.resting_images}")


@dataclass(frozen=True)
class ExitOptions:
    """The accuracy that early exit may cost, and how sure that is."""

    loss: float | None = None
    """Accuracy that early exit may cost, in percentage points; 0.5 by default."""

    confidence: float | None = None
    """Probability, over the draw of the validation images, that it costs no more, from 0.5 to below 1; 0.95 by
    default."""

    validation_images: int | None = None
    """Test images, drawn at random, that are set aside to choose the rule and are not reported on; by default a fifth
    of them, at most 1,000."""

    value: float | None = None
    """Fixes the rule instead of choosing it: the margin in logits, or the number of equal predictions in a row."""

    first_step: int = 1
    """With a value: steps that every image takes at least."""

    def __post_init__(self) -> None:
        if self.loss is not None and not 0 <= self.loss < 100:
            raise InputError(f"early-exit loss is in points of accuracy, from 0 to below 100, got {self.loss}")
        check_counts(validation_images=self.validation_images)
        if self.value is None and self.first_step != 1:
            raise InputError(
                "first_step has no effect without a value", remedy="where the value is chosen, so is the first step"
            )
        if self.value is not None and self.validation_images is not None:
            raise InputError("--exit.value fixes the rule", remedy="remove --exit.validation-images")
        if self.value is not None and self.loss is not None:
            raise InputError("--exit.value fixes the rule", remedy="remove --exit.loss")
        if self.value is not None and self.confidence is not None:
            raise InputError("--exit.value fixes the rule", remedy="remove --exit.confidence")


@dataclass(frozen=True)
class StepOptions:
    """Length of a simulation, early exit, slices."""

    time_steps: int = 64
    """T; one run gives the accuracy at every t <= T."""

    early_exit: ExitRule | None = None
    """Let an image leave once its answer is safe: margin, the largest logit is far above the next; stability, the
    prediction has not changed for some steps. The value is chosen on validation images."""

    exit: ExitOptions = ExitOptions()
    """Accuracy that early exit may cost, and how sure that is."""

    slices: int | None = None
    """Cut each recording of an event camera into this many parts over time and show them one after another, each for
    an equal share of the T steps; T slices give each step its own. By default every step sees the whole recording.
    For networks that were trained with --events.num-bins 1."""

    steps_per_chunk: int | None = None
    """Time steps computed at once; changes the speed, and the result only by float32 rounding."""

    seed: int = 0
    """Seed of the masks."""

    def __post_init__(self) -> None:
        check_steps(self.time_steps, self.slices)
        if self.early_exit is None and self.exit != ExitOptions():
            raise InputError("options of early exit have no effect without --early-exit margin or stability")
        if self.early_exit is not None and self.slices is not None:
            raise InputError("early exit is for still images: a recording that is cut short has not been seen whole")
        if self.early_exit is not None and self.steps_per_chunk not in (None, 1):
            raise InputError("early exit computes steps one at a time", remedy="leave --steps-per-chunk out")


def check_steps(time_steps: int, slices: int | None = None, input_steps: int = 1) -> None:
    """Check that T is at least 1, and that slices, if any, and the steps of the input are at most T.

    Raises:
        InputError: otherwise.
    """
    if time_steps < 1:
        raise InputError(f"time_steps (T) must be at least 1, got {time_steps}")
    if slices is not None and not 1 <= slices <= time_steps:
        raise InputError(f"slices must be from 1 to the {time_steps} time steps, got {slices}")
    if not 1 <= input_steps <= time_steps:
        raise InputError(f"input_steps must be from 1 to the {time_steps} time steps, got {input_steps}")


@dataclass(frozen=True)
class EnergyOptions:
    """Energy of an operation."""

    cost_model: str = "45nm-fp32"
    """Cost model that prices the operations: 45nm-fp32, 45nm-fp16 or 45nm-int8; with -tables behind it, functions are
    read from tables with linear interpolation. With memory: 45nm-memory or 45nm-sram. With data movement: 22nm-sparse
    or 22nm-dense, where a MAC has a price only with --mac-pj. Or a YAML file with custom constants (docs/energy.md)."""

    mac_pj: float | None = None
    """Energy of a multiply-accumulate in pJ; by default the cost model's (4.6 for 45nm-fp32)."""

    ac_pj: float | None = None
    """Energy of an accumulate in pJ; by default the cost model's (0.9 for 45nm-fp32)."""


@dataclass(frozen=True)
class QuantizeOptions:
    """Quantisation of a network. An MST with sites at its activations is made with them and takes none of these."""

    placement: Placement = "activations"
    """Sites in the places of ReLU-like activations, or at the operands of all products: then GELU, LayerNorm and
    softmax may stay, and lossless coding carries the network. none sets no sites and trains the network in floating
    point, for a later training to start from with --init-from."""

    image_site: bool = False
    """With placement products: place sites also before what reads the image itself, so that the image is spikes too."""

    max_pool: MaxPool = "keep"
    """Keep max-pools, or replace them by average pools."""

    also: tuple[str, ...] = ()
    """Activations of torch to replace besides those like ReLU, by class name, for example GELU."""

    small_stem: bool = False
    """Let a network made for 224 px keep the resolution of small images: a 3x3 convolution with stride 1 first, no
    pool."""

    threshold_from: ThresholdFrom = "least_squares"
    """Rule by which calibration images set thresholds: least_squares, max or percentile."""

    percentile: float = 99.9
    """With threshold_from percentile: the percentage of positive values that the threshold covers."""

    per_channel: bool = False
    """Give each channel a threshold, rather than one to the whole site."""

    def calibration(self) -> dict[str, Any]:
        """The options that act only where thresholds are set from images."""
        return {"threshold_from": self.threshold_from, "percentile": self.percentile, "per_channel": self.per_channel}


@dataclass(frozen=True)
class NetworkOptions:
    """The network to train, and the weights that it starts from."""

    model: str = DEFAULT_MODEL
    """An MST by its registered name, any name of timm, or torchvision:NAME."""

    model_kwargs: dict[str, Any] | None = None
    """Keyword arguments of the model, for example --model-kwargs.depths 2,2 or --model-kwargs.width 16."""

    pretrained: bool = False
    """Start from the weights that timm or torchvision publish under this name; they are downloaded."""

    init_from: str | None = None
    """Weights to start from: a checkpoint, released .pth weights, those of a Swin Transformer (a file, or
    timm:swin_tiny_patch4_window7_224, which is downloaded), or of the same network. A head for other classes starts
    from scratch."""

    calibration_images: int | None = None
    """Training images that set thresholds where the initial weights bring none; 256 by default."""

    masking_ratio: float = 0.0
    """Fraction of the spikes dropped at the mask sites, in [0, 1)."""

    mask_sites: tuple[str, ...] | None = None
    """Sites to mask: all, attention (the default for an MST), mlp, a role, or a glob of site names."""

    mask_rule: str = "random"
    """Unit that a mask drops: random (single spikes), channel (whole channels) or token (whole tokens or places)."""

    num_levels: int = 16
    """L, quantisation levels of every activation."""

    max_powers: int | None = None
    """Round levels to sums of at most this many signed powers of two: the fewer, the fewer spikes under lossless coding
    with schedule free. By default every level stays."""

    quantize: QuantizeOptions = QuantizeOptions()
    """Quantisation of a network; of an MST, its placement."""

    align_chans: int = 0
    """Channels to which a 1x1 convolution in front brings those of the frames, 3 in the paper; 0: no such convolution,
    the network takes the frames as they are."""

    def __post_init__(self) -> None:
        if self.pretrained and self.init_from is not None:
            raise InputError("pretrained and init_from are two starts", remedy="choose one")


@dataclass(frozen=True)
class TrainingOptions:
    """A complete training: the network, the images and how to train. A recipe fills one of these."""

    network: NetworkOptions = field(default=NetworkOptions(), metadata=FLAT)
    """The network, and the weights that it starts from."""

    data: DataOptions = field(default=DataOptions(), metadata=FLAT)
    """The training and test images."""

    train: TrainConfig = TrainConfig()  # noqa: RUF009  frozen
    """Settings of the training loop."""

    threads: int | None = None
    """CPU threads; by default chosen by the size of the network."""

    teacher: str | None = None
    """With train.distillation: the network to learn from, a checkpoint or weights of the same network before
    quantisation; by default those of init_from."""

    def __post_init__(self) -> None:
        if self.train.spike_penalty_on != TrainConfig.spike_penalty_on and not self.train.spike_penalty:
            raise InputError("spike_penalty_on has no effect without a penalty", remedy="set train.spike_penalty")


@dataclass(frozen=True)
class ComparisonOptions:
    """The codings to put side by side."""

    time_steps: int = 128
    """T; lossless runs end before it, once all images have settled."""

    bursts: tuple[int, ...] = (1, 2, 4)
    """Maximum spikes per neuron per step, one lossless run for each."""

    schedules: tuple[ScheduleName, ...] = ("staggered", "weighted")
    """plain, staggered, weighted, free; a run for each burst."""

    resting_images: int = 0
    """Above 0: repeat every lossless run with neurons that start from their median level over this many training
    images."""

    input_steps: tuple[int, ...] = (1,)
    """Steps over which the image is spread, one lossless run for each."""

    rate: bool = True
    """Run rate coding too."""

    validation_images: int | None = None
    """Test images, drawn at random, that are set aside for early exit and not reported on; by default a fifth of them,
    at most 1,000."""

    seed: int = 0
    """Seed of the masks."""

    def __post_init__(self) -> None:
        check_counts(validation_images=self.validation_images)
        for steps in self.input_steps or (1,):
            check_steps(self.time_steps, input_steps=steps)


@dataclass(frozen=True)
class ImportOptions:
    """The weights to import, and what their files do not store."""

    weights: Path | None = None
    """The file to read, .pth or .safetensors; may come first without --weights."""

    from_timm: str | None = None
    """Name of a Swin of timm; its published weights are downloaded unless a file is given."""

    img_size: int | None = None
    """Image size in pixels; by default what the weights show, or the smallest that their windows allow."""

    num_levels: int = 16
    """L; the released weights were trained with 16."""

    masking_ratio: float = 0.0
    """Fraction of the spikes dropped that the weights were trained with, or are to be trained with, in [0, 1)."""

    mask_sites: tuple[str, ...] = ("attention",)
    """Sites to mask: attention, mlp, all, a role or a glob of site names."""

    mlp_batch_norm: bool | None = None
    """For a Swin: give each MLP BatchNorms of its own; it has none by default."""

    dataset: str | None = None
    """Name of the data set that they were trained on, or are to be trained on."""

    data_path: Path | None = None
    """For a Swin: folder with the data set's files."""

    calibration_images: int | None = None
    """For a Swin: training images that set statistics and thresholds; 256 by default."""

    on_bad_image: BadImages = "fail"
    """For a Swin: what to do with an image file that cannot be decoded: fail, or skip it with a warning."""

    seed: int = 0
    """For a Swin: seed of a new head and of the masks that act while thresholds are set."""

    mean: tuple[float, ...] | None = None
    """Mean per channel of pixel values from 0 to 1; by default the data set's, or ImageNet's."""

    std: tuple[float, ...] | None = None
    """Standard deviation per channel, likewise."""

    def __post_init__(self) -> None:
        if self.weights is None and self.from_timm is None:
            raise InputError("there are no weights", remedy="name a file, or a Swin of timm with --from-timm")
        if (self.mean is None) != (self.std is None):
            raise InputError("--mean and --std belong together", remedy="give both, or neither")
