"""Sums of several sites' spikes through constants, against counting connection by connection."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from conftest import randomise, tiny_config
from mst.models import ActivationProduct, LinearFunction, MaskedSpikingTransformer, TokenBatchNorm
from mst.neurons import QCFS, FiringSchedule, RandomMask
from mst.simulation import SimulationResult
from mst.simulation.sharded import merge_results

CHANNELS, SIZE = 2, 4
SHAPE = (1, CHANNELS, SIZE, SIZE)

MOVES: dict[str, Callable[[Tensor, nn.Module], Tensor]] = {
    "roll": lambda x, _: torch.roll(x, (1, -2), (2, 3)),
    "norm": lambda x, net: net.norm(x),  # type: ignore[operator]
    "tokens": lambda x, net: net.tokens(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),  # type: ignore[operator]
    "scale": lambda x, net: -0.7 * x * net.scale + 0.1,  # type: ignore[operator]
    "hole": lambda x, net: x * net.hole,  # type: ignore[operator]
    "crop": lambda x, _: F.pad(x[:, :, 1:-1], (0, 0, 1, 1), value=0.3),
    "average": lambda x, _: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "resize": lambda x, _: F.interpolate(F.adaptive_avg_pool2d(x, 3), size=(SIZE, SIZE)),
    "along": lambda x, _: F.avg_pool1d(x.flatten(2), 3, 1, 1).view_as(x),
    "write": lambda x, _: written(x),
    "divide": lambda x, net: (x / 3).sub(net.scale),  # type: ignore[operator]
    "turn": lambda x, _: torch.stack([x[:, :1], x[:, 1:].flip(-1)], 2).flatten(1, 2),
    "mean": lambda x, _: x.mean((2, 3), keepdim=True).expand_as(x),
}
"""Linear functions, of which a random network is put together."""


NETWORKS = 4
"""Random networks that together use every move."""


def written(x: Tensor) -> Tensor:
    y = torch.full_like(x, 0.2)
    y[:, :, ::2] = x[:, :, 1::2]
    y += 0.1
    return y


def written_through_a_view(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[:, :3].copy_(a[:, :3])
    y[:, 3:] = a[:, 3:]
    return y + b


def written_behind_a_view(a: Tensor, b: Tensor) -> Tensor:
    view = a.view_as(b)
    a += b
    return view


class Random(nn.Module):
    """Two sites, each through moves of its own; maps of four kinds read their sum and its concatenation."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        names = list(MOVES)[seed::NETWORKS]
        random.Random(seed).shuffle(names)
        self.moves = [names[number::3] for number in range(3)]
        self.a, self.b = QCFS(4, torch.tensor([0.4, 0.9])[:, None, None]), QCFS(6, 0.5)
        self.b.mask = RandomMask(0.3)
        self.norm, self.tokens = nn.BatchNorm2d(CHANNELS), TokenBatchNorm(CHANNELS)
        self.register_buffer("scale", torch.rand(CHANNELS, 1, 1) + 0.5)
        self.register_buffer("hole", (torch.rand(SIZE, SIZE) > 0.3).float())
        self.conv, self.up = nn.Conv2d(CHANNELS, 3, 3, 2, 1), nn.ConvTranspose2d(2 * CHANNELS, 2, 3, 2)
        self.fc, self.function = nn.Linear(CHANNELS, 5), LinearFunction()

    def moved(self, x: Tensor, number: int) -> Tensor:
        for name in self.moves[number]:
            x = MOVES[name](x, self)
        return x

    def read(self, name: str, stream: Tensor, b: Tensor) -> Tensor:
        """Result of the map `name` for the sum and for the spikes of b."""
        if name in ("conv", "up"):
            y: Tensor = self.conv(stream) if name == "conv" else self.up(torch.cat([stream, b], 1))
            return y
        tokens = stream.flatten(2).transpose(1, 2)
        return self.fc(tokens) if name == "fc" else self.function(tokens[:, :7], self.fc.weight[:2])  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.moved(self.a(x), 0), self.moved(self.b(1.5 * x - 0.4), 1)
        stream = self.moved(a + b, 2)
        return sum(self.read(name, stream, b).flatten(1)[:, :4] for name in MAPS)  # type: ignore[return-value]


MAPS = ("conv", "up", "fc", "function")


def ways(function: Callable[[Tensor], Tensor]) -> Tensor:
    """float64 [outputs, values]: 1 where a value of SHAPE reaches an output of a function that adds up and moves."""
    number = CHANNELS * SIZE * SIZE
    ones = torch.eye(number, dtype=torch.float64).view(number, *SHAPE[1:])
    with torch.no_grad():
        return ((function(ones) - function(0 * ones)).flatten(1).abs() > 1e-12).double().T


