"""A checkpoint that describes itself: one .safetensors file whose header holds all that a run needs."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from mst.data import Preprocessing
from mst.errors import InputError, MissingFileError
from mst.files import write_atomically
from mst.models import ARCHITECTURES, CannotBuildError, note_classes, spec_of, unwrapped
from mst.neurons import QCFS, SpikeMask, SpikingNeuron, find_sites, limit_powers, make_mask, mask_from_dict
from mst.quantization import shape_thresholds
from mst.text import one_line, suggestion
from mst.zoo import zoo_names

from .hub import HUB
from .reading import without_wrappers
from .references import ZOO, checkpoint_file

FORMAT_VERSION = 4
"""Newest version. 4 stores how the levels of each site are rounded, 3 which they are, 2 stored one number of levels for
all, 1 a masking ratio for each site instead of a mask rule. `save_checkpoint` writes the lowest from 2 on that says it
all."""

READABLE_VERSIONS = (1, 2, 3, 4)

_HEADER_KEY = "mst"


class NoDescriptionError(InputError):
    """A .safetensors file that holds tensors but no description: weights from elsewhere, not a checkpoint of mst."""


@dataclass(frozen=True)
class CheckpointInfo:
    """The description in a checkpoint, apart from its network."""

    dataset: str | None = None
    """Name of the data set that the network was trained on."""

    class_names: tuple[str, ...] = ()
    """Names of its classes, in the order of the logits."""

    preprocessing: Preprocessing | None = None
    """Preprocessing of an image for the network."""

    provenance: dict[str, Any] = field(default_factory=dict)
    """Origin of the network (epochs, accuracy, seed, source file, ...), as plain values."""


def save_checkpoint(model: nn.Module, path: str | Path, info: CheckpointInfo | None = None) -> None:
    """Write `model` and its description. The file appears whole or not at all.

    Args:
        model: a `MaskedSpikingTransformer`, or what `quantize` returned; wrappers of torch around it are left out (see
            `mst.models.unwrapped`).
        path: ends in .safetensors; its folder is created if necessary.
        info: data set, preprocessing, provenance.

    Raises:
        InputError: a model that the format cannot describe, or another suffix.
        OSError: the folder cannot be written, or the disk is full; an older file at `path` stays.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"a checkpoint is a .safetensors file, got {path.name!r}")
    model = unwrapped(model)
    sites = find_sites(model)
    spec = spec_of(model)
    usual = (0, None if spec is None else spec.num_levels)
    has_levels = any(site.is_operand or (site.min_level, site.num_levels) != usual for site in sites.values())
    levels = {"levels": {name: [site.min_level, site.num_levels] for name, site in sites.items()}}
    limits = {name: site.max_powers for name, site in sites.items()}
    header = {
        "format_version": 4 if any(limits.values()) else 3 if has_levels else 2,
        **describe_model(model),
        "masks": {name: site.mask and site.mask.to_dict() for name, site in sites.items()},
        **(levels if has_levels else {}),
        **({"max_powers": limits} if any(limits.values()) else {}),
        **asdict(info or CheckpointInfo()),
    }
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        shared = any(stored.data_ptr() == other.data_ptr() and stored.numel() for other in tensors.values())
        tensors[name] = stored.clone() if shared else stored  # the file has no word for tied weights
    write_atomically(path, lambda temporary: save_file(tensors, temporary, {_HEADER_KEY: json.dumps(header)}))


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Everything that is needed to build `model` again except its weights, as plain values.

    Raises:
        InputError: it is neither an MST nor quantised by `quantize`, or it is a spiking network.
    """
    if any(isinstance(module, SpikingNeuron) for module in model.modules()):
        raise InputError(
            "a checkpoint holds an ANN, and this is a spiking network",
            remedy="save the ANN that it was converted from, and convert that again after loading: "
            "mst.convert(mst.load_checkpoint(path), coding, ...)",
        )
    spec = spec_of(model)
    if spec is None:
        raise InputError(
            f"{type(model).__name__} is neither a Masked Spiking Transformer nor quantised by mst.quantize, so it "
            "cannot be described"
        )
    return {"architecture": spec.architecture_name, "config": spec.describe()}


def load_checkpoint(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Rebuild the model of a checkpoint, masking included, in evaluation mode.

    Args:
        path: of a .safetensors file that `save_checkpoint` wrote; or zoo:NAME or hf:USER/NAME, see `mst.load`.
        model: for a network whose class is your own: that network, quantised as when it was saved. It is filled with
            the weights and returned, without wrappers of torch around it.

    Raises:
        MissingFileError: no such file.
        NoDescriptionError: the file holds weights from elsewhere.
        CannotBuildError: the network's class is the user's own, and `model` is not given.
        InputError: the file is damaged or not a checkpoint, a newer version wrote it, or it does not fit `model`.
    """
    header = _read_header(path)
    architecture = header["architecture"]
    try:
        with safe_open(str(checkpoint_file(path)), "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        spec = ARCHITECTURES[architecture].from_description(architecture, header["config"])
        if model is None:
            model = spec.build()
        else:
            model = unwrapped(model)
            spec.adopt(model)
        state = without_wrappers(state, model.state_dict().keys(), str(path))
        shape_thresholds(model, state)
        sites = find_sites(model.eval())
        masks = without_wrappers(_masks(header), sites, str(path))
        if set(masks) != set(sites):
            raise InputError(f"masks of {len(masks)} sites, where the network has {len(sites)}")
        for name, mask in masks.items():
            sites[name].mask = mask
        if "max_powers" in header:
            for name, limit in without_wrappers(header["max_powers"], sites, str(path)).items():
                limit_powers(model, limit, glob.escape(name))
        if "levels" in header:
            set_levels(sites, without_wrappers(header["levels"], sites, str(path)))
        floating = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
        model.to(floating[0] if floating else torch.float32).load_state_dict(state)
        note_classes(model, header.get("class_names"))
    except CannotBuildError as error:
        raise CannotBuildError(
            error.what, where=str(path), remedy=f"{error.remedy}, then call mst.load_checkpoint(path, model=...)"
        ) from error
    except (SafetensorError, RuntimeError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(
            f"the weights and the description do not fit each other: {one_line(error)}", where=str(path)
        ) from error
    return model


def load(name: str | Path, model: nn.Module | None = None) -> nn.Module:
    """A trained network: one that comes with the package, one of the Hugging Face hub, or a checkpoint by its path.

    `mst.zoo.cards()` describes those that come with the package, and `mst zoo` lists them.

    Args:
        name: of the zoo, with or without "zoo:" before it, or a path. A file of this name comes first. Or
            "hf:USER/NAME", "hf:USER/NAME@REVISION" (a commit, a branch or a tag) for a checkpoint that `mst push` has
            published; it is downloaded once.
        model: see `load_checkpoint`.

    Raises:
        MissingFileError: no such network of the zoo, file, or repository of the hub.
        InputError: as `load_checkpoint`; the hub cannot be reached, or refuses.
    """
    is_path = Path(name).suffix or Path(name).exists() or str(name).startswith(HUB)
    is_name = isinstance(name, str) and not is_path
    return load_checkpoint(f"{ZOO}{name.removeprefix(ZOO)}" if is_name else name, model)  # type: ignore[union-attr]


def stored_levels(path: Path) -> Mapping[str, Any] | None:
    """Site -> (lowest, highest level), as a checkpoint stores them; None if it stores none, or is another file."""
    try:
        header = _read_header(path)
    except InputError:
        return None
    levels: Mapping[str, Any] | None = header.get("levels")
    return levels


def set_levels(sites: Mapping[str, QCFS], levels: Mapping[str, Any]) -> None:
    """Give every site the levels that a checkpoint stores for it.

    Raises:
        InputError: levels that no site can have.
        KeyError: a site without levels.
    """
    for name, site in sites.items():
        lowest, highest = levels[name]
        made = QCFS(highest, min_level=lowest)  # which checks them
        site.min_level, site.num_levels = made.min_level, made.num_levels


def _masks(header: Mapping[str, Any]) -> dict[str, SpikeMask | None]:
    """Site -> its mask; format 1 knew random masks only and stored their ratios."""
    if header["format_version"] == 1:
        return {name: make_mask(ratio) for name, ratio in header["masking_ratios"].items()}
    return {name: None if mask is None else mask_from_dict(mask) for name, mask in header["masks"].items()}


def read_checkpoint_info(path: str | Path) -> CheckpointInfo:
    """The description in a checkpoint; the weights are not read.

    Raises:
        MissingFileError, NoDescriptionError, InputError: as `load_checkpoint`.
    """
    header = _read_header(path)
    try:
        preprocessing = header["preprocessing"]
        return CheckpointInfo(
            dataset=header["dataset"],
            class_names=tuple(header["class_names"]),
            preprocessing=None if preprocessing is None else Preprocessing(**preprocessing),
            provenance=dict(header["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(str(path), error) from error


def _read_header(reference: str | Path) -> dict[str, Any]:
    where, path = str(reference), checkpoint_file(reference)
    if not path.is_file():
        zoo = [] if path.suffix else [f"{ZOO}{name}" for name in zoo_names()]  # a name of the zoo without its prefix
        raise MissingFileError(f"no such checkpoint: {path}", remedy=suggestion(str(path), zoo))
    try:
        with safe_open(str(path), "pt") as file:
            text = (file.metadata() or {}).get(_HEADER_KEY)
    except (SafetensorError, OSError, RuntimeError) as error:
        is_torch = path.suffix in (".pth", ".pt", ".bin")
        raise InputError(
            f"not a .safetensors file, or a damaged one ({error})",
            where=where,
            remedy="for released .pth weights use `mst import`" if is_torch else "",
        ) from error
    if text is None:
        raise NoDescriptionError(
            "the file holds tensors but no description", where=where, remedy="for foreign weights use `mst import`"
        )
    try:
        header: dict[str, Any] = json.loads(text)
        version = header["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, error) from error
    if version not in READABLE_VERSIONS:
        raise InputError(f"checkpoint format {version}; this mst reads formats 1 to {FORMAT_VERSION}", where=where)
    masks = "masking_ratios" if version == 1 else "masks"
    if not isinstance(header.get("config"), dict) or not isinstance(header.get(masks), dict):
        raise _damaged(where, f"config and {masks} must be tables")
    if not isinstance(header.get("dataset"), str | None):
        raise _damaged(where, "the data set must be a name")
    if header.get("architecture") not in ARCHITECTURES:
        raise InputError(
            f"the architecture {header.get('architecture')!r} is unknown; this mst reads {', '.join(ARCHITECTURES)}",
            where=where,
        )
    return header


def _damaged(where: str, why: object) -> InputError:
    return InputError(f"the description in the file is damaged: {why}", where=where)
