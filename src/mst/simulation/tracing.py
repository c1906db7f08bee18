"""Traces: spikes and membrane potentials of some neurons, scores of the classes and attention, step by step, of some
images.

Each image is simulated again by itself, one step at a time, with its own masks. The run that is reported on does not
know of it.

Letters: T steps that the image took, n neurons, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mst.conversion import SpikingNetwork
from mst.errors import InputError
from mst.neurons import SignedIFNeuron, SpikingNeuron, current_run
from mst.neurons.run_state import BEFORE_FIRST_STEP, MASK_SLOT, RunState
from mst.neurons.signed_integrate_and_fire import SENT_QUANTA

from .loop import run_batches
from .options import SimulationOptions
from .readout import readouts_of

ATTENTION_ROLES = ("scores", "weights")
"""Roles of sites whose output is a map of attention: before the softmax, or behind it."""

MOST_ATTENTION_VALUES = 2**18
"""Values of a site's maps for one image; the maps of a larger site are left out."""


@dataclass(frozen=True, repr=False)
class SiteTrace:
    """Some neurons of one site while one image is shown."""

    neurons: Tensor
    """int64 [n]: places of the neurons among those of the site, in order."""

    num_neurons: int
    """Neurons of the site, per image."""

    sent: Tensor
    """float32 [T, n]: what left the neuron in each step, after masking. Rate coding: spikes. Where changes are sent:
    quanta of either sign."""

    potential: Tensor | None
    """float32 [T, n]: membrane potential after each step, in units of the threshold, or of a quantum where changes are
    sent (then a neuron may fire at 1 and at values below 0). None for neurons of another kind."""


@dataclass(frozen=True, repr=False)
class ImageTrace:
    """One image."""

    index: int
    """Its place among the images of the run."""

    scores: Tensor
    """float32 [T, K]: what the prediction after each step is read from, in units of logits."""

    sites: dict[str, SiteTrace]
    """Site -> its trace."""

    attention: dict[str, Tensor]
    """Site -> float32 [windows, heads, queries, keys]: the site's output, mean over the steps, or after the last step
    where changes are sent."""


def trace_images(
    snn: SpikingNetwork,
    images: Sequence[tuple[int, Tensor]],
    options: SimulationOptions,
    sites: Sequence[str] = (),
    num_neurons: int = 64,
) -> tuple[ImageTrace, ...]:
    """Simulate images one by one and record what happens.

    Args:
        snn: result of `mst.convert`.
        images: (place among the images of the run, image [...]); the place decides the masks.
        options: of the run; early exit, batches and chunks are left out.
        sites: names of sites whose neurons are recorded.
        num_neurons: neurons of a site that are recorded at most, evenly spaced.

    Returns:
        A trace for each image. An image that settles has only the steps up to then.

    Raises:
        InputError: a site that the network does not have or that no image reaches; a network that returns something
            else than logits of classes; as `mst.simulate`.
    """
    neurons = {each.site: each for each in snn.network.modules() if isinstance(each, SpikingNeuron)}
    for site in sites:
        if site not in neurons:
            raise InputError(f"the network has no site {site!r}", remedy=f"it has {', '.join(neurons)}")
    options = replace(
        options, steps_per_chunk=1, keep_step_logits=True, early_exit=None, record_operations=False, drop_settled=False,
        incremental=False, batch_size=None, num_workers=0,
    )  # fmt: skip
    traces = []
    for index, image in images:
        observer = _Observer(sites, num_neurons, snn.coding.averages_logits)
        with observer.watching(neurons):
            result = run_batches(snn, [(image[None], None)], options, first_image=index)
        scores = readouts_of(result)[: observer.num_steps, 0]
        if scores.dim() != 2:
            raise InputError("traces show the scores of classes, but the network returns maps")
        missing = [site for site in sites if site not in observer.neurons]
        if missing:
            raise InputError(f"no image reaches {', '.join(missing)}", where="traces")
        traces.append(ImageTrace(index, scores.float().cpu(), observer.sites(), observer.attention()))
    return tuple(traces)


