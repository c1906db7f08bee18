"""Counts of operations, against brute force."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from conftest import randomise, tiny_config
from mst.models import ActivationProduct, MaskedSpikingTransformer
from mst.neurons import QCFS
from mst.operations import conv_fan_out, trace_operations


class Small(nn.Module):
    """One of each: convolution on the image and on spikes, linear map on spikes, behind layout changes and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1, self.site1 = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), QCFS(threshold=0.5)
        self.conv2, self.site2 = nn.Conv2d(2, 3, 3, padding=1, bias=False), QCFS(threshold=0.5)
        self.norm2 = nn.BatchNorm2d(3)
        self.site3 = QCFS(threshold=0.5)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.site1(self.norm1(self.conv1(x)))
        x = self.site2(self.conv2(torch.roll(x, 1, dims=2)))
        x = self.site3(self.norm2(x * 0.5))
        x = F.max_pool2d(x, 2).flatten(1)
        y: Tensor = self.fc(x)
        return y


def test_trace_distinguishes_spikes_from_analog_values() -> None:
    snn = mst.convert(Small())
    found = {op.name: op for op in trace_operations(snn.network, torch.rand(1, 1, 4, 4)).operations}
    assert {name: (op.kind, op.sources, op.dense_macs) for name, op in found.items()} == {
        "conv1": ("convolution", (), 2 * 16 * 9),  # the image is analog
        "conv2": ("convolution", ("site1",), 3 * 16 * 18),  # rolled spikes are spikes
        "norm2": ("batch_norm", ("site2",), 3 * 16),  # follows no linear map; norm1 does and folds
        "fc": ("linear", ("site3",), 12 * 4),  # pooled and flattened spikes are spikes
    }


def test_recorded_accumulations_equal_brute_force() -> None:
    torch.manual_seed(3)
    model = Small().eval()
    x = torch.rand(3, 1, 4, 4)
    result = mst.simulate(mst.convert(model), x, 6, steps_per_chunk=4)
    acs = {count.operation.name: count.acs_per_step for count in result.operations}
    assert acs["conv1"].tolist() == [0] * 6

    # replay the spikes with plain tensors; one accumulation is one non-zero input times one kernel weight that it meets
    potentials: dict[str, Tensor] = {}

    def fire(name: str, current: Tensor) -> Tensor:
        lam = getattr(model, name).threshold.detach()
        v = potentials.get(name, torch.zeros_like(current) + lam / 2) + current
        spikes = (v >= lam) * lam
        potentials[name] = v - spikes
        return spikes

    with torch.no_grad():
        for t in range(6):
            a = torch.roll(fire("site1", model.norm1(model.conv1(x))), 1, dims=2)
            ones = torch.ones_like(model.conv2.weight)
            assert acs["conv2"][t] == int(F.conv2d((a != 0).float(), ones, padding=1).sum())
            b = fire("site3", model.norm2(fire("site2", model.conv2(a)) * 0.5))
            assert acs["fc"][t] == int((F.max_pool2d(b, 2) != 0).sum()) * 4


def test_attention_products_are_counted_from_recorded_spikes() -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5)).eval()
    randomise(model)
    result = mst.simulate(mst.convert(model), torch.rand(4, 1, 8, 8), 9)
    counts, spikes = {c.operation.name: c for c in result.operations}, result.spike_counts
    for block, tokens in (("layers.0.blocks.0", 4), ("layers.0.blocks.1", 4), ("layers.1.blocks.0", 4)):
        scores, mixed = counts[f"{block}.attn.query_key"], counts[f"{block}.attn.attention_value"]
        assert scores.operation.sources == (f"{block}.attn.q_if",)
        assert mixed.operation.sources == (f"{block}.attn.v_if",)
        # a query spike meets every key of its window, a value spike every query: both fan-outs are N
        assert int(scores.acs_per_step.sum()) == spikes[f"{block}.attn.q_if"] * tokens
        assert int(mixed.acs_per_step.sum()) == spikes[f"{block}.attn.v_if"] * tokens
        # linear maps: spikes times output features; masked spikes have already been dropped
        for site, linear, outputs in (("shortcut1_if", "attn.qkv", 3), ("shortcut2_if", "mlp.fc1", 2)):
            channels = 8 if block.startswith("layers.0") else 16
            acs = int(counts[f"{block}.{linear}"].acs_per_step.sum())
            assert acs == spikes[f"{block}.{site}"] * outputs * channels


