"""Counts of operations while a simulation runs: what arrives at their modules, times the outputs that it reaches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from mst.dataflow import FanOut
from mst.errors import InputError
from mst.neurons import RunState, SpikingNeuron, current_run

from .call_observer import unobserved
from .fan_out import outputs_reached
from .functions import Key
from .trace import FanOuts, Operation, OperationCount

COMMON_ASSUMPTIONS = (
    "A sum of several sites' spikes through constants (a residual stream, BatchNorm, average pools, concatenations) "
    "is spikes to the map that reads it: each costs one AC per output that it reaches, with a weight that holds the "
    "constants on its way; a spike that arrives by several ways costs one for each. The map then has one set of "
    "weights for each site. A sum that holds any other value too is analog as a whole.",
    "To a product of two activations a sum is spikes if the constants of a site are the same at every place.",
    "Constants that are added (biases, position embeddings) cost nothing: they are constant currents or initial "
    "potentials of the neurons.",
    "BatchNorm after a linear map costs nothing, if nothing else reads that map: it folds into the weights.",
    "The ANN costs its dense MACs once; zeros in its activations save nothing (another baseline skips them).",
    "Not counted, for either: bias and residual additions, pooling.",
)
"""Assumptions of every counter."""


class OperationCounter(ABC):
    """Adds up what every counted operation spends, step by step.

    An operand that is a sum of sites' spikes through constants is counted where the neurons send: each spike times the
    outputs that it reaches. Of any other operand the counter sees the values.

    A coding names the class of its counter (see `mst.conversion.Coding`); a simulation makes one for its run.

    Args:
        network: the converted network.
        operations: what `trace_operations` found in the network.
        num_steps: T.
        in_slices: True if the images are slices over time, whose values arrive like spikes.
        fan_outs: what `trace_operations` found, see `Trace.fan_outs`.
    """

    assumptions: ClassVar[tuple[str, ...]] = COMMON_ASSUMPTIONS
    """Assumptions of its counts, one sentence each; printed with the figures."""

    counts_changes: ClassVar[bool] = False
    """True if it counts what has changed since the step before. The network is then run once before step 0, at rest."""

    def __init__(
        self,
        network: nn.Module,
        operations: tuple[Operation, ...],
        num_steps: int,
        in_slices: bool = False,
        fan_outs: FanOuts | None = None,
    ) -> None:
        self._operations = operations
        self._in_slices = in_slices
        self.set_fan_outs(fan_outs or {})
        counted = [op for op in operations if self._is_counted(op)]
        self._counted = {(op.module, op.call_number): op for op in counted}
        self._modules = {op.module: network.get_submodule(op.module) for op in counted}
        self._neurons = {m.site: m for m in network.modules() if isinstance(m, SpikingNeuron)}
        self._num_steps = num_steps
        self._acs: dict[str, Tensor] = {}  # on the device of the spikes, so that counting never waits for it
        self._macs: dict[str, Tensor] = {}
        self._acs_of_sites: dict[tuple[str, str], Tensor] = {}
        self._run: RunState | None = None
        self._pass: int | None = None
        self._calls: Counter[str] = Counter()

    def set_fan_outs(self, fan_outs: FanOuts) -> None:
        """From now on the images have the size for which these fan-outs hold."""
        self._fan_outs = fan_outs
        readers: dict[str, list[tuple[str, Tensor | int]]] = {}
        for op in self._operations:
            for operand in range(len(op.operands)):
                if self._drives(op, operand):
                    for site, fan_out in self._fan_out(op, operand).items():
                        readers.setdefault(site, []).append((op.name, fan_out))
        self._even: dict[str, list[tuple[str, int]]] = {}
        self._uneven: dict[str, tuple[list[str], Tensor]] = {}
        for site, of_site in readers.items():
            self._even[site] = [(name, fan_out) for name, fan_out in of_site if isinstance(fan_out, int)]
            uneven = [(name, fan_out) for name, fan_out in of_site if isinstance(fan_out, Tensor)]
            matrix = torch.stack([fan_out.flatten() for _, fan_out in uneven], dim=1) if uneven else torch.empty(0)
            self._uneven[site] = [name for name, _ in uneven], matrix

    @contextmanager
    def counting(self, run: RunState) -> Iterator[None]:
        """Count while `run` is the current run; other runs of the same network are not counted here."""
        self._run, self._pass = run, None
        run.spike_observers = {site: partial(self._observe_spikes, site) for site in self._even}
        run.uneven_sites = frozenset(site for site, (names, _) in self._uneven.items() if names)
        handles = [m.register_forward_pre_hook(self._hook(path), with_kwargs=True) for path, m in self._modules.items()]
        try:
            yield
        finally:
            self._run, run.spike_observers, run.uneven_sites = None, {}, frozenset()
            for handle in handles:
                handle.remove()

    def snapshot(self) -> Callable[[], None]:
        """A function that takes back all that is counted after this call. It may be called once."""
        acs, macs = ({name: total.clone() for name, total in each.items()} for each in (self._acs, self._macs))
        of_sites = {key: total.clone() for key, total in self._acs_of_sites.items()}

        def take_back() -> None:
            self._acs, self._macs, self._acs_of_sites = acs, macs, of_sites

        return take_back

    def _drives(self, op: Operation, operand: int) -> bool:
        """True if the spikes of this operand drive the operation."""
        return True

    def _fan_out(self, op: Operation, operand: int) -> FanOut:
        """Outputs that the spikes behind an operand reach; empty if it is counted by its values."""
        of_operands = self._fan_outs.get(op.name, ())
        return of_operands[operand] if operand < len(of_operands) else {}

    def _observe_spikes(self, site: str, sent: Tensor, spikes_TB: Tensor | None, by_neuron: Tensor | None) -> None:
        """Count what the spikes of a site drive in one chunk, see `RunState.spike_observers`."""
        run, (names, fan_outs) = self._run, self._uneven[site]
        assert run is not None
        for name, outputs in self._even[site]:
            self._add_spikes(name, site, sent * outputs, run)
        if not names:
            return
        if by_neuron is None:
            if spikes_TB is None:
                raise InputError(
                    "its neurons do not record which of them has sent how many spikes",
                    where=f"site {site!r}",
                    remedy="give the spikes of the chunk to SpikingNeuron._record, or set record_operations=False",
                )
            by_neuron = self._number(spikes_TB).reshape(len(sent), run.batch_size, -1).sum(dim=1, dtype=fan_outs.dtype)
        spent = (by_neuron.to(fan_outs.dtype) @ fan_outs).round().to(torch.int64)
        for name, each in zip(names, spent.unbind(1), strict=True):
            self._add_spikes(name, site, each, run)

    def _add_spikes(self, name: str, site: str, spent: Tensor, run: RunState) -> None:
        self._add(self._acs, name, spent, run)
        if (name, site) not in self._acs_of_sites:
            self._acs_of_sites[name, site] = torch.zeros_like(spent[0])
        self._acs_of_sites[name, site] += spent.sum()

    def _number(self, spikes_TB: Tensor) -> Tensor:
        """Number of spikes that each neuron has sent, [T, B*k, ...]."""
        return spikes_TB.abs()

    def _acs_by_source(self, op: Operation) -> tuple[int, ...] | None:
        """ACs that each source has driven; None where values were counted too."""
        driven = [number for number, sites in enumerate(op.operands) if sites and self._drives(op, number)]
        if not driven or not all(self._fan_out(op, number) for number in driven):
            return None
        return tuple(int(self._acs_of_sites.get((op.name, site), 0)) for site in op.sources)

    @abstractmethod
    def counts(self) -> tuple[OperationCount, ...]:
        """Counts so far, one entry per traced operation."""

    @abstractmethod
    def _is_counted(self, op: Operation) -> bool:
        """True if the calls of this operation are to be observed."""

    @abstractmethod
    def _observe(self, op: Operation, module: nn.Module, inputs: list[Tensor], run: RunState) -> None:
        """Count one call; its inputs are [T*B*k, ...], time outermost."""

    def _hook(self, path: str) -> Callable[..., None]:
        # In another thread that runs the same network, torch may call a hook that is just being registered or removed
        # without the keywords that it asked for.
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor] | None = None) -> None:
            run = self._run
            if run is None or current_run() is not run or kwargs is None:
                return
            if run.step != self._pass:  # another pass through the network begins
                self._pass = run.step
                self._calls.clear()
            self._calls[path] += 1
            operation = self._counted.get((path, self._calls[path]))
            if operation is not None:
                with unobserved():
                    tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
                    self._observe(operation, module, tensors, run)

        return hook

    def observers(self, run: RunState) -> dict[Key, Callable[[list[Tensor]], None]]:
        """What counts the calls of modules, for a run that does not call them itself: by (path, "", number of the call
        in a pass), a function of the call's tensors."""
        return {
            (path, "", number): partial(self._show, op, self._modules[path], run)
            for (path, number), op in self._counted.items()
        }

    def _show(self, op: Operation, module: nn.Module, run: RunState, tensors: list[Tensor]) -> None:
        self._observe(op, module, tensors, run)

    def _add(self, totals: dict[str, Tensor], name: str, spent: Tensor, run: RunState) -> None:
        """Add int64 [T], what an operation has spent in each step of the chunk."""
        if name not in totals:
            totals[name] = torch.zeros(self._num_steps, dtype=torch.int64, device=spent.device)
        totals[name][run.step : run.step + run.steps_in_chunk] += spent

    def _total(self, totals: dict[str, Tensor], op: Operation) -> Tensor:
        return totals[op.name].cpu() if op.name in totals else torch.zeros(self._num_steps, dtype=torch.int64)

    def _reached(
        self, op: Operation, module: nn.Module, operand: int, inputs: list[Tensor], arriving_TB: Tensor
    ) -> Tensor:
        """int64 [T]: what arrives at one operand [T, B*k, ...], each times the outputs that it reaches."""
        if op.mean_fan_out is not None:
            mean: Tensor = per_step(arriving_TB) * op.mean_fan_out
            return mean.round().to(torch.int64)
        fan_out = outputs_reached(module, operand, inputs, op.output_places, op.padding)
        if isinstance(fan_out, int):
            return per_step(arriving_TB) * fan_out
        by_place = arriving_TB.sum(dim=(1, 2), dtype=torch.float64).round().to(torch.int64)
        return (by_place * fan_out.to(by_place.device)).flatten(1).sum(dim=1)


def per_step(values: Tensor) -> Tensor:
    """[T, B*k, ...] whole numbers >= 0 -> int64 [T], their sums, exactly."""
    rows = values.flatten(2) if values.dim() > 2 else values[:, :, None]
    wide = torch.float64 if rows.shape[-1] >= 2**18 else torch.promote_types(rows.dtype, torch.float32)
    return rows.sum(dim=-1, dtype=wide).to(torch.int64).sum(dim=1)
