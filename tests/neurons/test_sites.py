"""Masks by group, role and glob; ratios by site; removal of masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mst
from conftest import tiny_config
from mst.errors import InputError
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS, find_sites, select_sites


def model() -> MaskedSpikingTransformer:
    return MaskedSpikingTransformer(tiny_config())


def ratios(network: nn.Module) -> dict[str, float]:
    return {name: site.masking_ratio for name, site in find_sites(network).items() if site.masking_ratio}


def test_mask_spikes_by_group_is_where_the_paper_masks() -> None:
    network = model()
    assert mst.mask_spikes(network, 0.75, "attention") is network
    kinds = {name.rpartition(".")[2] for name in ratios(network)}
    assert kinds == {"q_if", "k_if", "attn_if"}
    assert len(ratios(network)) == 9
    assert {n.rpartition(".")[2] for n in select_sites(network, "mlp")} == {"shortcut2_if"}
    assert len(select_sites(network, "all")) == len(find_sites(network))


def test_mask_spikes_by_role_glob_and_several() -> None:
    network = mst.mask_spikes(model(), 0.5, ("value", "layers.1.*.fc1_if"))
    assert set(ratios(network)) == {
        "layers.0.blocks.0.attn.v_if", "layers.0.blocks.1.attn.v_if", "layers.1.blocks.0.attn.v_if",
        "layers.1.blocks.0.mlp.fc1_if",
    }  # fmt: skip


def test_mask_spikes_with_a_ratio_for_each_selection_and_without() -> None:
    network = mst.mask_spikes(model(), {"attention": 0.75, "layers.1.*": 0.25, "*.q_if": 0.0})
    found = ratios(network)
    assert found["layers.0.blocks.0.attn.k_if"] == 0.75
    assert found["layers.1.blocks.0.attn.k_if"] == 0.25
    assert "layers.0.blocks.0.attn.q_if" not in found
    assert not ratios(mst.mask_spikes(network, 0.0))


def test_mask_spikes_acts_in_training_and_evaluation_and_conversion_hands_it_on(tmp_path: Path) -> None:
    network = mst.quantize(nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 2)), 4, [torch.rand(8, 6)])
    mst.mask_spikes(network, 0.9)
    x = torch.ones(20, 6)
    with torch.no_grad():
        network[0].bias.fill_(100.0)
    for mode in (True, False):
        kept = network.train(mode)[1](network[0](x)).count_nonzero() / (20 * 50)
        assert 0.05 < kept < 0.15
    mst.save_checkpoint(network, tmp_path / "x.safetensors")
    other = mst.quantize(nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 2)), 4)
    snn = mst.convert(mst.load_checkpoint(tmp_path / "x.safetensors", model=other))
    result = mst.simulate(snn, x, num_steps=10)
    dropped = result.dropped_counts["1"]
    assert 0.85 < dropped / (dropped + result.spike_counts["1"]) < 0.95


@pytest.mark.parametrize(
    ("ratio", "sites", "message"),
    [
        (75.0, "all", r"in \[0, 1\); got 75.0; for 75 % write 0.75"),
        (0.5, "atention", "no site matches 'atention'; did you mean attention.*This network has all, attention, mlp, "),
        ({}, "all", "masking_ratio names no site"),
        ({"all": 0.5}, "mlp", "sites has no effect where masking_ratio names the sites"),
        ({"all": 0.5, "mlp": 1.0}, "all", "fraction dropped"),
    ],
)
def test_mask_spikes_bad_input_changes_nothing(ratio: float | dict[str, float], sites: str, message: str) -> None:
    network = model()
    with pytest.raises(ValueError, match=message):
        mst.mask_spikes(network, ratio, sites)
    assert not ratios(network)


def test_mask_spikes_without_sites_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no QCFS site; quantise it first"):
        mst.mask_spikes(nn.Linear(1, 1), 0.5)
    with pytest.raises(ValueError, match="no site matches 'attention'.*has all, or globs over its sites: 0"):
        mst.mask_spikes(mst.quantize(nn.Sequential(nn.ReLU())), 0.5, "attention")


def test_find_sites_gives_each_site_by_its_module_path() -> None:
    model = nn.Sequential(nn.Linear(2, 2), QCFS(), nn.Sequential(QCFS()))
    assert find_sites(model) == {"1": model[1], "2.0": model[2][0]}


@pytest.mark.parametrize("ratio", ["0.5", None, True, float("nan"), 1.0, -0.1, 75])
def test_mask_spikes_with_something_else_than_a_fraction_is_refused(ratio: object) -> None:
    model = nn.Sequential(nn.Linear(2, 2), QCFS())
    with pytest.raises(InputError, match="masking_ratio"):
        mst.mask_spikes(model, ratio)  # type: ignore[arg-type]
    assert model[1].mask is None


def test_limit_powers_rounds_the_levels_of_the_sites_that_are_named() -> None:
    network = model()
    assert mst.limit_powers(network, 2, "mlp") is network
    limited = {name for name, site in find_sites(network).items() if site.max_powers == 2}
    assert limited == set(select_sites(network, "mlp"))
    assert "max_powers=2" in repr(next(iter(select_sites(network, "mlp").values())))
    mst.limit_powers(network, None)
    assert not any(site.max_powers for site in find_sites(network).values())


@pytest.mark.parametrize(("limit", "sites"), [(0, "all"), (1.5, "all"), (2, "nowhere")])
def test_limit_powers_refuses_what_it_cannot_do(limit: Any, sites: str) -> None:
    network = model()
    with pytest.raises(InputError):
        mst.limit_powers(network, limit, sites)
    assert not any(site.max_powers for site in find_sites(network).values())


def test_selection_by_glob_finds_sites_within_wrappers() -> None:
    plain, wrapped = model(), nn.DataParallel(model())
    mst.mask_spikes(plain, 0.5, "layers.1.*.fc1_if")
    mst.mask_spikes(wrapped, 0.5, "layers.1.*.fc1_if")
    assert ratios(wrapped) == {f"module.{name}": ratio for name, ratio in ratios(plain).items()}


@pytest.mark.parametrize(("levels", "lowest", "highest"), [(31, -10, 21), (7, -2, 5), (1, 0, 1)])
def test_set_levels_keeps_the_range_of_a_site(levels: int, lowest: int, highest: int) -> None:
    site = QCFS(10, torch.tensor([1.0, 3.0]), min_level=-5)
    mst.set_levels(nn.Sequential(site), levels)
    assert (site.min_level, site.num_levels) == (lowest, highest)
    quantum = site.threshold.detach() / site.num_levels
    torch.testing.assert_close(quantum * levels, torch.tensor([1.5, 4.5]))


def test_set_levels_changes_the_sites_selected_and_a_checkpoint_stores_them(tmp_path: Path) -> None:
    sizes = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "num_classes": 3}
    model = mst.create_model("mst_nano_patch2_window2_8", **sizes)
    mst.set_levels(model, {"attention": 31, "query": 7})
    levels = {site.role: site.num_levels for site in find_sites(model).values()}
    assert (levels["query"], levels["key"], levels["mlp"]) == (7, 31, 16)
    assert {site.threshold.item() for site in find_sites(model).values()} == {2.0}
    mst.save_checkpoint(model, tmp_path / "x.safetensors")
    again = find_sites(mst.load_checkpoint(tmp_path / "x.safetensors"))
    assert {site.role: site.num_levels for site in again.values()} == levels


def test_set_levels_that_fail_change_nothing() -> None:
    model = nn.Sequential(QCFS(4), QCFS(4))
    for levels, message in (({"all": 8, "1": 0}, "must be at least 1"), ({"0": 8, "2": 8}, "no site matches '2'")):
        with pytest.raises(InputError, match=message):
            mst.set_levels(model, levels)
    assert [site.num_levels for site in find_sites(model).values()] == [4, 4]
