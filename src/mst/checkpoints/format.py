"""A checkpoint that describes itself: one .safetensors file whose header holds all that a run needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from mst.data import Preprocessing
from mst.files import write_atomically
from mst.models import MaskedSpikingTransformer, MSTConfig
from mst.models.foreign import TORCHVISION, architecture
from mst.neurons import make_mask, name_sites
from mst.quantization import note_quantization, quantization_of, shape_thresholds
from mst.quantization.named import quantize_named

FORMAT_VERSION = 1
OWN = "own"
"""Architecture of a network that only its user can build."""

ARCHITECTURES = ("mst", "timm", "torchvision", OWN)

_HEADER_KEY = "mst"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself besides its weights.

    preprocessing: what its network expects of an image.  dataset: the name of the data set it was trained on.
    provenance: how it was made (epochs, accuracy, seed, source file, ...): plain values.
    """

    dataset: str | None = None
    class_names: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(model: nn.Module, path: str | Path, info: CheckpointInfo | None = None) -> None:
    """Write `model` and its description. The file appears whole or not at all.

    Args:
        model: a `MaskedSpikingTransformer`, or what `quantize` returned.
        path: ends in .safetensors; its folder is made if need be.
        info: data set, preprocessing, provenance.

    Raises:
        ValueError: a model that the format cannot describe, or another suffix.
        OSError: the folder cannot be written, or the disk is full; an older file at `path` stays.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"a checkpoint is a .safetensors file, got {path.name!r}")
    header = {
        "format_version": FORMAT_VERSION,
        **describe_model(model),
        "masking_ratios": {name: site.masking_ratio for name, site in name_sites(model).items()},
        **asdict(info or CheckpointInfo()),
    }
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        shared = any(stored.data_ptr() == other.data_ptr() and stored.numel() for other in tensors.values())
        tensors[name] = stored.clone() if shared else stored  # the file has no word for tied weights
    write_atomically(path, lambda temporary: save_file(tensors, temporary, {_HEADER_KEY: json.dumps(header)}))


def describe_model(model: nn.Module) -> dict[str, Any]:
    """All that is needed to build `model` again but its weights, as plain values.

    Raises:
        ValueError: it is neither an MST nor quantised by `quantize`.
    """
    if isinstance(model, MaskedSpikingTransformer):
        return {"architecture": "mst", "config": asdict(model.config)}
    noted = quantization_of(model)
    if noted is None:
        raise ValueError(
            f"{type(model).__name__} is neither a Masked Spiking Transformer nor quantised by mst.quantize, so it "
            "cannot be described"
        )
    config = asdict(noted)
    network = config.pop("architecture")
    if network is None:
        return {"architecture": OWN, "config": {**config, "class": type(model).__name__}}
    return {"architecture": network.pop("library"), "config": {**config, "network": network}}


def load_checkpoint(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Rebuild the model of a checkpoint, masking included, in evaluation mode.

    Args:
        path: of a .safetensors file that `save_checkpoint` wrote.
        model: for a network of your own, the same network as it was when saved, quantised; it is filled and returned.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, is no checkpoint of ours, was written by a newer version, or needs `model`.
    """
    header = _read_header(Path(path))
    if header["architecture"] == OWN and model is None:
        kind = header.get("config", {}).get("class")
        raise ValueError(
            f"{path} holds a network of the user's own ({kind}); build and quantise it, then "
            "mst.load_checkpoint(path, model=...)"
        )
    try:
        with safe_open(str(path), "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        if model is None:
            model = _build(header, state)
        else:
            _check_own(header, model)
            shape_thresholds(model, state)
        sites, ratios = name_sites(model.eval()), header["masking_ratios"]
        if set(ratios) != set(sites):
            raise ValueError(f"masking ratios of {len(ratios)} sites, where the network has {len(sites)}")
        for name, ratio in ratios.items():
            sites[name].mask = make_mask(ratio)
        floating = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
        model.to(floating[0] if floating else torch.float32).load_state_dict(state)
    except (SafetensorError, RuntimeError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: the weights and the description do not fit each other: {error}") from error
    return model


def _check_own(header: dict[str, Any], model: nn.Module) -> None:
    """See that a network of the user's own was quantised as when it was saved, and note what the file knows of it.

    Raises:
        ValueError: it was not.
    """
    config, noted = header["config"], quantization_of(model)
    if noted is None:
        raise ValueError(f"{type(model).__name__} is not quantised; pass what mst.quantize returns")
    for name in ("num_levels", "max_pool", "also"):
        now = list(noted.also) if name == "also" else getattr(noted, name)
        if config[name] != now:
            raise ValueError(f"it was saved with {name}={config[name]!r}, and the model is quantised with {now!r}")
    _note_shapes(model, config)


def _note_shapes(model: nn.Module, config: dict[str, Any]) -> None:
    shape, classes = config["image_shape"], config["num_classes"]
    numbers = [*(shape or ()), *(() if classes is None else (classes,))]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ValueError(f"image_shape {shape} and num_classes {classes} must be whole numbers above 0")
    note_quantization(model, image_shape=None if shape is None else tuple(shape), num_classes=classes)


def _build(header: dict[str, Any], state: dict[str, torch.Tensor]) -> nn.Module:
    """The network that the header describes, its weights still to be loaded."""
    config = dict(header["config"])
    if header["architecture"] == "mst":
        return MaskedSpikingTransformer(MSTConfig(**config))
    network = config["network"]
    prefix = TORCHVISION if header["architecture"] == "torchvision" else ""
    of = architecture(
        prefix + str(network["name"]), network["options"], bool(network["small_stem"]), network.get("align_chans", 0)
    )
    model = quantize_named(of, config["num_levels"], config["max_pool"], tuple(config["also"]), state=state)
    _note_shapes(model, config)
    return model


def read_checkpoint_info(path: str | Path) -> CheckpointInfo:
    """What the checkpoint says of itself; the weights are not read.

    Raises:
        FileNotFoundError, ValueError: as `load_checkpoint`.
    """
    header = _read_header(Path(path))
    try:
        preprocessing = header["preprocessing"]
        return CheckpointInfo(
            dataset=header["dataset"],
            class_names=tuple(header["class_names"]),
            preprocessing=None if preprocessing is None else Preprocessing(**preprocessing),
            provenance=dict(header["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its description is damaged: {error}") from error


def _read_header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    try:
        with safe_open(str(path), "pt") as file:
            text = (file.metadata() or {}).get(_HEADER_KEY)
    except (SafetensorError, OSError, RuntimeError) as error:
        hint = "; for released .pth weights use `mst import`" if path.suffix in (".pth", ".pt", ".bin") else ""
        raise ValueError(f"{path} is no .safetensors file, or a damaged one ({error}){hint}") from error
    if text is None:
        raise ValueError(f"{path} holds tensors but no description; for foreign weights use `mst import`")
    try:
        header: dict[str, Any] = json.loads(text)
        version = header["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its description is damaged: {error}") from error
    if not isinstance(header.get("config"), dict) or not isinstance(header.get("masking_ratios"), dict):
        raise ValueError(f"{path}: its description is damaged: config and masking_ratios must be tables")
    if not isinstance(header.get("dataset"), str | None):
        raise ValueError(f"{path}: its description is damaged: the data set must be a name")
    if header.get("architecture") not in ARCHITECTURES:
        raise ValueError(
            f"{path} holds the architecture {header.get('architecture')!r}; this mst reads {', '.join(ARCHITECTURES)}"
        )
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has checkpoint format {version}; this mst reads format {FORMAT_VERSION}")
    return header