def test_masking_lowers_the_accumulations_of_what_it_masks() -> None:
    totals = []
    for ratio in (0.0, 0.75):
        model = MaskedSpikingTransformer(tiny_config(masking_ratio=ratio, mask_sites=("query",))).eval()
        randomise(model)
        result = mst.simulate(mst.convert(model), torch.rand(8, 1, 8, 8), 16)
        first = next(c for c in result.operations if c.operation.name == "layers.0.blocks.0.attn.query_key")
        totals.append(int(first.acs_per_step.sum()))
    assert totals[1] == pytest.approx(0.25 * totals[0], rel=0.2)


def test_spikes_joined_with_analog_values_are_analog_and_with_spikes_are_spikes() -> None:
    class Joined(nn.Module):
        def __init__(self, with_spikes: bool) -> None:
            super().__init__()
            self.with_spikes = with_spikes
            self.a, self.b = QCFS(threshold=0.5), QCFS(threshold=0.25)
            self.inner, self.outer = nn.Linear(4, 4), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            other = self.inner(x)
            y: Tensor = self.outer(torch.cat([self.a(x), self.b(other) if self.with_spikes else other], dim=-1))
            return y

    x = torch.rand(3, 4)
    for with_spikes, sources in ((True, ("a", "b")), (False, ())):
        result = mst.simulate(mst.convert(Joined(with_spikes)), x, 8)
        count = {c.operation.name: c for c in result.operations}["outer"]
        assert count.operation.sources == sources
        estimate = mst.estimate_energy(result)  # shared by two sites, or analog: the rows still add up to the total
        assert sum(site.snn.energy_pj for site in estimate.sites.values()) == pytest.approx(estimate.snn.energy_pj)
        if with_spikes:
            for site in ("a", "b"):
                assert estimate.sites[site].snn.num_acs == pytest.approx(result.spike_counts[site] * 2 / 3)


def test_products_know_which_operand_carries_the_spikes() -> None:
    class Product(nn.Module):
        def __init__(self, left_spikes: bool) -> None:
            super().__init__()
            self.left_spikes = left_spikes
            self.site, self.product = QCFS(threshold=0.5), ActivationProduct()

        def forward(self, x: Tensor) -> Tensor:
            spikes, analog = self.site(x), torch.softmax(x, -1).transpose(1, 2)
            pair = (spikes, analog) if self.left_spikes else (analog, spikes)
            y: Tensor = self.product(*pair)
            return y.flatten(1)

    x = torch.rand(2, 3, 5)  # analog is [5, 3]
    for left_spikes, fan_out in ((True, 3), (False, 5)):
        result = mst.simulate(mst.convert(Product(left_spikes)), x, 4)
        (count,) = result.operations
        assert int(count.acs_per_step.sum()) == result.spike_counts["site"] * fan_out