def fan_outs(model: Random) -> dict[str, dict[str, Tensor]]:
    """Map -> site -> outputs that each neuron reaches."""

    def through(number: int) -> Tensor:
        total = torch.eye(CHANNELS * SIZE * SIZE, dtype=torch.float64)
        for name in model.moves[number]:
            total = ways(lambda x, name=name: MOVES[name](x, model)) @ total  # type: ignore[misc]
        return total

    found = {}
    for name in MAPS:
        of_stream = ways(lambda x, name=name: model.read(name, x, 0 * x)) @ through(2)  # type: ignore[misc]
        of_b = ways(lambda x, name=name: model.read(name, 0 * x, x))  # type: ignore[misc]
        found[name] = {
            "a": (of_stream @ through(0)).sum(0), "b": (of_stream @ through(1) + of_b @ through(1)).sum(0)
        }  # fmt: skip
    return found


def simulate_by_hand(
    model: nn.Module, coding: str, x: Tensor, **options: object
) -> tuple[SimulationResult, dict[str, list[Tensor]]]:
    """The result, and the spikes of each site by step, [T][B, neurons], from the values that its neurons send."""
    snn = mst.convert(model, coding, x, **options)  # type: ignore[arg-type]
    sites = {m.site: m for m in snn.network.modules() if isinstance(m, mst.neurons.SpikingNeuron)}
    values: dict[str, list[Tensor]] = {name: [] for name in sites}
    for name, neuron in sites.items():
        neuron.register_forward_hook(lambda m, i, y, name=name: values[name].append(y.clone()))  # type: ignore[misc]
    result = mst.simulate(snn, x, 12, steps_per_chunk=1)
    steps, spikes = int(result.steps_taken.max()), {}
    for name, neuron in sites.items():
        sent = values[name][-steps:]
        if coding == "rate":
            spikes[name] = [(y != 0).double().flatten(1) for y in sent]
        else:
            before = [torch.zeros_like(sent[0]), *sent[:-1]]
            quantum = neuron.threshold / neuron.num_levels
            spikes[name] = [
                ((y - z) / quantum).abs().round().double().flatten(1) for y, z in zip(sent, before, strict=True)
            ]
    return result, spikes


@pytest.mark.parametrize("coding", ["rate", "lossless"])
@pytest.mark.parametrize("seed", range(NETWORKS))
def test_spikes_through_constants_equal_counting_connection_by_connection(coding: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = Random(seed).double().eval()
    options = {} if coding == "rate" else {"schedule": FiringSchedule(3)}
    result, spikes = simulate_by_hand(model, coding, torch.rand(3, *SHAPE[1:]).double(), **options)
    counts = {count.operation.name: count for count in result.operations}
    for name, by_site in fan_outs(model).items():
        assert counts[name].operation.sources == ("a", "b")
        expected = [
            sum(int((spikes[site][t] * fan).sum()) for site, fan in by_site.items()) for t in range(len(spikes["a"]))
        ]
        assert counts[name].acs_per_step.tolist()[: len(expected)] == expected, (name, model.moves)
        parts = tuple(int(sum((each * by_site[site]).sum() for each in spikes[site])) for site in ("a", "b"))
        assert counts[name].acs_by_source == parts
    assert mst.estimate_energy(result).snn.num_macs == 0


def test_patch_merging_is_driven_by_the_spikes_of_the_residual_stream() -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5, absolute_position_embedding=True)).eval()
    randomise(model)
    result = mst.simulate(mst.convert(model, "lossless", burst=2), torch.rand(2, 1, 8, 8), 6)
    merging = next(c for c in result.operations if c.operation.name == "layers.0.downsample.reduction")
    sites = {"patch_embed.proj_if"} | {
        f"layers.0.blocks.{block}.{site}" for block in (0, 1) for site in ("attn.proj_if", "mlp.fc2_if")
    }
    assert set(merging.operation.sources) == sites
    assert int(merging.acs_per_step.sum()) == sum(result.spike_counts[site] for site in sites) * 16
    twice = next(each for each in merge_results([result, result]).operations if each.operation == merging.operation)
    assert merging.acs_by_source is not None
    assert twice.acs_by_source == tuple(2 * acs for acs in merging.acs_by_source)
    estimate = mst.estimate_energy(result)
    assert next(row.driven_by for row in estimate.operations if row.name == merging.operation.name) == "5 sites"
    assert sum(site.snn.energy_pj for site in estimate.sites.values()) == pytest.approx(estimate.snn.energy_pj)


