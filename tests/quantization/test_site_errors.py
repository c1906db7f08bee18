"""Errors of quantisation by site, against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.neurons import QCFS, begin_run, find_sites, running
from mst.progress import Stage
from mst.quantization.site_errors import Diagnoser, Reference, SiteErrors, quantising, with_levels

X = torch.tensor([[0.2, 0.6], [1.4, -1.0]])


class TwoSites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.second = QCFS(2, 1.0), nn.Linear(2, 2, bias=False), QCFS(10, 4.0)
        with torch.no_grad():
            self.twice.weight.copy_(2 * torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.twice(self.first(x)))


def errors(model: nn.Module, x: Tensor, reference: Reference = "unclipped") -> dict[str, SiteErrors]:
    diagnoser = Diagnoser(model.eval(), reference, seed=0)
    for image in x.split(1):  # sums over batches
        diagnoser.add(image, None)
    return {site.site: site for site in diagnoser.site_errors(Stage(None, "", 1, ""))}


def test_errors_of_a_site_are_those_computed_by_hand() -> None:
    """ReLU gives 0.2 0.6 1.4 0; the site, of 0, 0.5 and 1, makes 0 0.5 1 0 of them."""
    first = errors(TwoSites(), X)["first"]
    assert first.own_error == pytest.approx(math.sqrt((0.04 + 0.01 + 0.16) / 2.36))
    assert first.clipping_share == pytest.approx(0.16 / 0.21)
    assert (first.arriving_error, first.passed_error) == (0.0, pytest.approx(first.own_error))
    assert (first.lowest_level, first.highest_level, first.lowest_used, first.highest_used) == (0, 2, 0, 2)
    assert first.effective_levels == pytest.approx(2**1.5)  # frequencies 1/2, 1/4, 1/4
    assert (first.clipped_below, first.clipped_above) == (0.0, 0.25)
    assert first.lost_to_zero == pytest.approx(1 / 3)
    assert (first.threshold, first.num_thresholds) == ((1.0, 1.0, 1.0), 1)


def test_values_within_half_a_quantum_of_the_highest_level_are_not_clipped() -> None:
    assert errors(TwoSites(), torch.tensor([[1.2, 1.3]]))["first"].clipped_above == 0.5  # 2.4 and 2.6 quanta of 2


def test_errors_that_arrive_are_told_from_those_that_a_site_adds() -> None:
    """The second site, in steps of 0.4, gets 0.4 1.2 2.8 0, or 0 1 2 0 where the first quantises."""
    second = errors(TwoSites(), X)["second"]
    norm = 0.16 + 1.44 + 7.84
    assert second.own_error == pytest.approx(0.0, abs=1e-6)
    assert second.arriving_error == pytest.approx(math.sqrt((0.16 + 0.04 + 0.64) / norm))
    assert second.passed_error == pytest.approx(math.sqrt(0.16 + 0.0 + 0.64) / math.sqrt(norm))  # 1 becomes 1.2
    assert second.own_effect == pytest.approx(0.0, abs=1e-6)
    assert errors(TwoSites(), X)["first"].own_effect == pytest.approx(math.sqrt((0.16 + 0.04 + 0.64) / norm))


def test_clipped_reference_leaves_out_what_the_levels_clip() -> None:
    first = errors(TwoSites(), X, "clipped")["first"]
    assert first.own_error == pytest.approx(math.sqrt(0.05 / 1.40))
    assert first.clipping_share == 0.0
    assert first.clipped_above == 0.25  # of the values themselves


def test_reference_at_products_is_the_network_before_quantisation() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3)).double().eval()
    x = torch.randn(8, 4, dtype=torch.float64)
    model = mst.quantize(plain, 7, x, placement="products").eval()
    with torch.no_grad():
        with quantising(model, ()):
            assert torch.equal(model(x), plain(x))
        with quantising(model, find_sites(model)):
            quantised = model(x)
        assert torch.equal(quantised, model(x))
        assert not torch.equal(quantised, plain(x))


def test_masks_act_alike_in_network_and_reference() -> None:
    model = mst.mask_spikes(nn.Sequential(QCFS(2**15, 2.0), nn.Linear(2, 3)), 0.5)
    x = torch.rand(64, 2)
    with torch.no_grad(), running(begin_run(model, batch_size=64)), quantising(model, ()):
        masked = model(x)
    with torch.no_grad():
        assert not torch.allclose(masked, model[1](x))
    assert errors(model, x)["0"].own_effect < 1e-3


def test_sites_that_take_no_part_have_no_errors() -> None:
    model = TwoSites()
    model.spare = QCFS(4)
    assert set(errors(model, X)) == {"first", "second"}


def test_with_levels_adds_a_bit_to_each_site() -> None:
    model = nn.Sequential(QCFS(16, 1.5), QCFS(8, 2.0))
    first, second = find_sites(with_levels(model, None, None, add_bit=True)).values()
    assert (first.num_levels, second.num_levels) == (33, 17)
    assert (first.threshold.item(), second.threshold.item()) == (1.5, 2.0)
