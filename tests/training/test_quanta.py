"""Quanta are counted as they are sent, and the penalty on them lowers them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import mst
from conftest import tiny_config
from mst.experiments.options import TrainingOptions
from mst.models import MaskedSpikingTransformer
from mst.neurons import find_sites
from mst.training import TrainConfig
from mst.training.quanta import QuantaCounter
from training_runs import QUICK, data, fresh, run

pytestmark = pytest.mark.slow


def test_quanta_are_those_of_a_hand_computed_site() -> None:
    model = nn.Sequential(mst.QCFS(4, 2.0), mst.QCFS(2, torch.tensor([1.0, 4.0])))
    counter = QuantaCounter(model)
    x = torch.tensor([[1.0, 0.2], [5.0, -1.0]])  # first site: 2, 0, 4, 0 quanta; its output 1, 0, 2, 0
    with counter.counting():
        model(x)
    assert counter.total.item() == 6 + (2 + 2)
    assert counter.neurons == 8
    assert counter.per_neuron.item() == 10 / 8
    model(x)  # outside the block nothing is counted
    assert counter.neurons == 8


def test_quanta_gradient_lowers_the_input_and_raises_the_threshold() -> None:
    site = mst.QCFS(8, 1.0)
    counter = QuantaCounter(site)
    x = torch.full((3,), 0.55, requires_grad=True)
    with counter.counting():
        site(x)
    counter.total.backward()
    assert x.grad is not None
    assert site.threshold.grad is not None
    assert x.grad.tolist() == [8.0] * 3  # L/λ
    assert site.threshold.grad.item() == pytest.approx(-3 * 8 * 0.55)  # -Lx/λ²


def test_spikes_are_the_signed_powers_of_two_of_each_level() -> None:
    counter = QuantaCounter(mst.QCFS(16, 16.0), "spikes")
    levels = torch.arange(17.0, requires_grad=True)  # 7 = 8 - 1, 11 = 8 + 4 - 1, 13 = 16 - 4 + 1, 15 = 16 - 1
    with counter.counting():
        counter._sites[0](levels)
    assert counter.total.item() == sum([0, 1, 1, 2, 1, 2, 2, 2, 1, 2, 2, 3, 2, 3, 2, 2, 1])
    counter.total.backward()
    assert levels.grad is not None
    assert levels.grad[1:4].tolist() == pytest.approx([1 / (1 + k) / math.log(2) for k in (1, 2, 3)])


def test_penalty_on_spikes_is_refused_without_a_penalty() -> None:
    with pytest.raises(mst.InputError, match="spike_penalty_on has no effect without a penalty"):
        TrainingOptions(train=TrainConfig(spike_penalty_on="spikes"))
    with pytest.raises(mst.InputError, match="spike_penalty_on must be one of quanta, spikes, got 'events'"):
        TrainConfig(spike_penalty_on="events")  # type: ignore[arg-type]


def test_penalty_on_spikes_presses_less_on_a_high_level_than_on_a_low_one() -> None:
    site = mst.QCFS(8, 8.0)
    x = torch.tensor([1.0, 8.0], requires_grad=True)
    gradients = {}
    for counted in ("quanta", "spikes"):
        counter = QuantaCounter(site, counted)
        with counter.counting():
            site(x)
        (gradients[counted],) = torch.autograd.grad(counter.total, x)
    assert gradients["quanta"][0] == gradients["quanta"][1]
    assert gradients["spikes"][0] > 4 * gradients["spikes"][1] > 0


def test_quanta_of_an_evaluation_are_the_fewest_spikes_of_a_simulation() -> None:
    """With T = L and one site, every quantum is one spike."""
    torch.manual_seed(0)
    model = mst.quantize(nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 2)), 8, [torch.rand(50, 4)]).double()
    images, labels = torch.rand(20, 4).double(), torch.zeros(20).long()
    evaluation = mst.evaluate(model, [(images[:7], labels[:7]), (images[7:], labels[7:])])
    result = mst.simulate(mst.convert(model), images, 8)
    assert evaluation.quanta_per_image == pytest.approx(result.spikes_per_image)
    assert evaluation.quanta_per_neuron == pytest.approx(result.firing_rate * 8)


def test_quanta_are_counted_after_masks() -> None:
    model = MaskedSpikingTransformer(tiny_config()).eval()
    images, labels = torch.randn(8, 1, 8, 8), torch.zeros(8).long()
    whole = mst.evaluate(model, [(images, labels)]).quanta_per_image
    mst.mask_spikes(model, 0.9)
    assert mst.evaluate(model, [(images, labels)]).quanta_per_image < 0.5 * whole


def test_spike_penalty_lowers_quanta(tmp_path: Path) -> None:
    def quanta(name: str, penalty: float, checkpointed: bool) -> float:
        config = dataclasses.replace(QUICK, epochs=4, spike_penalty=penalty)
        model = fresh(grad_checkpointing=checkpointed)
        result = mst.train(model, data(), data(), tmp_path / name, config, mst.CheckpointInfo())
        return result.history[-1].quanta_per_neuron

    without = quanta("without", 0.0, checkpointed=False)
    assert quanta("with", 3.0, checkpointed=False) < 0.9 * without
    assert quanta("checkpointed", 3.0, checkpointed=True) < 0.9 * without


def test_spike_penalty_is_a_part_of_the_loss_and_may_not_be_negative(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spike_penalty must not be negative"):
        dataclasses.replace(QUICK, spike_penalty=-1.0)
    still = dataclasses.replace(QUICK, learning_rate=1e-9, warmup_learning_rate=1e-9, min_learning_rate=0.0)
    plain = run(tmp_path / "a", still, fresh(depths=(2, 1))).history[-1]
    penalised = run(tmp_path / "b", dataclasses.replace(still, spike_penalty=0.1), fresh(depths=(2, 1))).history[-1]
    assert penalised.loss - plain.loss == pytest.approx(0.1 * plain.quanta_per_neuron, rel=0.3)


def test_training_takes_a_custom_network_and_resumes_it(tmp_path: Path) -> None:
    def own() -> nn.Module:
        torch.manual_seed(3)
        layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        return mst.quantize(layers, 4, [torch.randn(8, 1, 8, 8)])

    model = own()
    result = mst.train(model, data(), data(), tmp_path / "run", QUICK, mst.CheckpointInfo())
    assert result.history[-1].quanta_per_neuron > 0
    with pytest.raises(ValueError, match=r"class Sequential is not part of a library.*load_checkpoint\(path, model="):
        mst.load_checkpoint(result.last_checkpoint)
    again = mst.load_checkpoint(result.last_checkpoint, model=own())
    for name, tensor in model.eval().state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    longer = dataclasses.replace(QUICK, epochs=QUICK.epochs + 1)
    with pytest.raises(ValueError, match="train.epochs"):
        mst.train(own(), data(), data(), tmp_path / "run", longer, mst.CheckpointInfo(), resume=True)
    assert mst.train(own(), data(), data(), tmp_path / "run", QUICK, mst.CheckpointInfo(), resume=True) == result
    decayed = {f"{name}.threshold" for name in find_sites(model)}
    from mst.training.steps import without_decay

    assert set(without_decay(model)) == decayed


def test_training_refuses_a_network_that_a_checkpoint_cannot_describe(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), mst.QCFS())
    with pytest.raises(ValueError, match="neither a Masked Spiking Transformer nor quantised by mst.quantize"):
        mst.train(model, data(), data(), tmp_path / "run", QUICK, mst.CheckpointInfo())
    mixed = dataclasses.replace(QUICK, mixup=0.5)
    model = mst.quantize(nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU()))
    with pytest.raises(ValueError, match="mixup and cutmix need the number of classes"):
        mst.train(model, data(), data(), tmp_path / "other", mixed, mst.CheckpointInfo())