class Sum(nn.Module):
    """A sum of two sites, with something between it and the map that reads it."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.fc, self.between = QCFS(4, 0.5), QCFS(4, 1.0), nn.Linear(6, 5), between

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.between(self.a(x), self.b(x)))
        return y


@pytest.mark.parametrize(
    ("between", "numbers"),
    [
        (lambda a, b: a + b.mul_(2), (1, 1)),
        (lambda a, b: a + b.mean(-1, keepdim=True), (1, 6)),
        (lambda a, b: a + a.mean(-1, keepdim=True), (7, 0)),  # one way to each place, and one more to its own
        (lambda a, b: (a.half() + b.half()).float(), (1, 1)),
        (lambda a, b: written_through_a_view(a, b), None),
        (lambda a, b: written_behind_a_view(a, b), None),
        (lambda a, b: torch.einsum("bi->bi", a) + b, None),
        (lambda a, b: torch.relu(a + b), None),
        (lambda a, b: (a + b).relu_() + b, None),
        (lambda a, b: a * b, None),
        (lambda a, b: a + torch.softmax(b, -1), None),
        (lambda a, b: torch.maximum(a, b), None),
    ],
)
def test_a_sum_is_spikes_unless_a_function_that_is_not_linear_is_on_the_way(
    between: Callable[[Tensor, Tensor], Tensor], numbers: tuple[int, int] | None
) -> None:
    x = torch.rand(3, 6)
    result = mst.simulate(mst.convert(Sum(between).eval(), "lossless", x), x, 40)
    (count,) = (each for each in result.operations if each.operation.name == "fc")
    assert count.macs_per_step is not None
    if numbers is None:
        assert (count.operation.sources, int(count.acs_per_step.sum())) == ((), 0)
        assert int(count.macs_per_step.sum()) > 0
    else:
        spikes = [result.spike_counts[site] * number * 5 for site, number in zip("ab", numbers, strict=True)]
        assert (int(count.acs_per_step.sum()), int(count.macs_per_step.sum())) == (sum(spikes), 0)


@pytest.mark.parametrize("by_channel", [False, True])
def test_operands_of_products_are_sums_of_spikes_unless_a_constant_by_channel_is_on_the_way(by_channel: bool) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.product = QCFS(4, 0.5), QCFS(4, 1.0), QCFS(4, 1.0), ActivationProduct(True)
            self.scale = nn.Parameter(torch.rand(4 if by_channel else 1) + 0.5)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.product(self.a(x) + self.scale * self.b(x), self.c(x[:, :2]))
            return y.flatten(1)

    x = torch.rand(3, 6, 4)
    result = mst.simulate(mst.convert(Product().eval(), "lossless", x), x, 40)
    (count,) = result.operations
    spikes = result.spike_counts
    macs = 0 if count.macs_per_step is None else int(count.macs_per_step.sum())
    if by_channel:
        assert count.operation.sources == ("c",)
        assert int(count.acs_per_step.sum()) == spikes["c"] * 6
        assert 0 < macs <= (spikes["a"] + spikes["b"]) * 2
    else:
        assert count.acs_by_source == (spikes["a"] * 2, spikes["b"] * 2, spikes["c"] * 6)
        assert macs == 0


def test_images_of_another_size_are_counted_by_their_own_fan_out() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), QCFS(4, 0.5), nn.Conv2d(2, 3, 3, padding=1), QCFS(4, 0.5),
        nn.AdaptiveAvgPool2d(3), nn.Conv2d(3, 2, 3), nn.Flatten(),
    ).eval()  # fmt: skip
    small, large = torch.rand(2, 1, 5, 5), torch.rand(2, 1, 8, 7)
    snn = mst.convert(net, "lossless", small)
    apart, together = [mst.simulate(snn, x, 20) for x in (small, large)], mst.simulate(snn, [small, large, small], 20)
    for one, other, all_ in zip(*(each.operations for each in (*apart, together)), strict=True):
        assert int(all_.acs_per_step.sum()) == 2 * int(one.acs_per_step.sum()) + int(other.acs_per_step.sum())


def test_uneven_fan_out_asks_for_the_spikes_of_each_neuron() -> None:
    snn = mst.convert(nn.Sequential(QCFS(4, 0.5), nn.Conv2d(1, 1, 3, padding=1), nn.Flatten()))
    neuron = snn.network[0]  # type: ignore[index]
    record = neuron._record
    neuron._record = lambda run, number, sent, dropped, **spikes: record(run, number, sent, dropped)
    with pytest.raises(ValueError, match=r"site '0'.*do not record which of them has sent"):
        mst.simulate(snn, torch.rand(1, 1, 4, 4), 2)
