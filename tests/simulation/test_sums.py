"""Sums over time in float32 or wider, whatever the network computes in."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.neurons import QCFS, IFNeuron, SignedIFNeuron, SpikingMaxPool, begin_run, running
from mst.simulation import readouts_of

HALVES = [torch.bfloat16, torch.float16]


def pooled_net() -> nn.Sequential:
    """Weights and thresholds are powers of two, which every type holds exactly."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1), QCFS(4, 1.0), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.zero_()
        net[4].weight.copy_(torch.tensor([[1.0, 0.5, 0.25, 0.125], [0.5, 0.5, 0.5, 0.5]]))
    return net.eval()


IMAGES = torch.tensor([0.25, 0.5, 0.75, 1.0]).repeat(4).view(1, 1, 4, 4)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("steps_per_chunk", [None, 7])
def test_simulate_long_in_half_precision_equals_float32(dtype: torch.dtype, steps_per_chunk: int | None) -> None:
    """In bfloat16 a sum of ones ends at 256."""
    net = pooled_net()
    full = mst.simulate(mst.convert(net), IMAGES, 2048)
    half = mst.simulate(mst.convert(copy.deepcopy(net).to(dtype)), IMAGES, 2048, steps_per_chunk=steps_per_chunk)
    assert half.logits.dtype == torch.float32
    torch.testing.assert_close(half.logits, full.logits, rtol=1e-6, atol=1e-6)
    assert half.spike_counts == full.spike_counts
    torch.testing.assert_close(half.logits, net(IMAGES), rtol=1e-3, atol=1e-3)


def test_simulate_under_autocast_equals_float32() -> None:
    net = pooled_net()
    full = mst.simulate(mst.convert(net), IMAGES, 1024)
    with torch.autocast("cpu", torch.bfloat16):
        half = mst.simulate(mst.convert(net), IMAGES, 1024)
    torch.testing.assert_close(half.logits, full.logits, rtol=1e-6, atol=1e-6)
    assert (half.dtype, half.sum_dtype) == ("float32, autocast to bfloat16", "float32")


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_neurons_keep_what_they_sum_in_float32_or_wider(dtype: torch.dtype) -> None:
    qcfs, x = QCFS(4, 1.0).to(dtype), torch.rand(2, 1, 2, 2, dtype=dtype)
    for module in (
        IFNeuron.from_qcfs(qcfs, "a"), SignedIFNeuron.from_qcfs(qcfs, "a"), SpikingMaxPool(nn.MaxPool2d(2), "a"),
    ):  # fmt: skip
        run = begin_run(module, batch_size=2)
        with running(run), torch.no_grad():
            assert module(x).dtype == dtype
        (kept,) = run.state.values()
        assert kept.dtype == torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("dtype", HALVES)
def test_simulate_lossless_in_half_precision_is_the_ann_bit_for_bit(dtype: torch.dtype) -> None:
    """Also with more levels than whole numbers that bfloat16 can count to one by one."""
    net = nn.Sequential(nn.Linear(4, 6), QCFS(600, 2.0), nn.Linear(6, 3)).to(dtype).eval()
    x = torch.rand(5, 4, dtype=dtype)
    result = mst.simulate(mst.convert(net, "lossless", x, burst=4), x, 400)
    assert result.num_settled == 5
    with torch.no_grad():
        assert torch.equal(result.logits, net(x))


def test_simulate_states_types_of_network_and_sums() -> None:
    for dtype, sums in ((torch.float64, "float64"), (torch.bfloat16, "float32")):
        net = pooled_net().to(dtype)
        result = mst.simulate(mst.convert(net), IMAGES, 4, keep_step_logits=True)
        assert (result.dtype, result.sum_dtype) == (str(dtype).removeprefix("torch."), sums)
        assert result.step_logits is not None
        assert result.step_logits.dtype == dtype
        assert torch.equal(readouts_of(result)[-1], result.logits)


def dense_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), QCFS(4, 1.0), nn.Conv2d(2, 3, 1)).eval()


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_simulate_keeps_the_shape_of_dense_outputs(coding: str) -> None:
    net, x = dense_net(), torch.rand(3, 1, 5, 6)
    result = mst.simulate(mst.convert(net, coding, x), [x[:2], x[2:]], 16, keep_step_logits=True)
    assert result.logits.shape == (3, 3, 3, 4)
    assert result.step_logits is not None
    assert result.step_logits.shape == (16, 3, 3, 3, 4)
    torch.testing.assert_close(readouts_of(result)[-1], result.logits)
    if coding == "lossless":
        torch.testing.assert_close(result.logits, net(x))


def test_simulate_keeps_an_output_of_one_number_per_image() -> None:
    net, x = nn.Sequential(nn.Linear(4, 3), QCFS(4, 1.0), nn.Linear(3, 1), nn.Flatten(0)), torch.rand(5, 4)
    assert mst.simulate(mst.convert(net, example=x), x, 4).logits.shape == net(x).shape == (5,)


def test_simulate_refuses_labels_and_early_exit_for_dense_outputs() -> None:
    snn, x = mst.convert(dense_net()), torch.rand(3, 1, 5, 6)
    with pytest.raises(ValueError, match=r"labels are numbers of classes, but the network returns \(3, 3, 4\) for an"):
        mst.simulate(snn, (x, torch.tensor([0, 1, 2])), 4)
    with pytest.raises(ValueError, match=r"early exit compares .* \(3, 3, 4\) for an image; leave early_exit out"):
        mst.simulate(snn, x, 4, early_exit=mst.EarlyExit("margin", 1.0))


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_convert_and_simulate_work_in_inference_mode(coding: str) -> None:
    net, x, labels = pooled_net(), torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 0])
    expected = mst.simulate(mst.convert(net, coding, x), (x, labels), 8)
    with torch.inference_mode():
        images: Tensor = x.clone()
        data = (images, labels.clone())
        result = mst.simulate(mst.convert(net, coding, images), data, 8)
        evaluation = mst.evaluate(net, data)
    assert result.accuracy is not None
    assert evaluation.num_images == 3
    assert torch.equal(result.logits, expected.logits)
    assert not result.logits.is_inference()
    assert [count.acs_per_step.tolist() for count in result.operations] == [
        count.acs_per_step.tolist() for count in expected.operations
    ]


def test_quantize_in_inference_mode_returns_a_network_that_can_be_trained() -> None:
    x = torch.rand(4, 5)
    with torch.inference_mode():
        net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
        quantized = mst.quantize(net, 4, calibration=x.clone())
    quantized(x).sum().backward()
    assert all(parameter.grad is not None for parameter in quantized.parameters())


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_simulate_counts_spikes_behind_an_average_pool_in_half_precision(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), QCFS(4, 0.3), nn.AvgPool2d(8), nn.Conv2d(2, 3, 1), nn.Flatten()).to(dtype)
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    x = torch.rand(3, 1, 16, 16, dtype=dtype)
    result = mst.simulate(mst.convert(net, example=x), x, 12)
    last = result.operations[-1]
    assert last.operation.pooled == 64
    assert int(last.acs_per_step.sum()) == result.spike_counts["1"] * 3
    assert result.spike_counts["1"] > 0