class Pooled(nn.Module):
    """Spikes through average pools, with a threshold for the site or for each channel."""

    def __init__(self, threshold: float | Tensor, flatten: bool = False) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 2, 3, padding=1), QCFS(4, threshold)
        self.pool, self.next, self.act2 = nn.AvgPool2d(2), nn.Conv2d(2, 3, 3, padding=1), QCFS(4)
        self.mean, self.head = nn.AdaptiveAvgPool2d(2 if flatten else 1), nn.Linear(12 if flatten else 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act2(self.next(self.pool(self.act(self.conv(x)))))
        return self.head(self.mean(x).flatten(1))


@pytest.mark.parametrize("threshold", [0.3, torch.tensor([0.2, 0.5])[:, None, None]], ids=["site", "channel"])
def test_spikes_through_an_average_pool_are_counted_one_by_one(threshold: float | Tensor) -> None:
    torch.manual_seed(0)
    snn = mst.convert(Pooled(threshold), example=torch.rand(1, 1, 8, 8))
    images = 3 * torch.rand(5, 1, 8, 8)
    fired: list[Tensor] = []
    for name in ("act", "act2"):
        snn.network.get_submodule(name).register_forward_hook(lambda m, i, y: fired.append((y != 0).double()))
    by_hand = torch.zeros(2, 6)
    fan_out = 3 * conv_fan_out(nn.Conv2d(1, 1, 3, padding=1), 4, 4)
    result = mst.simulate(snn, images, 6, steps_per_chunk=1)
    for step in range(6):
        first, second = fired[2 + 2 * step], fired[3 + 2 * step]  # the first two are the trace's
        by_hand[0, step] = (first.view(5, 2, 4, 2, 4, 2).sum(dim=(0, 1, 3, 5)) * fan_out).sum()
        by_hand[1, step] = second.sum() * 2
    counts = {count.operation.name: count for count in result.operations}
    assert counts["next"].operation.sources == ("act",)
    assert counts["next"].operation.pooled == 4
    assert counts["head"].operation.pooled == 16
    assert counts["next"].acs_per_step.tolist() == by_hand[0].tolist()
    assert counts["head"].acs_per_step.tolist() == by_hand[1].tolist()
    assert by_hand.sum() > 0


def test_averages_of_unequal_spikes_are_counted_spike_by_spike() -> None:
    """Two thresholds in one average, and windows of unequal size."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.head = QCFS(4, 1.0), QCFS(4, 0.5), QCFS(4, 1.0), nn.Linear(2, 2)
            self.pool, self.other = nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            both = torch.cat([self.a(x), self.b(x)], dim=1)
            return self.head(both.mean((2, 3))) + self.other(self.pool(self.c(x))).mean((1, 2, 3))[:, None]

    x, places = torch.rand(3, 1, 4, 4), torch.tensor([1.0, 2.0, 1.0, 1.0])  # rows -1...1 and 1...3
    snn = mst.convert(Mixed(), example=x)
    fired: list[Tensor] = []
    snn.network.c.register_forward_hook(lambda m, i, y: fired.append((y != 0).double()))
    result = mst.simulate(snn, x, 5, steps_per_chunk=1)
    head, other = result.operations
    assert (head.operation.sources, other.operation.sources) == (("a", "b"), ("c",))
    assert head.acs_by_source == (result.spike_counts["a"] * 2, result.spike_counts["b"] * 2)
    by_hand = [float((spikes.sum((0, 1)) * places * places[:, None]).sum()) for spikes in fired[-5:]]
    assert other.acs_per_step.tolist() == by_hand
    assert sum(by_hand) > 0


def test_linear_maps_that_are_functions_are_simulated_but_not_priced() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.act, self.head = nn.Parameter(torch.rand(3, 4)), QCFS(4), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.softmax(self.act(nn.functional.linear(x, self.weight)), dim=-1))

    result = mst.simulate(mst.convert(Functional()), torch.rand(2, 4), 3)
    assert result.uncounted == ("(the network itself) (linear)",)
    with pytest.raises(ValueError, match=r"the cost of these is not known: .*\(linear\); make each map an"):
        mst.estimate_energy(result)


def test_an_average_of_max_pooled_spikes_stands_for_all_of_them() -> None:
    layers = (nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 3))
    network, images = nn.Sequential(*layers), torch.rand(5, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    snn = mst.convert(mst.quantize(network, 4, calibration=images))
    passed: list[int] = []

    def count(module: nn.Module, args: object, output: torch.Tensor) -> None:
        if len(output) % len(images) == 0:  # not the one image of the examination
            passed.append(int(output.count_nonzero()))

    snn.network.get_submodule("2").register_forward_hook(count)
    result = mst.simulate(snn, images, 6, steps_per_chunk=6)
    (linear,) = (each for each in result.operations if each.operation.name == "5")
    assert linear.operation.pooled == 4
    assert int(linear.acs_per_step.sum()) == 3 * sum(passed) > 0
