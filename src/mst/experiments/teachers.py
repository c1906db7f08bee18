"""The network that another learns from, as options name it."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mst.checkpoints import NoDescriptionError, load_checkpoint, load_initial_weights, read_checkpoint_info
from mst.checkpoints.references import checkpoint_file
from mst.data import DataSplits
from mst.errors import InputError
from mst.models import MODEL_NAMES

from .networks import build_network
from .options import NetworkOptions, QuantizeOptions, TrainingOptions


def build_teacher(options: TrainingOptions, splits: DataSplits) -> nn.Module | None:
    """The teacher of a training: `options.teacher`, or else what the training starts from, before quantisation.

    Args:
        options: of the training.
        splits: its data set.

    Returns:
        The network with its weights; None without distillation.

    Raises:
        InputError: a teacher without distillation, or the reverse; weights without a head for these classes; a
            checkpoint of other classes, or of other preprocessing.
        MissingFileError: no such file.
    """
    if not options.train.distillation:
        if options.teacher is not None:
            raise InputError(
                "teacher has no effect without distillation", remedy="set --train.distillation, say to 0.5"
            )
        return None
    source = options.teacher or options.network.init_from
    if source is None:
        raise InputError("distillation needs a teacher", remedy="name a trained network with --teacher or --init-from")
    if checkpoint_file(source).suffix != ".safetensors":
        return _from_weights(source, options.network, splits)
    try:
        info = read_checkpoint_info(source)
    except NoDescriptionError:
        return _from_weights(source, options.network, splits)
    expected = {
        "preprocessing": (info.preprocessing, splits.preprocessing),
        "classes": (info.class_names, splits.info.class_names),
    }
    for name, (trained, given) in expected.items():
        if trained and given and trained != given:
            raise InputError(
                f"the teacher was trained with other {name} ({trained}) than the data set's ({given})", where=source
            )
    return load_checkpoint(source)


def _from_weights(source: str, options: NetworkOptions, splits: DataSplits) -> nn.Module:
    """The network that `options` describe, before quantisation, with weights that bring no description."""
    if options.model not in MODEL_NAMES:
        plain = QuantizeOptions(placement="none", small_stem=options.quantize.small_stem)
        options = replace(options, quantize=plain, num_levels=NetworkOptions().num_levels)
    network = build_network(replace(options, masking_ratio=0.0, mask_sites=None, pretrained=False), splits)
    start = load_initial_weights(network, source)
    if not start.head_kept or (options.model in MODEL_NAMES and start.needs_calibration):
        raise InputError(
            "its weights alone are not a network that answers for these classes",
            where=source,
            remedy="train it first, and name the checkpoint with --teacher",
        )
    return network
