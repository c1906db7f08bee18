"""Counts under lossless coding, against brute force."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from conftest import randomise, tiny_config
from mst.measure import check_can_be_priced
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS, FiringSchedule
from mst.operations.changes import differ
from mst.simulation import SimulationResult

pytestmark = pytest.mark.slow


class Small(nn.Module):
    """Convolutions on the image and on rolled spikes, a norm that does not fold, an average pool, a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1, self.site1 = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), QCFS(4, 0.5)
        self.conv2, self.site2 = nn.Conv2d(2, 2, 3, padding=1, bias=False), QCFS(4, 0.5)
        self.norm2, self.site3 = nn.BatchNorm2d(2), QCFS(4, 0.5)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.roll(self.site1(self.norm1(self.conv1(x))), 1, dims=2)
        b = self.site3(self.norm2(self.site2(self.conv2(a)) + a))
        y: Tensor = self.fc(F.avg_pool2d(b, 2).flatten(1))
        return y


def counted(result: SimulationResult) -> dict[str, tuple[list[int], list[int]]]:
    """Operation -> ACs and MACs of each step."""
    return {
        count.operation.name: (count.acs_per_step.tolist(), count.macs_per_step.tolist())  # type: ignore[union-attr]
        for count in result.operations
    }


@pytest.mark.parametrize("input_steps", [1, 3])
@pytest.mark.parametrize("burst", [1, 2])
def test_recorded_operations_equal_brute_force(burst: int, input_steps: int) -> None:
    torch.manual_seed(3)
    model, steps = Small().eval().double(), 8
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64) + 0.1
    snn = mst.convert(model, "lossless", x, schedule=FiringSchedule(burst))
    got = counted(mst.simulate(snn, x, steps, steps_per_chunk=3, input_steps=input_steps))

    def fan_out(spikes: Tensor) -> int:
        """Accumulations of a 3x3 convolution: every spike times every weight that it meets."""
        return int(F.conv2d(spikes, torch.ones(2, spikes.shape[1], 3, 3).double(), padding=1).sum().round())

    counts: dict[str, Tensor] = {}
    sent: dict[str, Tensor] = {}

    def fire(name: str, x: Tensor) -> Tensor:
        lam = getattr(model, name).threshold.detach()
        target = torch.clamp(torch.floor(x * 4 / lam + 0.5), 0, 4)
        before = counts.get(name, torch.zeros_like(x))
        sent[name] = (target - before).clamp(-burst, burst)
        counts[name] = before + sent[name]
        return counts[name] * lam / 4

    def show(image: Tensor) -> None:
        a = torch.roll(fire("site1", model.norm1(model.conv1(image))), 1, dims=2)
        fire("site3", model.norm2(fire("site2", model.conv2(a)) + a))

    def number(*sites: str) -> int:
        return int(sum(sent[site].abs().sum() for site in sites))

    with torch.no_grad():
        for t in range(steps):
            show((x * min(1.0, (t + 1) / input_steps)).double())
            image_macs = fan_out(torch.ones_like(x)) if t < input_steps else 0
            assert got["conv1"][0][t] == 0
            assert got["conv1"][1][t] == image_macs
            assert got["conv2"][0][t] == fan_out(torch.roll(sent["site1"].abs(), 1, dims=2))
            assert got["conv2"][1][t] == 0
            assert got["norm2"][0][t] == number("site1", "site2")  # a sum of both
            assert got["norm2"][1][t] == 0
            assert got["fc"][0][t] == number("site3") * 4  # those of opposite signs in one window too
            assert got["fc"][1][t] == 0
    assert got["fc"][0][0] > 0


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize(
    "schedule",
    [FiringSchedule(), FiringSchedule(3), FiringSchedule(2, (2, 1, 1), 0.5)],
    ids=["plain", "burst", "weighted"],
)
def test_attention_is_counted_by_spikes_of_queries_keys_and_values(schedule: FiringSchedule, ratio: float) -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=ratio, num_levels=32)).eval()
    randomise(model, 1)
    result = mst.simulate(mst.convert(model, "lossless", schedule=schedule), torch.rand(4, 1, 8, 8), 200)
    assert result.num_settled == 4
    got, spikes = counted(result), result.spike_counts
    for block, channels in (("layers.0.blocks.0", 8), ("layers.0.blocks.1", 8), ("layers.1.blocks.0", 16)):
        tokens = 4
        scores, mixed, weights = (got[f"{block}.attn.{name}"] for name in ("query_key", "attention_value", "softmax"))
        assert sum(scores[0]) == (spikes[f"{block}.attn.q_if"] + spikes[f"{block}.attn.k_if"]) * tokens
        assert sum(scores[1]) == 0
        assert sum(mixed[0]) == spikes[f"{block}.attn.v_if"] * tokens
        # a row of scores in which anything has changed is computed again, and each new weight meets every channel
        rows = sum(weights[1]) // (3 * tokens)
        assert sum(weights[1]) == rows * 3 * tokens
        assert 0 < rows <= spikes[f"{block}.attn.attn_if"]
        assert sum(mixed[1]) <= rows * tokens * channels // 2  # two heads
        for site, linear, outputs in (("shortcut1_if", "attn.qkv", 3), ("shortcut2_if", "mlp.fc1", 2)):
            assert sum(got[f"{block}.{linear}"][0]) == spikes[f"{block}.{site}"] * outputs * channels
        assert sum(got[f"{block}.mlp.fc2"][0]) == spikes[f"{block}.mlp.fc1_if"] * channels


