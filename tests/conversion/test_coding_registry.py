"""Codings as objects: a third one from outside the package in every room, and the refusals."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import mst
from mst.conversion import CODINGS
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS, FiringSchedule, IFNeuron, SpikingNeuron, find_sites
from mst.operations import ChangeCounter, SpikeCounter


class LeakyNeuron(IFNeuron):
    """v <- leak·v + x ;  s = [v >= λ] ;  v <- v - λ·s"""

    leak: ClassVar[float] = 0.9

    def fire(self, x_TB: Tensor, *state: Tensor) -> Tensor:
        (v,) = state
        spikes_TB = torch.empty_like(x_TB)
        for x, spikes in zip(x_TB, spikes_TB, strict=True):
            v.mul_(self.leak).add_(x)
            spikes.copy_((v >= self.threshold) * self.threshold)
            v.sub_(spikes)
        return spikes_TB


def leaky_neuron(qcfs: QCFS, site: str, schedule: FiringSchedule | None) -> SpikingNeuron:
    assert schedule is None
    return LeakyNeuron.from_qcfs(qcfs, site)


@pytest.fixture
def leaky() -> Iterator[mst.Coding]:
    yield mst.register_coding(mst.Coding("leaky", leaky_neuron))
    del CODINGS["leaky"]


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 0.5


def test_coding_from_outside_converts_simulates_counts_and_is_priced(
    tiny_model: MaskedSpikingTransformer, leaky: mst.Coding
) -> None:
    snn = mst.convert(mst.mask_spikes(tiny_model, 0.5, "attention"), "leaky")
    assert repr(snn) == "SpikingNetwork(leaky, 32 sites, 6 BatchNorms folded)"
    assert {line.became for line in snn.sites} == {"LeakyNeuron"}
    result = mst.simulate(snn, (images(), torch.tensor([0, 1, 2, 0])), 12)
    assert repr(result).startswith("SimulationResult(leaky, T=12, 4 images")
    assert set(result.spike_counts) == set(find_sites(tiny_model))
    assert sum(result.dropped_counts.values()) > 0
    driven = [count for count in result.operations if count.operation.is_spike_driven]
    assert sum(int(count.acs_per_step.sum()) for count in driven) > 1000
    energy = mst.estimate_energy(result)
    assert energy.assumptions[: len(SpikeCounter.assumptions)] == SpikeCounter.assumptions
    assert sum(row.snn.energy_pj for row in energy.operations) == pytest.approx(energy.snn.energy_pj)
    assert energy.snn.num_acs == pytest.approx(sum(int(count.acs_per_step.sum()) for count in driven) / 4)


def test_coding_from_outside_leaves_early_and_calibrates(
    tiny_model: MaskedSpikingTransformer, leaky: mst.Coding
) -> None:
    snn = mst.convert(tiny_model, leaky)
    data = images(), torch.tensor([0, 1, 2, 0])
    whole = mst.simulate(snn, data, 12, keep_step_logits=True)
    chosen = mst.calibrate_early_exit(whole, "stability", 0.5, confidence=0.8).chosen
    fast = mst.simulate(snn, data, 12, early_exit=chosen.early_exit)
    assert fast.mean_steps == chosen.mean_steps < 12


def test_leaky_coding_without_leak_is_rate_coding_spike_for_spike(
    tiny_model: MaskedSpikingTransformer, leaky: mst.Coding, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, with_leak = (mst.simulate(mst.convert(tiny_model, name), images(), 9) for name in ("rate", "leaky"))
    monkeypatch.setattr(LeakyNeuron, "leak", 1.0)
    without = mst.simulate(mst.convert(tiny_model, "leaky"), images(), 9)
    assert without.spike_counts == rate.spike_counts
    torch.testing.assert_close(without.logits, rate.logits, rtol=0, atol=1e-12)
    assert with_leak.spike_counts["patch_embed.proj_if"] < rate.spike_counts["patch_embed.proj_if"]


def test_coding_with_signed_neurons_takes_what_lossless_coding_takes(tiny_model: MaskedSpikingTransformer) -> None:
    """A copy under another name: only the properties matter, not the name."""
    copy = mst.Coding(**{**vars(CODINGS["lossless"]), "name": "copy"})
    mst.register_coding(copy)
    try:
        runs = {}
        for name in ("lossless", "copy"):
            snn = mst.convert(tiny_model, name, burst=2, schedule="staggered", initial_images=images(2))
            runs[name] = mst.simulate(snn, images(), 60, input_steps=2, drop_settled=True)
        assert runs["copy"].coding == "copy"
        assert runs["copy"].num_settled == 4
        assert runs["copy"].spike_counts == runs["lossless"].spike_counts
        energies = [mst.estimate_energy(run) for run in runs.values()]
        assert energies[0].snn == energies[1].snn
        assert energies[0].assumptions == energies[1].assumptions
        assert energies[0].assumptions[: len(ChangeCounter.assumptions)] == ChangeCounter.assumptions
    finally:
        del CODINGS["copy"]


# ------------------------------------------------------------------------------------------ refusals


def test_coding_that_is_not_registered_is_refused(tiny_model: MaskedSpikingTransformer) -> None:
    with pytest.raises(ValueError, match=r"coding 'leaky' is not registered; call mst\.register_coding first"):
        mst.convert(tiny_model, mst.Coding("leaky", leaky_neuron))
    with pytest.raises(ValueError, match=r"unknown coding 'losless'; did you mean lossless\? Choose from rate, "):
        mst.convert(tiny_model, "losless")


def test_register_coding_refuses_a_name_that_is_taken(leaky: mst.Coding) -> None:
    assert mst.register_coding(mst.Coding("leaky", leaky_neuron)) == leaky  # registering the same coding again
    with pytest.raises(ValueError, match="another coding is called 'rate'; choose another name"):
        mst.register_coding(mst.Coding("rate", leaky_neuron))
    assert CODINGS["rate"].neuron is not leaky_neuron


def test_coding_that_contradicts_itself_is_refused(tiny_model: MaskedSpikingTransformer) -> None:
    with pytest.raises(ValueError, match="its neurons send values, but ChangeCounter counts changes"):
        mst.Coding("odd", leaky_neuron, counter=ChangeCounter)
    with pytest.raises(ValueError, match="its neurons send changes, but SpikeCounter counts values"):
        mst.Coding("odd", leaky_neuron, sends_changes=True)
    with pytest.raises(ValueError, match="a coding needs a name"):
        mst.Coding("", leaky_neuron)
    odd = mst.register_coding(mst.Coding("odd", lambda q, s, f: LeakyNeuron.from_qcfs(q, s), has_schedule=True))
    try:
        with pytest.raises(ValueError, match=r"coding 'odd': .* needs signed neurons, got LeakyNeuron; derive"):
            mst.convert(tiny_model, odd)
    finally:
        del CODINGS["odd"]


def test_conversion_error_keeps_its_obstacles_when_pickled() -> None:
    error = mst.ConversionError((mst.Obstacle("a.b", "relu has no counterpart", "replace it"),))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.obstacles) == (str(error), error.obstacles)
    assert "1 place cannot be carried by spikes" in again.what
