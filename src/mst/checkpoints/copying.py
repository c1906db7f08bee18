"""Weights of a state dict -> a model; all of them, or none and a list of what does not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from mst.errors import InputError

HEAD = ("head.weight", "head.bias")
"""Names of an MST's head."""

_SHOWN = 20


class WeightsDoNotFitError(InputError):
    """Weights of other names or sizes than the model's. Nothing was copied."""


def copy_weights(
    ours: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    *,
    what: str,
    may_lack: Collection[str] = (),
    new_head: bool = True,
    problems: Sequence[str] = (),
    head: Collection[str] = HEAD,
) -> bool:
    """Copy `state` into the tensors `ours` of the same names; nothing is copied unless everything fits.

    Args:
        ours: name -> tensor of the model.
        state: the tensors to copy.
        what: the model in words, for the error.
        may_lack: names that `state` need not have.
        new_head: leave the head alone where the numbers of classes differ, or `state` has none.
        problems: further ones, found before.
        head: names of the head's tensors.

    Returns:
        True if the head was copied too.

    Raises:
        WeightsDoNotFitError: missing, unexpected or misshapen tensors; all listed.
    """
    heads = {name for name in {*ours, *state} if name in head}
    keep_head = new_head and any(
        name not in state or name not in ours or state[name].shape != ours[name].shape for name in heads
    )
    skipped = heads if keep_head else set()
    found = list(problems)
    new_alignment = not any(_is_alignment(name) for name in state)  # weights made without one: it keeps fresh weights
    may_lack = {*may_lack, *(name for name in ours if new_alignment and _is_alignment(name))}
    found += [f"missing {name}" for name in ours if name not in state and name not in may_lack and name not in skipped]
    found += [f"unexpected {name}" for name in state if name not in ours and name not in skipped]
    shared = [name for name in ours if name in state and name not in skipped]
    found += [misfit(name, state[name], ours[name]) for name in shared if state[name].shape != ours[name].shape]
    if found:
        raise WeightsDoNotFitError(
            f"the weights do not fit {what} ({len(found)} problems): "
            + "; ".join(found[:_SHOWN])
            + ("; ..." if len(found) > _SHOWN else "")
        )
    with torch.no_grad():
        for name in shared:
            ours[name].copy_(state[name])
    return not skipped


def misfit(name: str, theirs: Tensor, ours: Tensor) -> str:
    """The problem of a tensor with another shape, in words."""
    return f"{name} is {list(theirs.shape)}, the model has {list(ours.shape)}"


def _is_alignment(name: str) -> bool:
    """True for the tensors of a channel alignment."""
    return name.startswith(("align.", "patch_embed.align."))
