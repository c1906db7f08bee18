"""Networks without state of their own and without runs, as torch.export and ONNX take them.

The quantised ANN: image -> logits. One time step of the SNN: image, number of the step and state -> logits and state.

Letters: B images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mst.conversion import Obstacle, SpikingNetwork
from mst.errors import InputError
from mst.models import ann_of, copy_network, one_tensor_out, set_submodule
from mst.neurons import QCFS, FiringSchedule, IFNeuron, SignedIFNeuron, SpikingMaxPool, SpikingNeuron
from mst.neurons.functional import MIN_THRESHOLD
from mst.neurons.powers import NEAREST
from mst.neurons.site import Site

from .tracing import ExportError

STEP = "step"
"""Name of the input with the number of the time step."""


def _quanta(threshold: Tensor, num_levels: int) -> tuple[Tensor | float, Tensor | float]:
    """(L/λ, λ/L), as numbers where there is one threshold, so that they round as in `mst.neurons.qcfs`."""
    lam = threshold.detach().clamp_min(MIN_THRESHOLD)
    if lam.numel() == 1:
        value = float(lam)
        return num_levels / value, value / num_levels
    return num_levels / lam, lam / num_levels


class LevelSite(Site):
    """QCFS as operations of torch: y = λ/L · clip(floor(x·L/λ + 1/2), n, L).

    Args:
        site: the activation.
        rounding: another way to round: given (x, value of a quantum, (n, L)), it returns the values of the levels.
            Levels of few powers of two are rounded by floor all the same. None: by floor, as above.
    """

    def __init__(self, site: QCFS, rounding: Callable[[Tensor, Any, tuple[int, int]], Tensor] | None = None) -> None:
        super().__init__()
        self.levels = site.min_level, site.num_levels
        self.max_powers = site.max_powers
        self.overwrites_input = site.overwrites_input
        self.per_unit, self.quantum = _quanta(site.threshold, site.num_levels)
        self.rounding = rounding

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> same shape."""
        if self.rounding is not None and self.max_powers is None:
            return self.rounding(x, self.quantum, self.levels)
        return _levels(x, self.per_unit, self.levels, self.max_powers) * self.quantum


def _levels(x: Tensor, per_unit: Any, levels: tuple[int, int], max_powers: int | None) -> Tensor:
    level = (x * per_unit + 0.5).clamp(*levels).floor()
    return level if max_powers is None else largest_powers(level, max_powers, max(-levels[0], levels[1]))


def largest_powers(quanta: Tensor, most: int, span: int) -> Tensor:
    """`mst.neurons.powers.largest_powers` by comparisons: ONNX has no operator that reads the bits of a number.

    Args:
        quanta, most: likewise.
        span: largest magnitude of `quanta`.
    """
    powers = [2.0**exponent for exponent in range(span.bit_length() + 1)]
    total = torch.zeros_like(quanta)
    for _ in range(most):
        left = quanta - total
        size = left.abs() * NEAREST
        nearest = sum(
            ((size >= power).to(size.dtype) * max(1.0, power / 2) for power in powers), torch.zeros_like(size)
        )
        total = total + nearest * left.sign()
    return quanta - (quanta - total)  # NaN stays NaN


class AnnNetwork(nn.Module):
    """The quantised ANN without gradients and runs.

    Args:
        model: an ANN with QCFS sites; it stays as it is.
        rounding: see `LevelSite`.

    Raises:
        ExportError: sites that mask, all of them.
        InputError: not a network with sites.
    """

    def __init__(
        self, model: nn.Module, rounding: Callable[[Tensor, Any, tuple[int, int]], Tensor] | None = None
    ) -> None:
        super().__init__()
        network = copy_network(ann_of(model, "export", "give the ANN that it was converted from")).eval()
        network.requires_grad_(False)
        _refuse_masks(network)
        self.network = _exchanged(network, lambda name, module: _level_site(module, rounding))
        if not any(isinstance(module, LevelSite) for module in self.network.modules()):
            raise InputError("the model has no QCFS activation", remedy="call mst.quantize first")

    def forward(self, images: Tensor) -> Tensor:
        """[B, ...] -> logits [B, classes]."""
        return one_tensor_out(self.network(images), self.network)


