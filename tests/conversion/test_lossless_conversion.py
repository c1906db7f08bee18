"""Conversion to lossless coding: the network, its sites and notes, and refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import mst
from conftest import randomise
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS, SCHEDULES, FiringSchedule, SignedIFNeuron, find_sites, named_schedule
from mst.neurons.schedule import ScheduleName

pytestmark = pytest.mark.slow


def test_lossless_account_names_signed_neurons_with_their_thresholds_and_ratios(
    tiny_model: MaskedSpikingTransformer,
) -> None:
    mst.mask_spikes(tiny_model, 0.5, "attention")
    snn = mst.convert(tiny_model, "lossless")
    sites = find_sites(tiny_model)
    assert [line.site for line in snn.sites] == list(sites)
    for line in snn.sites:
        site = sites[line.site]
        assert (line.was, line.became) == ("QCFS", "SignedIFNeuron")
        assert (line.threshold, line.num_levels, line.masking_ratio) == (site.threshold.item(), 4, site.masking_ratio)
    assert not any(isinstance(module, QCFS) for module in snn.modules())
    assert (snn.coding, snn.examined, snn.folded) == (mst.CODINGS["lossless"], True, ())


def test_lossless_leaves_weights_as_they_are(tiny_model: MaskedSpikingTransformer) -> None:
    """No BatchNorm is folded, so that sums round as the ANN's do."""
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    snn = mst.convert(tiny_model, "lossless")
    for name, tensor in snn.network.state_dict().items():
        if name in before:
            assert torch.equal(tensor, before[name]), name
    mst.simulate(snn, torch.rand(2, 1, 8, 8), 3)
    torch.testing.assert_close(tiny_model.state_dict(), before, rtol=0, atol=0)


def test_lossless_depths_are_those_of_the_longest_chain(tiny_model: MaskedSpikingTransformer) -> None:
    snn = mst.convert(tiny_model, "lossless")
    depths = {m.site: m.depth for m in snn.modules() if isinstance(m, SignedIFNeuron)}
    block = "layers.0.blocks.0"
    assert depths["patch_embed.proj_if"] == 0
    assert depths[f"{block}.shortcut1_if"] == 1
    assert depths[f"{block}.attn.q_if"] == depths[f"{block}.attn.k_if"] == depths[f"{block}.attn.v_if"] == 2
    assert depths[f"{block}.attn.attn_if"] == 3
    assert depths[f"{block}.attn.attn_v_if"] == 4
    assert depths[f"{block}.shortcut2_if"] == 6
    assert snn.depth == 1 + max(depths.values())


def test_lossless_schedule_is_weighted_by_default(tiny_model: MaskedSpikingTransformer) -> None:
    own = FiringSchedule(3, (2, 1), 0.1)
    for options, expected in (
        ({}, named_schedule("weighted", 4)),
        ({"burst": 2}, named_schedule("weighted", 4, 2)),
        ({"burst": 2, "schedule": "plain"}, FiringSchedule(2)),
        ({"schedule": own}, own),
        ({"schedule": own, "burst": 3}, own),
    ):
        snn = mst.convert(tiny_model, "lossless", **options)  # type: ignore[arg-type]
        assert snn.schedule == expected
        assert {m.schedule for m in snn.modules() if isinstance(m, SignedIFNeuron)} == {expected}
    assert mst.convert(tiny_model).schedule is None


def test_longest_settling_grows_with_depth_and_falls_with_burst(tiny_model: MaskedSpikingTransformer) -> None:
    plain, fast = (mst.convert(tiny_model, "lossless", schedule="plain", burst=burst) for burst in (1, 4))
    assert plain.longest_settling == plain.depth * 4
    assert fast.longest_settling == fast.depth
    result = mst.simulate(fast, torch.rand(2, 1, 8, 8), fast.longest_settling, record_operations=False)
    assert result.num_settled == 2


