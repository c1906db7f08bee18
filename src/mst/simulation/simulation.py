"""`simulate`: a spiking network and images in any form come in, the result goes out."""

from __future__ import annotations

from typing import Any

from mst.conversion import SpikingNetwork
from mst.data import is_dataset
from mst.errors import InputError

from .batches import SimulationData, batches_of
from .loop import ImageStepsCallback, run_batches
from .options import SimulationOptions, options_of
from .result import SimulationResult
from .sharded import run_share


def simulate(
    snn: SpikingNetwork,
    data: SimulationData,
    num_steps: int | SimulationOptions,
    *,
    progress: ImageStepsCallback | None = None,
    **changes: Any,
) -> SimulationResult:
    """Show each image for T steps and read the prediction after every step.

    Rate coding: the prediction is that of the mean of the logits so far. Lossless coding: of the logits as they are;
    a batch ends before T when none of its neurons can fire any more, its logits then being the ANN's.

    Several steps are computed at once by folding them into the batch axis. That changes nothing: only neurons
    couple steps, and they take them one after another. (Floating-point sums may differ in their last bits between
    chunk lengths, which in float32 can move a spike of a neuron that is exactly at its threshold.) Memory does not
    grow with T, except for `step_logits`.

    Of a data set, each of the processes that torchrun or accelerate launch started takes an unbroken share of the
    images, none twice; every process gets the result of all, equal to that of one process.

    Args:
        snn: result of `mst.convert`.
        data: images [N, ...]; or a pair (images, labels); or an iterable of batches of either (a DataLoader); or a data
            set of (image, label).
        num_steps: T >= 1, or all options.
        progress: called with the number of image-steps that this process has done since its last call.
        changes: fields of `SimulationOptions`: steps_per_chunk, keep_step_logits, record_operations, seed, in_slices,
            input_steps, early_exit, drop_settled, batch_size, num_workers.

    Returns:
        Accuracy at every step, spikes per site, operations, steps that each image took.

    Raises:
        InputError: snn is not converted; no images; batches of another form; labels outside the classes; images of a
            shape that the network does not take; more slices than steps; unknown options, values out of range, or
            options that contradict each other or have no effect on this coding or data.
        ConversionError: the network does what spikes cannot carry, which `mst.convert` could not see without an image.

    Source: Masked Spiking Transformer (ICCV 2023), inference; released code (logits summed over steps).
    """
    if not isinstance(snn, SpikingNetwork):
        raise InputError(
            f"simulate takes what mst.convert returns, got {type(snn).__name__}", remedy="convert the model first"
        )
    options = options_of(num_steps, changes)
    options.check_coding(snn.coding)
    if is_dataset(data):
        return run_share(snn, data, options, progress)
    result = run_batches(snn, batches_of(data, options), options, progress=progress)
    if result.num_images == 0:
        raise InputError("there are no images to simulate")
    return result