def test_settled_network_costs_nothing_more() -> None:
    model = MaskedSpikingTransformer(tiny_config()).eval()
    randomise(model)
    images = torch.rand(3, 1, 8, 8)
    result = mst.simulate(mst.convert(model, "lossless"), images, 50)
    last = int(result.steps_taken.max())
    for acs, macs in counted(result).values():
        assert sum(acs[last:]) == sum(macs[last:]) == 0
    estimate = mst.estimate_energy(result)
    assert estimate.snn_energy_pj_per_step[last - 1] == pytest.approx(estimate.snn.energy_pj)
    assert "Each operation works on what has changed" in estimate.assumptions[0]


def test_energy_rows_of_lossless_coding_sum_to_the_totals() -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5)).eval()
    randomise(model)
    result = mst.simulate(mst.convert(model, "lossless", burst=2), torch.rand(3, 1, 8, 8), 50)
    estimate = mst.estimate_energy(result)
    for side in ("snn", "ann"):
        for figure in ("num_macs", "num_acs", "energy_pj"):
            total = getattr(getattr(estimate, side), figure)
            rows = sum(getattr(getattr(row, side), figure) for row in estimate.operations)
            sites = sum(getattr(getattr(site, side), figure) for site in estimate.sites.values())
            assert rows == pytest.approx(total, rel=1e-12)
            assert sites == pytest.approx(total, rel=1e-12)
    rate = mst.estimate_energy(mst.simulate(mst.convert(model), torch.rand(3, 1, 8, 8), 5))
    assert rate.ann == estimate.ann
    assert rate.assumptions != estimate.assumptions


@pytest.mark.parametrize("burst", [1, 2])
def test_spikes_of_several_sites_in_one_operand_are_counted_one_by_one(burst: int) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = QCFS(4, 0.5), QCFS(8, 1.0)
            self.fc = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(torch.cat([self.a(x), self.b(x * 2)], dim=1))
            return y

    x = torch.rand(4, 3)
    result = mst.simulate(mst.convert(Joined(), "lossless", x, burst=burst, schedule="plain"), x, 20)
    acs, macs = counted(result)["fc"]
    assert (sum(acs), sum(macs)) == (sum(result.spike_counts.values()) * 5, 0)