def _level_site(module: nn.Module, rounding: Any) -> nn.Module | None:
    return LevelSite(module, rounding) if isinstance(module, QCFS) else None


class _Box:
    """The state and the step of the call that is running."""

    step: Tensor
    before: dict[str, Tensor]
    after: dict[str, Tensor]


class StepNetwork(nn.Module):
    """One time step of a spiking network, with its state as inputs and outputs.

    The state is a tensor for each group of neurons: membrane potentials under rate coding, quanta sent under lossless
    coding; and the sums of each max-pool over time. At step 0 its content is not read, so that zeros will do.

    Args:
        snn: result of `mst.convert`; it stays as it is.
        image: [B, ...], for the shapes of the state.

    Attributes:
        state_names: names of the state's tensors, in their order.
        state_shapes: their shapes for one image; the first axis is that of images, [B·k, ...].

    Raises:
        ExportError: sites that mask, neurons of other kinds, all of them.
    """

    def __init__(self, snn: SpikingNetwork, image: Tensor) -> None:
        super().__init__()
        network = copy_network(snn.network).eval()
        _refuse_masks(network)
        self._box = _Box()
        self.averages_logits = snn.coding.averages_logits
        self.network = _exchanged(network, self._step_module)
        self._box.step, self._box.before, self._box.after = torch.zeros((), dtype=torch.int64), {}, {}
        with torch.no_grad():
            self.network(image[:1])
        self.state_names = tuple(self._box.after)
        self.state_shapes = tuple(tuple(each.shape) for each in self._box.after.values())

    def _step_module(self, name: str, module: nn.Module) -> nn.Module | None:
        kinds: tuple[tuple[type[nn.Module], Any], ...] = (
            (IFNeuron, _RateStep), (SignedIFNeuron, _LosslessStep), (SpikingMaxPool, _PoolStep),
        )  # fmt: skip
        return next((made(module, name, self._box) for kind, made in kinds if type(module) is kind), None)

    def initial_state(self, images: int, like: Tensor) -> tuple[Tensor, ...]:
        """Zeros for `images` images, of the type of `like`."""
        return tuple(like.new_zeros(shape[0] * images, *shape[1:]) for shape in self.state_shapes)

    def forward(self, images: Tensor, step: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step.

        Args:
            images: [B, ...], the same at each step.
            step: int64 [], number of the step, from 0.
            state: what the step before has returned.

        Returns:
            Logits of this step [B, classes], then the state.
        """
        self._box.step, self._box.after = step, {}
        self._box.before = dict(zip(self.state_names, state, strict=True))
        logits = one_tensor_out(self.network(images), self.network)
        return (logits, *(self._box.after[name] for name in self.state_names))


class _Stepped(Site):
    """A module with state of its own in `_Box`."""

    def __init__(self, name: str, box: _Box) -> None:
        super().__init__()
        self.name, self._box = name, box

    def _before(self, like: Tensor, initial: Tensor | float) -> Tensor:
        """The state before this step; at step 0 it is `initial`."""
        before = self._box.before.get(self.name)
        if before is None:
            return torch.zeros_like(like) + initial
        return torch.where(self._box.step == 0, torch.zeros_like(before) + initial, before)


class _RateStep(_Stepped):
    """`IFNeuron`."""

    def __init__(self, neuron: IFNeuron, name: str, box: _Box) -> None:
        super().__init__(name, box)
        self.overwrites_input = neuron.overwrites_input
        theta = neuron.threshold.detach()
        self.threshold: Tensor | float = float(theta) if theta.numel() == 1 else theta

    def forward(self, x: Tensor) -> Tensor:
        v = self._before(x, self.threshold / 2) + x
        sent = (v >= self.threshold).to(x.dtype) * self.threshold
        self._box.after[self.name] = v - sent
        return sent


class _LosslessStep(_Stepped):
    """`SignedIFNeuron`."""

    def __init__(self, neuron: SignedIFNeuron, name: str, box: _Box) -> None:
        super().__init__(name, box)
        self.overwrites_input = neuron.overwrites_input
        self.levels, self.max_powers = (neuron.min_level, neuron.num_levels), neuron.max_powers
        self.per_unit, self.quantum = _quanta(neuron.threshold, neuron.num_levels)
        self.schedule: FiringSchedule = neuron.schedule
        self.start = neuron.schedule.start(neuron.depth)
        self.register_buffer("weights", torch.tensor(neuron.schedule.weights or (1,)))
        self.initial_levels = neuron.initial_levels

    def forward(self, x: Tensor) -> Tensor:
        count = self._before(x, 0.0)
        if self.initial_levels is not None:
            first = self.initial_levels.to(x.dtype).repeat(
                x.shape[0] // self.initial_levels.shape[0], *[1] * (x.dim() - 1)
            )
            count = torch.where(self._box.step == 0, first, count)
        target = _levels(x, self.per_unit, self.levels, self.max_powers)
        after = count + self._sent(target, count)
        self._box.after[self.name] = after
        return after * self.quantum

    def _sent(self, target: Tensor, count: Tensor) -> Tensor:
        """Quanta, as `spikes_of_weight` and `free_quanta` compute them, for a step that is a tensor."""
        own = self._box.step - self.start
        may_fire = (own >= 0).to(target.dtype)
        missing = target - count
        burst = self.schedule.burst
        if self.schedule.is_free:
            return largest_powers(missing, burst, self.levels[1] - self.levels[0]) * may_fire
        weights: Any = self.weights
        weight: Tensor = weights[torch.remainder(own, len(weights))].to(target.dtype)
        number = ((3 * missing.abs() + weight) / (3 * weight)).floor().clamp(max=burst)
        lowest, highest = self.levels
        room = (torch.where(missing > 0, highest - count, count - lowest) / weight).floor()
        return torch.minimum(number, room) * missing.sign() * weight * may_fire


class _PoolStep(_Stepped):
    """`SpikingMaxPool`."""

    def __init__(self, pool: SpikingMaxPool, name: str, box: _Box) -> None:
        super().__init__(name, box)
        self.pool = pool.pool

    def forward(self, x: Tensor) -> Tensor:
        before = self._before(x, 0.0)
        total = before + x
        self._box.after[self.name] = total
        y: Tensor = self.pool(total) - self.pool(before)
        return y


def _exchanged(network: nn.Module, made: Callable[[str, nn.Module], nn.Module | None]) -> nn.Module:
    """`network` with other modules in the places of those for which `made` returns one."""
    for name, module in list(network.named_modules()):
        other = made(name, module)
        if other is None:
            continue
        if name:
            set_submodule(network, name, other)
        else:
            network = other
    return network


def _refuse_masks(network: nn.Module) -> None:
    obstacles = []
    for name, site in network.named_modules():
        if not isinstance(site, QCFS | SpikingNeuron):
            continue
        if site.mask is not None:
            what = f"drops spikes at random (ratio {site.masking_ratio:g}), by draws of this library alone"
            obstacles.append(Obstacle(name, what, "export without masks (--masking-ratio 0), or train without them"))
        if isinstance(site, SpikingNeuron) and type(site) not in (IFNeuron, SignedIFNeuron):
            obstacles.append(Obstacle(name, f"{type(site).__name__} has a step of its own", "use neurons of mst"))
    if obstacles:
        raise ExportError(tuple(obstacles), "a graph without state")