class _Observer:
    """What the neurons of one run do. The runs that examine the network before are forgotten."""

    def __init__(self, sites: Sequence[str], num_neurons: int, takes_mean: bool) -> None:
        self._wanted, self._most, self._takes_mean = frozenset(sites), num_neurons, takes_mean
        self._run: RunState | None = None
        self._forget()

    def _forget(self) -> None:
        self.num_steps = 0
        self.neurons: dict[str, tuple[Tensor, int]] = {}
        self._sent: dict[str, list[Tensor]] = {}
        self._potential: dict[str, list[Tensor]] = {}
        self._count: dict[str, Tensor] = {}
        self._output: dict[str, Tensor] = {}

    @contextmanager
    def watching(self, neurons: dict[str, SpikingNeuron]) -> Iterator[None]:
        """Observe the wanted sites and those of attention within the block."""
        watched = [each for site, each in neurons.items() if site in self._wanted or each.role in ATTENTION_ROLES]
        handles = [each.register_forward_hook(self._see) for each in watched]
        handles.append(next(iter(neurons.values())).register_forward_hook(self._see_step))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def sites(self) -> dict[str, SiteTrace]:
        """The traces of the wanted sites."""
        return {
            site: SiteTrace(*self.neurons[site], torch.stack(sent), _stacked(self._potential.get(site)))
            for site, sent in self._sent.items()
        }

    def attention(self) -> dict[str, Tensor]:
        """The maps of the sites of attention."""
        share = self.num_steps if self._takes_mean else 1
        return {
            site: (output / share).reshape(len(output), -1, *output.shape[-2:]).float().cpu()
            for site, output in self._output.items()
            if output.dim() >= 3
        }

    def _is_run(self) -> RunState | None:
        """The run if it shows an image; begins again where it is another one than before."""
        run = current_run()
        if run is None or run.step == BEFORE_FIRST_STEP:
            return None
        if run is not self._run:
            self._run = run
            self._forget()
        return run

    def _see_step(self, neuron: SpikingNeuron, args: tuple[Any, ...], output: Tensor) -> None:
        run = self._is_run()
        if run is not None:
            self.num_steps = run.step + 1

    def _see(self, neuron: SpikingNeuron, args: tuple[Any, ...], output: Tensor) -> None:
        run, site = self._is_run(), neuron.site
        if run is None:
            return
        if neuron.role in ATTENTION_ROLES and output.numel() <= MOST_ATTENTION_VALUES:
            before = self._output.get(site) if self._takes_mean else None
            self._output[site] = output.clone() if before is None else before + output
        if site not in self._wanted:
            return
        if site not in self.neurons:
            total = output.numel()
            self.neurons[site] = torch.arange(min(total, self._most)) * total // min(total, self._most), total
        sent, potential = self._signed(neuron, args[0], run) if isinstance(neuron, SignedIFNeuron) else _rate(
            neuron, output, run
        )  # fmt: skip
        chosen = self.neurons[site][0].to(output.device)
        self._sent.setdefault(site, []).append(sent.flatten()[chosen].float().cpu())
        if potential is not None:
            self._potential.setdefault(site, []).append(potential.flatten()[chosen].float().cpu())

    def _signed(self, neuron: SignedIFNeuron, x: Tensor, run: RunState) -> tuple[Tensor, Tensor]:
        """Quanta sent, and the membrane potential in quanta: x/q + 1/2 - count."""
        count = run.state[neuron.site, SENT_QUANTA].clone()
        before = self._count.get(neuron.site)
        if before is None:
            before = neuron.initial_state(x, run)[SENT_QUANTA]
        self._count[neuron.site] = count
        keep = run.state.get((neuron.site, MASK_SLOT))
        sent = count - before if keep is None else (count - before) * keep
        return sent, x * (neuron.num_levels / neuron.threshold) + 0.5 - count


def _rate(neuron: SpikingNeuron, output: Tensor, run: RunState) -> tuple[Tensor, Tensor | None]:
    """Spikes, and the membrane potential in thresholds if the neurons keep one."""
    potential = run.state.get((neuron.site, "membrane_potential"))
    return output / neuron.threshold, None if potential is None else potential / neuron.threshold


def _stacked(steps: list[Tensor] | None) -> Tensor | None:
    return None if steps is None else torch.stack(steps)
