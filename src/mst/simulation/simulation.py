"""`simulate`: a spiking network and images in any form come in, the result goes out."""

from __future__ import annotations

from typing import Any

from torch import nn

from mst.conversion import SpikingNetwork
from mst.data import ImageData, batches_of, check_class_names
from mst.distributed import gather_values
from mst.errors import InputError
from mst.models import check_answers, check_weights, class_names_of, unwrapped
from mst.neurons import SpikingNeuron

from .loop import ImageStepsCallback, run_batches
from .options import SimulationOptions, options_of
from .result import SimulationResult
from .sharded import merge_results


def simulate(
    snn: SpikingNetwork,
    data: ImageData,
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
        data: images [N, ...] or (images, labels); batches of either, for example a DataLoader; a data set or a list of
            (image, class number); dicts with the keys of a Hugging Face data set. See `mst.data.ImageData`.
        num_steps: T >= 1, or all options.
        progress: called with the number of image-steps that this process has done since its last call.
        changes: fields of `SimulationOptions`: steps_per_chunk, keep_step_logits, record_operations, seed, in_slices,
            input_steps, early_exit, drop_settled, batch_size, num_workers.

    Returns:
        Accuracy at every step, spikes per site, operations, steps that each image took.

    Raises:
        InputError: snn is not converted; no images; batches of another form; NaN or infinity in weights or images; NaN
            inside the network; labels outside the classes, not class numbers, or of other classes than the
            checkpoint's; labels or early exit for a network that does not return [B, classes]; images of a shape that
            the network does not take; more slices than steps; unknown options, values out of range, or options that
            contradict each other or have no effect on this coding or data; a first step that does not reach the sites
            that the examination of the network has reached.
        ConversionError: the network does what spikes cannot carry, which `mst.convert` could not see without an image.

    Source: Masked Spiking Transformer (ICCV 2023), inference; released code (logits summed over steps).
    """
    snn = _spiking(snn)
    options = options_of(num_steps, changes)
    options.check_coding(snn.coding)
    check_weights(snn)
    check_class_names(class_names_of(snn.network), data)
    reading = batches_of(data, options.batch_size, options.num_workers)
    if options.num_workers and reading.form != "data set":
        raise InputError("num_workers has no effect on images that are in memory already", remedy="give a data set")
    if options.batch_size is not None and reading.form == "batches":
        raise InputError("batch_size has no effect on data that comes in batches", remedy="give a tensor or a data set")
    result = run_batches(snn, reading.batches, options, first_image=reading.first_image, progress=progress)
    parts = [part for part in (gather_values(result) if reading.is_share else [result]) if part.num_images > 0]
    if not parts:
        raise InputError("there are no images to simulate")
    merged = merge_results(parts) if len(parts) > 1 else parts[0]
    check_answers(merged.logits)
    return merged


def _spiking(given: object) -> SpikingNetwork:
    """The spiking network that a caller has given, without wrappers of torch around it."""
    if isinstance(given, nn.Module):
        given = unwrapped(given)
    if isinstance(given, SpikingNetwork):
        return given
    remedy = "convert the ANN first, with mst.convert; for the accuracy of an ANN call mst.evaluate"
    if isinstance(given, nn.Module) and any(isinstance(module, SpikingNeuron) for module in given.modules()):
        remedy = "give the whole result, not its .network"
    raise InputError(f"simulate takes what mst.convert returns, got {type(given).__name__}", remedy=remedy)
