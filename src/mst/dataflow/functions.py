"""Functions between the sites: calls that are neither linear maps nor changes of layout, and whose results are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from . import tables
from .obstacles import Obstacle
from .places import Place, Places
from .values import Flow

NO_FUNCTIONS = (
    tables.LAYOUT
    | tables.CONSTANTS
    | tables.AVERAGE_POOLS
    | tables.MAX_POOLS
    | tables.LINEAR_MAPS
    | tables.SUMS
    | tables.ATTENTION
    | tables.RECURRENT
)
"""Functions that are never noted here: they are free, or are noted as maps or as calls whose cost is not known."""


@dataclass(frozen=True)
class FunctionCall:
    """One call of a function between the sites."""

    path: str
    """Path of the module whose forward makes the call."""

    name: str
    """Of the function, see `mst.models.function_name`."""

    number: int
    """Number of this call among those of the same function in the same module in one pass, from 1."""

    inputs: tuple[Tensor, ...] = field(repr=False)
    """Its tensors, positional ones first, of one image."""

    depends: tuple[bool, ...]
    """For each of `inputs`, True if it depends on the image."""

    args: tuple[Any, ...] = field(repr=False)
    """Positional arguments."""

    kwargs: Mapping[str, Any] = field(repr=False)
    """Keyword arguments."""

    output: Tensor = field(repr=False)
    """First tensor of the result."""

    readers: frozenset[str] = frozenset()
    """Sites that read its result, through other functions perhaps; "" for a map, a product or the output."""


class FunctionCalls:
    """Collects the calls of one pass.

    Args:
        places: those of the pass, which know what is used.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._reached: Counter[tuple[str, str]] = Counter()
        self._calls: dict[int, FunctionCall] = {}
        self._readers: dict[int, set[str]] = {}

    def reach(self, path: str, name: str) -> int:
        """The number of the call of the function `name` that the module at `path` is making."""
        self._reached[path, name] += 1
        return self._reached[path, name]

    def note(self, call: FunctionCall, flow: Flow) -> Flow:
        """`flow`, the flow of the call's result, so marked that the call counts if the result is used."""
        if call.name in NO_FUNCTIONS:
            return flow
        number = self._places.add(Place("function", Obstacle(call.path, call.name, "")))
        self._calls[number] = call
        return replace(flow, passed=flow.passed | {number})

    def read(self, site: str, flows: Iterable[Flow]) -> None:
        """Note that a site, or "" for anything else that spends operations at once, reads values of these flows."""
        for flow in flows:
            for number in flow.passed & self._calls.keys():
                self._readers.setdefault(number, set()).add(site)

    def used(self) -> list[FunctionCall]:
        """The calls whose results have reached a neuron or the output."""
        return [
            replace(call, readers=frozenset(self._readers.get(number, ())))
            for number, call in self._calls.items()
            if self._places[number].is_used
        ]