def test_initial_levels_are_medians_and_are_left_out_where_masks_are(tiny_model: MaskedSpikingTransformer) -> None:
    mst.mask_spikes(tiny_model, 0.5, "attention")
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    snn = mst.convert(tiny_model, "lossless", initial_images=images)
    levels_of = {m.site: m.initial_levels for m in snn.modules() if isinstance(m, SignedIFNeuron)}
    masked = {line.site for line in snn.sites if line.masking_ratio > 0}
    assert {site for site, counts in levels_of.items() if counts is None} == masked
    seen: dict[str, torch.Tensor] = {}
    tiny_model.patch_embed.proj_if.register_forward_hook(lambda m, i, o: seen.update(out=o))
    tiny_model(images)
    levels = (seen["out"] / tiny_model.patch_embed.proj_if.threshold * 4).round()
    counts = levels_of["patch_embed.proj_if"]
    assert counts is not None
    assert torch.equal(counts[0].double(), levels.median(dim=0).values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coding": "rate", "burst": 2}, "burst has no effect under rate coding; it belongs to lossless coding"),
        (
            {"coding": "rate", "schedule": "weighted"},
            "schedule has no effect under rate coding; it belongs to lossless coding",
        ),
        (
            {"coding": "rate", "initial_images": torch.ones(1, 1, 1, 1)},
            "initial_images has no effect under rate coding; it belongs to lossless coding",
        ),
        ({"burst": 0}, "a whole number, at least 1, got 0"),
        ({"schedule": "fast"}, "unknown schedule 'fast'; choose from"),
        ({"schedule": FiringSchedule(2), "burst": 3}, "burst 3 contradicts the schedule's 2"),
        ({"initial_images": []}, "initial_images: initial levels need at least one image"),
        ({"initial_images": torch.ones(0, 1, 8, 8)}, "initial_images: initial levels need at least one image"),
    ],
    ids=str,
)
def test_conversion_options_that_do_not_go_together_are_refused(
    tiny_model: MaskedSpikingTransformer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mst.convert(tiny_model, **{"coding": "lossless", **options})


def test_lossless_needs_to_see_an_image_where_the_shape_is_not_known() -> None:
    model = nn.Sequential(nn.Linear(4, 4), QCFS(4, 1.0), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"lossless coding examines one image first, .*; give an example"):
        mst.convert(model, "lossless")
    assert mst.convert(model, "lossless", torch.rand(3, 4)).depth == 1


def test_lossless_refuses_what_no_coding_can_carry() -> None:
    """A neuron used twice, and BatchNorm that mixes images."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site, self.norm = QCFS(4, 1.0), nn.BatchNorm2d(4, track_running_stats=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.norm(self.site(self.site(x) * 2))
            return y

    with pytest.raises(mst.ConversionError, match=r"(?s)site: used several times in one pass.*norm: BatchNorm without"):
        mst.convert(Twice().eval(), "lossless", torch.rand(2, 4, 3, 3))


def test_lossless_notes_that_an_activation_other_than_qcfs_stays_analog() -> None:
    model = nn.Sequential(nn.Linear(4, 4), QCFS(4, 1.0), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model = model.double().eval()
    with pytest.raises(mst.ConversionError, match="3: relu has no spiking counterpart"):
        mst.convert(model, "rate", torch.rand(1, 4, dtype=torch.float64))
    snn = mst.convert(model, "lossless", torch.rand(1, 4))
    assert [line for line in snn.notes if line.startswith("3: relu")]
    x = torch.rand(6, 4, dtype=torch.float64)
    result = mst.simulate(snn, x, 30)
    assert (result.logits - model(x)).abs().max().item() < 1e-12


def test_lossless_networks_of_several_level_numbers_settle() -> None:
    model = nn.Sequential(
        nn.Linear(6, 6), QCFS(3, 1.0), nn.Linear(6, 6), QCFS(16, 0.7), nn.Linear(6, 6), QCFS(1, 0.5), nn.Linear(6, 3)
    )
    randomise(model, 4)
    model = model.double().eval()
    x = torch.randn(20, 6, dtype=torch.float64)
    for schedule in ("plain", "staggered", "weighted"):
        snn = mst.convert(model, "lossless", x, schedule=schedule)  # type: ignore[arg-type]
        result = mst.simulate(snn, x, snn.longest_settling)
        assert result.num_settled == 20
        assert (result.logits - model(x)).abs().max().item() < 1e-12


def test_lossless_refuses_a_network_that_mixes_the_images_of_a_batch() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.site = nn.Linear(4, 4), QCFS(4, 1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.site(self.fc(x) + 0.3)
            return y / (y.amax() + 1)

    with pytest.raises(mst.ConversionError, match="the answer to an image depends on the others beside it"):
        mst.convert(Mixing(), "lossless", torch.rand(1, 4))


def test_lossless_masked_networks_are_not_taken_for_mixing(tiny_model: MaskedSpikingTransformer) -> None:
    """Masks differ from image to image, and those of an image do not depend on its place in a batch."""
    mst.convert(mst.mask_spikes(tiny_model, 0.5, "all"), "lossless")
    mst.convert(tiny_model.float(), "lossless")
    mst.convert(tiny_model.bfloat16(), "lossless")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_levels_of_few_powers_settle_at_the_ann_with_so_many_spikes(schedule: ScheduleName) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    x = torch.randn(8, 6, dtype=torch.float64)
    model = mst.quantize(plain, 45, x, placement="products", example=x).eval()
    rounded = [mst.limit_powers(copy.deepcopy(model), limit) for limit in (1, 2)]
    for limit, network in enumerate(rounded, 1):
        snn = mst.convert(network, "lossless", x, schedule=schedule)
        assert snn.longest_settling is not None
        result = mst.simulate(snn, x, snn.longest_settling)
        assert result.num_settled == 8
        assert (result.logits - network(x)).abs().max().item() < 1e-12
        assert (result.logits - model(x)).abs().max().item() > 1e-3
        assert mst.convert(network, "lossless", x).schedule == named_schedule("free", 23)
        if schedule == "free":  # and the first site, whose input never changes, needs no other spikes
            assert result.sites["2.input_site"].sent_per_step.sum() <= limit * 8 * 20
    with pytest.raises(mst.ConversionError, match="at most 2 powers of two, at which no mean of rate coding ends"):
        mst.convert(mst.limit_powers(tiny_quantised(), 2), "rate", x)


def tiny_quantised() -> nn.Module:
    return mst.quantize(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)))
