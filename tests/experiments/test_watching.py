"""One image under both codings, step by step, against `mst.simulate` and `mst.estimate_energy`."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

import mst
from mst.errors import InputError
from mst.experiments import WatchableNetwork, Watched, WatchOptions
from mst.simulation import EarlyExit, SimulationResult, readouts_of


@cache
def network() -> WatchableNetwork:
    return WatchableNetwork("zoo:digits-mst")


def image() -> Tensor:
    return mst.load_dataset("digits", img_size=8).test[3][0]


def simulated(coding: str, steps: int, masking_ratio: float = 0.0, **how: object) -> SimulationResult:
    model = mst.load("digits-mst")
    if masking_ratio:
        mst.mask_spikes(model, masking_ratio, "attention")
    options = {"burst": 4, "schedule": "free"} if coding == "lossless" else {}
    return mst.simulate(mst.convert(model, coding, image()[None], **options), image()[None], steps, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def masked() -> Watched:
    return network().watch(image(), WatchOptions(6, masking_ratio=0.5, seed=2))


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_every_step_is_that_of_a_simulation(masked: Watched, coding: str) -> None:
    result = simulated(coding, 6, 0.5, seed=2, keep_step_logits=True)
    estimate, ours = mst.estimate_energy(result), masked.codings[coding]
    assert torch.equal(ours.scores, readouts_of(result)[:, 0].softmax(dim=1))
    assert ours.last_step == int(result.steps_taken[0])
    assert ours.spikes_after(6) == sum(result.spike_counts.values())
    assert int(ours.dropped.sum()) == sum(result.dropped_counts.values()) > 0
    assert sum(ours.energy_after(6).values()) == pytest.approx(estimate.everything.snn.energy_pj)
    assert ours.energy_after(6)["maps and products"] == pytest.approx(estimate.maps_and_products.snn.energy_pj)
    assert ours.energy_after(6)["functions"] == pytest.approx(estimate.all_functions.snn.energy_pj)
    assert ours.table_energy_pj[-1] == pytest.approx(estimate.snn.energy_pj)
    assert sum(masked.ann.energy_pj.values()) == pytest.approx(estimate.everything.ann.energy_pj)
    assert (masked.masking_ratio, masked.masked_sites) == (0.5, 6)
    rates = ours.spikes_per_neuron.sum(dim=0).tolist()
    counts = {site: float(record.sent_per_step.sum()) / record.num_neurons for site, record in result.sites.items()}
    assert dict(zip(ours.sites, rates, strict=True)) == pytest.approx(counts)


@pytest.mark.parametrize("rule", [EarlyExit("margin", 1.5), EarlyExit("stability", 2)])
@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_early_exit_is_that_of_a_simulation(rule: EarlyExit, coding: str) -> None:
    ours = network().watch(image(), WatchOptions(6, early_exit=rule)).codings[coding]
    result = simulated(coding, 6, early_exit=rule)
    assert ours.last_step == int(result.steps_taken[0]) < 6
    assert sum(ours.energy_after(6).values()) == pytest.approx(mst.estimate_energy(result).everything.snn.energy_pj)
    assert ours.spikes_after(6) == sum(result.spike_counts.values())
    assert ours.answer_at(6) == int(result.logits[0].argmax())


def test_a_coding_that_cannot_carry_the_network_is_named() -> None:
    network = WatchableNetwork("zoo:fashion-mnist-mst-4-bits")
    watched = network.watch(torch.zeros(network.image_shape), WatchOptions(1))
    assert set(watched.codings) == {"lossless"}
    assert "which rate coding does not carry" in watched.refusals["rate"]


def test_shown_image_is_the_one_before_normalisation() -> None:
    watched = network().watch(image(), WatchOptions(1))
    pixels = torch.as_tensor(mst.load_dataset("digits", img_size=8).test.raw.read(3)[0])
    torch.testing.assert_close(watched.image, pixels)


def test_image_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"takes images \(1, 8, 8\), got \(3, 8, 8\)"):
        network().watch(torch.zeros(3, 8, 8))


def test_exit_that_cannot_trigger_is_refused() -> None:
    with pytest.raises(InputError, match="can never trigger within 4 time steps"):
        WatchOptions(4, early_exit=EarlyExit("stability", 5))