@pytest.mark.parametrize("burst", [1, 3])
def test_spikes_of_thresholds_by_channel_are_counted_one_by_one(burst: int) -> None:
    torch.manual_seed(2)
    threshold = torch.tensor([0.3, 0.7, 1.1])[:, None, None]
    model = nn.Sequential(
        nn.Conv2d(1, 3, 1), QCFS(8, threshold), nn.Conv2d(3, 3, 1), QCFS(8, threshold), nn.Flatten(), nn.Linear(48, 5)
    )
    x = torch.rand(4, 1, 4, 4, dtype=torch.float64) * 3
    snn = mst.convert(model.double().eval(), "lossless", x, schedule=FiringSchedule(burst))
    for chunk in (1, 3, 4):  # three steps at once, equal to the number of channels
        result = mst.simulate(snn, x, 40, steps_per_chunk=chunk)
        got, spikes = counted(result), result.spike_counts
        assert (sum(got["2"][0]), sum(got["2"][1])) == (spikes["1"] * 3, 0)
        assert (sum(got["5"][0]), sum(got["5"][1])) == (spikes["3"] * 5, 0)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_products_behind_an_average_pool_are_driven_by_its_spikes(coding: str) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.product, self.out = (
                QCFS(4, 0.5),
                QCFS(4, 0.5),
                mst.ActivationProduct(True),
                QCFS(4, 1.0),
            )

        def forward(self, x: Tensor) -> Tensor:
            keys = F.avg_pool1d(self.k(x * 0.8).transpose(1, 2), 2).transpose(1, 2)
            y: Tensor = self.out(self.product(self.q(x), keys))
            return y.flatten(1)

    x = torch.rand(3, 6, 4)
    result = mst.simulate(mst.convert(Pooled().eval(), coding, x), x, 40)  # type: ignore[arg-type]
    (product,) = result.operations
    spikes = result.spike_counts
    by_site = {"q": spikes["q"] * 3, "k": spikes["k"] * 6}  # each meets three pooled keys, or six queries
    if coding == "rate":  # the keys of the step are read, whatever they are
        by_site.pop("k")
    assert product.operation.sources == tuple(sorted(by_site))
    assert product.acs_by_source == tuple(by_site[site] for site in sorted(by_site))
    assert int(product.acs_per_step.sum()) == sum(by_site.values())
    estimate = mst.estimate_energy(result)
    assert estimate.snn.num_macs == 0
    for site, acs in by_site.items():
        assert estimate.sites[site].snn.num_acs == pytest.approx(acs / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_analog_changes_cost_the_same_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), QCFS(4, 0.5), nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 3)).eval()
    x = torch.rand(8, 6)
    result = mst.simulate(mst.convert(model.to(dtype), "lossless", x), x, 30)
    got = counted(result)
    dense = [32 * 3 * 8, 32 * 3 * 8]
    assert sum(got["3"][1]) >= dense[0]  # each image's row is computed at least once, most several times
    assert sum(got["4"][1]) >= 0.9 * dense[1]


def test_the_largest_of_a_window_may_change_by_less_than_a_spike_and_still_costs_one() -> None:
    """One value has climbed to 7 quanta; the other overtakes it by a spike of 8, and the largest grows by 1."""
    model = nn.Sequential(QCFS(16, 16.0), nn.MaxPool2d((1, 2)), nn.Conv2d(1, 3, 1)).eval()
    slices = torch.tensor([[14.0, 0.0], [0.0, 16.0]]).view(1, 2, 1, 1, 2)  # the network sees their mean so far
    schedule = FiringSchedule(4, (1, 1, 1, 8, 1, 1))
    result = mst.simulate(mst.convert(model, "lossless", slices[:, 0], schedule=schedule), slices, 6, in_slices=True)
    assert result.sent_per_step.tolist() == [4, 3, 0, 1, 0, 0]
    assert counted(result)["2"] == ([12, 9, 0, 3, 0, 0], [0] * 6)


def test_behind_a_max_pool_a_free_change_costs_the_powers_that_it_takes() -> None:
    """One value stands at 1 quantum, and a spike of 8 takes the other past it: the largest grows by 7 = 8 - 1."""
    model = nn.Sequential(QCFS(16, 16.0), nn.MaxPool2d((1, 2)), nn.Conv2d(1, 3, 1)).eval()
    slices = torch.tensor([[2.0, 0.0], [0.0, 16.0]]).view(1, 2, 1, 1, 2)
    schedule = FiringSchedule(is_free=True)
    snn = mst.convert(model, "lossless", slices[:, 0], schedule=schedule)
    result = mst.simulate(snn, slices, 4, in_slices=True)
    assert result.sent_per_step.tolist() == [1, 0, 1, 0]
    assert counted(result)["2"] == ([3, 0, 6, 0], [0] * 4)


def test_attention_in_one_function_is_carried_but_not_priced() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site, self.head = QCFS(4, 0.5), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.site(x)
            logits: Tensor = self.head(F.scaled_dot_product_attention(y, y, y).mean(1))
            return logits

    x = torch.rand(3, 5, 4)
    snn = mst.convert(Fused().eval(), "lossless", x)
    result = mst.simulate(snn, x, 20)
    assert result.num_settled == 3
    assert result.uncounted == ("(the network itself) (scaled_dot_product_attention)",)
    for refused in (lambda: mst.estimate_energy(result), lambda: check_can_be_priced(snn, x[:1])):
        with pytest.raises(ValueError, match=r"cost of these is not known: .* \(scaled_dot_product_attention\)"):
            refused()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 32), (torch.float64, 32), (torch.bfloat16, 2)])
def test_change_of_an_analog_value_by_rounding_is_none(dtype: torch.dtype, limit: int) -> None:
    eps = torch.finfo(dtype).eps
    now = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, -2.0], dtype=dtype)
    change = torch.tensor([limit / 2, limit, 2 * limit, 0, 1, 4 * limit], dtype=dtype) * eps
    assert differ(now, now - change).tolist() == [0, 0, 1, 0, 1, 1]
