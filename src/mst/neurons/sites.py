"""Properties of sites that a user sets: which of them drop spikes, by which rule, and how their levels are rounded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from mst.errors import InputError
from mst.numbers import whole_number
from mst.text import suggestion

from .activation import QCFS
from .masks import MaskRule, make_mask
from .spiking import SpikingNeuron

ALL_SITES = "all"

SITE_GROUPS: dict[str, tuple[str, ...]] = {"attention": ("query", "key", "scores"), "mlp": ("mlp",)}
"""Group -> the roles of its sites. "attention" is where the released code masks, "mlp" the paper's MLP input."""

_NAMES_SHOWN = 8

Model = TypeVar("Model", bound=nn.Module)


def find_sites(model: nn.Module) -> dict[str, QCFS]:
    """Every QCFS of `model` by its module path, which names its site; in the order of the network."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QCFS)}


def select_sites(model: nn.Module, sites: str | Iterable[str]) -> dict[str, QCFS]:
    """The sites that a selection names, in the order of the network.

    Args:
        model: a network with QCFS sites.
        sites: one entry or several, each of them "all", a group of `SITE_GROUPS`, a role ("query", "value", ...) or a
            glob of site names ("layer1.*", "*.act2").

    Raises:
        InputError: the network has no site, or an entry matches none (the entries that would match are named).
    """
    known = find_sites(model)
    if any(isinstance(module, SpikingNeuron) for module in model.modules()):
        raise InputError("it is a spiking network", where="model", remedy="do this with the ANN, then convert it")
    if not known:
        raise InputError(f"{type(model).__name__} has no QCFS site", remedy="quantise it first, with mst.quantize")
    patterns = [sites] if isinstance(sites, str) else list(sites)
    chosen: set[str] = set()
    for pattern in patterns:
        matching = {name for name, site in known.items() if _matches(name, site, pattern)}
        if not matching:
            raise _unmatched(pattern, known)
        chosen |= matching
    return {name: site for name, site in known.items() if name in chosen}


def mask_spikes(
    model: Model,
    masking_ratio: float | Mapping[str, float],
    sites: str | Iterable[str] = ALL_SITES,
    rule: MaskRule = "random",
) -> Model:
    """Spike masking: from now on, these sites drop this share of their spikes, in training and in evaluation.

    Sites that are not named keep their mask; ratio 0 removes a mask. A checkpoint stores the mask of every site, and
    `mst.convert` gives it to the neurons.

    Args:
        model: an ANN with QCFS sites; changed in place.
        masking_ratio: p, fraction dropped, in [0, 1); or a ratio for each selection, as in
            {"layer1.*": 0.5, "layer2.*": 0.75}, where a later entry overrules an earlier one.
        sites: which, see `select_sites`; left out where masking_ratio names them.
        rule: which spikes share a draw: "random" (each has its own), "channel", "token", or another of `MASK_RULES`;
            its class; or a mask whose other fields are used, as in TokenMask(0.5, layout="channels_last").

    Returns:
        The same model.

    Raises:
        InputError: a ratio outside [0, 1), an unknown rule, or a selection that matches no site. Then nothing has been
            changed.

    Source: Masked Spiking Transformer (ICCV 2023), Random Spike Masking.
    """
    if isinstance(masking_ratio, Mapping):
        if sites != ALL_SITES:
            raise InputError("sites has no effect where masking_ratio names the sites itself", remedy="leave sites out")
        if not masking_ratio:
            raise InputError("masking_ratio names no site", remedy='write {"all": 0.5}, for instance')
        changes = [(select_sites(model, entry), make_mask(ratio, rule)) for entry, ratio in masking_ratio.items()]
    else:
        changes = [(select_sites(model, sites), make_mask(masking_ratio, rule))]
    for selected, mask in changes:
        for site in selected.values():
            site.mask = mask
    return model


def limit_powers(model: Model, max_powers: int | None, sites: str | Iterable[str] = ALL_SITES) -> Model:
    """Round levels: from now on, these sites round each level to a sum of few signed powers of two, in training too.

    Under lossless coding with schedule "free" a neuron whose input has settled then sends at most `max_powers` spikes.
    Thresholds stay; `mst.set_thresholds` fits them again. A checkpoint stores the limit of every site.

    Args:
        model: an ANN with QCFS sites; changed in place.
        max_powers: >= 1, see `qcfs`; None: no rounding.
        sites: which, see `select_sites`; the others keep what they have.

    Returns:
        The same model.

    Raises:
        InputError: a limit below 1, or a selection that matches no site. Then nothing has been changed.
    """
    limit = None if max_powers is None else whole_number("max_powers", max_powers, 1)
    for site in select_sites(model, sites).values():
        site.max_powers = limit
    return model


def set_levels(model: Model, num_levels: int | Mapping[str, int]) -> Model:
    """Other levels at all sites or at some, for example more behind a softmax: {"weights": 63}.

    A site keeps its range and divides it otherwise: of L levels above the lowest, the share of those below 0 stays, as
    far as whole numbers allow. `mst.set_thresholds` then fits thresholds to the new levels. A checkpoint stores the
    levels of every site.

    Args:
        model: an ANN with QCFS sites; changed in place.
        num_levels: L, levels above the lowest: for all sites, or a number for each selection (see `select_sites`),
            where a later entry overrules an earlier one.

    Returns:
        The same model.

    Raises:
        InputError: a number below 1, or a selection that matches no site. Then nothing has been changed.
    """
    wanted = num_levels if isinstance(num_levels, Mapping) else {ALL_SITES: num_levels}
    levels: dict[QCFS, int] = {}
    for entry, number in wanted.items():
        levels |= dict.fromkeys(select_sites(model, entry).values(), whole_number("num_levels", number, 1))
    for site, number in levels.items():
        before = site.num_levels - site.min_level
        lowest = -min(number - 1, round(-site.min_level * number / before))
        highest = number + lowest
        if lowest or site.min_level:  # otherwise the threshold is the whole range
            span = site.threshold.detach() * (before / site.num_levels)
            site.threshold = nn.Parameter(span * (highest / number))
        site.num_levels, site.min_level = highest, lowest
    return model


def _matches(name: str, site: QCFS, pattern: str) -> bool:
    if pattern == ALL_SITES:
        return True
    bare = _WRAPPED.sub("", name)
    return site.role in SITE_GROUPS.get(pattern, (pattern,)) or fnmatchcase(name, pattern) or fnmatchcase(bare, pattern)


_WRAPPED = re.compile(r"^((module|_orig_mod)\.)+")
"""Start of the names in a network within wrappers of torch; a selection need not have it."""


def _unmatched(pattern: str, known: Mapping[str, QCFS]) -> InputError:
    roles = sorted({site.role for site in known.values() if site.role})
    groups = [group for group, members in SITE_GROUPS.items() if set(members) & set(roles)]
    names = list(known)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (f" and {len(names) - _NAMES_SHOWN} more" if names[_NAMES_SHOWN:] else "")
    entries = [ALL_SITES, *groups, *(role for role in roles if role not in groups)]
    choices = f"this network has {', '.join(entries)}, or globs over its sites: {shown}"
    return InputError(f"no site matches {pattern!r}", remedy=suggestion(pattern, [*entries, *names], choices))
