from __future__ import annotations

import gc
import sys
import threading
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import mst
from conftest import randomise, tiny_config
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS
from mst.simulation import SimulationResult


def masked_model(ratio: float = 0.5) -> MaskedSpikingTransformer:
    model = MaskedSpikingTransformer(
        tiny_config(masking_ratio=ratio, mask_sites=("query", "key", "attention", "mlp"))
    ).eval()
    randomise(model)
    return model.double()


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 0.5


@cache
def spiking(ratio: float = 0.5) -> mst.SpikingNetwork:
    return mst.convert(masked_model(ratio))


def run(ratio: float = 0.5, **options: Any) -> SimulationResult:
    return mst.simulate(spiking(ratio), images(), **{"num_steps": 10, "keep_step_logits": True, **options})


def assert_same(a: SimulationResult, b: SimulationResult) -> None:
    assert a.spike_counts == b.spike_counts
    assert a.dropped_counts == b.dropped_counts
    assert a.step_logits is not None
    assert b.step_logits is not None
    assert (a.step_logits - b.step_logits).abs().max().item() < 1e-12
    for one, other in zip(a.operations, b.operations, strict=True):
        assert torch.equal(one.acs_per_step, other.acs_per_step)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("steps_per_chunk", [2, 3, 10, 99, None])
def test_simulate_in_chunks_equals_step_by_step(ratio: float, steps_per_chunk: int | None) -> None:
    assert_same(run(ratio, steps_per_chunk=1), run(ratio, steps_per_chunk=steps_per_chunk))


def test_simulate_batch_size_changes_nothing_even_with_masks() -> None:
    snn, x, labels = spiking(), images(5), torch.tensor([0, 1, 2, 0, 1])
    whole = mst.simulate(snn, (x, labels), 6, keep_step_logits=True)
    batches = [(x[:2], labels[:2]), (x[2:3], labels[2:3]), (x[3:], labels[3:])]
    parts = mst.simulate(snn, batches, 6, keep_step_logits=True)
    assert_same(whole, parts)
    assert whole.accuracy is not None
    assert parts.accuracy is not None
    assert torch.equal(whole.accuracy, parts.accuracy)


def test_simulate_can_be_repeated_and_another_seed_differs() -> None:
    first = run(seed=3)
    assert_same(first, run(seed=3))
    assert first.spike_counts != run(seed=4).spike_counts
    assert run(0.0, seed=3).spike_counts == run(0.0, seed=4).spike_counts


def test_simulate_masking_only_removes_spikes_at_the_first_masked_sites() -> None:
    """The first masked site has the same input with and without masks, so it loses exactly the dropped spikes."""
    free, masked = run(0.0), run()
    site = "layers.0.blocks.0.attn.q_if"
    assert masked.spike_counts[site] + masked.dropped_counts[site] == free.spike_counts[site]
    assert masked.spike_counts[site] == pytest.approx(0.5 * free.spike_counts[site], rel=0.1)
    assert sum(free.dropped_counts.values()) == 0


def test_simulate_prediction_at_each_step_is_the_arg_max_of_the_running_sum() -> None:
    x, labels = images(5), torch.tensor([0, 1, 2, 0, 1])
    result = mst.simulate(spiking(0.0), (x, labels), 7, steps_per_chunk=3, keep_step_logits=True)
    assert result.step_logits is not None
    expected = [(result.step_logits[: t + 1].sum(0).argmax(-1) == labels).double().mean().item() for t in range(7)]
    assert result.accuracy is not None
    assert result.accuracy.tolist() == pytest.approx(expected)
    torch.testing.assert_close(result.logits, result.step_logits.mean(0))
    assert result.top5_accuracy is not None
    assert result.top5_accuracy.tolist() == [1.0] * 7  # three classes


def test_simulate_top5_counts_labels_among_the_five_largest_logits() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site = QCFS(threshold=1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.site(x)

    # every neuron fires at its own rate: the order of the classes is that of the inputs
    x = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]]).repeat(7, 1)
    result = mst.simulate(mst.convert(Fixed()), (x, torch.arange(7)), 64)
    assert result.accuracy is not None
    assert result.top5_accuracy is not None
    assert (result.accuracy[-1].item(), result.top5_accuracy[-1].item()) == (1 / 7, 5 / 7)


def test_simulate_constant_input_gives_the_ann_exactly_at_the_first_site() -> None:
    """T = L and a constant current: the mean output of the first site is its QCFS value, spike for spike."""
    model = masked_model(0.0)
    site, levels = "patch_embed.proj_if", model.config.num_levels
    seen: dict[str, torch.Tensor] = {}
    model.patch_embed.proj_if.register_forward_hook(lambda m, i, o: seen.update(ann=o))
    model(images())
    quanta = seen["ann"] / model.patch_embed.proj_if.threshold * levels
    assert run(0.0, num_steps=levels).spike_counts[site] == int(quanta.round().sum())


def test_simulate_runs_in_two_threads_do_not_touch_each_other() -> None:
    snn = spiking()
    inputs = [images(5), images(5).flip(0) + 0.2]
    expected = [mst.simulate(snn, x, 8, steps_per_chunk=1, keep_step_logits=True) for x in inputs]
    got: dict[int, SimulationResult] = {}

    def work(i: int) -> None:
        got[i] = mst.simulate(snn, inputs[i], 8, steps_per_chunk=1, keep_step_logits=True)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert_same(expected[i], got[i])


def test_simulate_memory_does_not_grow_with_time() -> None:
    """Bytes of all live tensors, measured after every chunk: the same early and late in a long run."""
    snn, held = spiking(), []

    def look(done: int) -> None:
        gc.collect()
        tensors = (o for o in gc.get_objects() if type(o) is torch.Tensor)
        held.append(sum(t.numel() * t.element_size() for t in tensors if t.dtype != torch.int64))

    gc.freeze()  # look at the objects of this run only
    try:
        mst.simulate(snn, images(), 40, steps_per_chunk=4, progress=look)
    finally:
        gc.unfreeze()
    assert len(held) == 10
    assert held[-1] == held[2] > 0


def test_simulate_reports_progress_in_image_steps() -> None:
    done: list[int] = []
    mst.simulate(spiking(), images(5), 7, steps_per_chunk=3, progress=done.append)
    assert done == [15, 15, 5]


def test_simulate_firing_rate_is_spikes_per_neuron_per_step() -> None:
    result = run(0.0)
    site = "patch_embed.proj_if"
    assert result.sites[site].num_neurons == 16 * 8
    assert result.firing_rates[site] == result.spike_counts[site] / (16 * 8 * 5 * 10)
    neurons = sum(s.num_neurons for s in result.sites.values())
    assert result.firing_rate == pytest.approx(sum(result.spike_counts.values()) / (neurons * 5 * 10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, r"num_steps \(T\) must be at least 1, got 0"),
        ({"steps_per_chunk": 0}, "steps_per_chunk must be at least 1, got 0"),
    ],
)
def test_simulate_option_out_of_range_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_simulate_bad_input_is_refused() -> None:
    model = masked_model()
    snn, x = mst.convert(model), images(2)
    with pytest.raises(ValueError, match="takes what mst.convert returns, got MaskedSpikingTransformer"):
        mst.simulate(model, x, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no images to simulate"):
        mst.simulate(snn, [], 2)
    with pytest.raises(ValueError, match="labels run from 0 to 3, but the network has 3 classes"):
        mst.simulate(snn, (x, torch.tensor([0, 3])), 2)
    with pytest.raises(ValueError, match="2 images need 2 labels"):
        mst.simulate(snn, (x, torch.tensor([0])), 2)
    with pytest.raises(ValueError, match=r"takes images \[B, 1, 8, 8\]"):
        mst.simulate(snn, torch.rand(2, 3, 8, 8), 2)


def test_simulate_takes_loaders_with_and_without_labels() -> None:
    snn, x = spiking(), images(4)
    expected = mst.simulate(snn, x, 3).spike_counts
    for data in ([x[:2], x[2:]], [[x]], [(x[:3], torch.tensor([0, 1, 2])), (x[3:], torch.tensor([0]))], [x]):
        assert mst.simulate(snn, data, 3).spike_counts == expected
    with pytest.raises(ValueError, match="labels are class numbers, got str 'labels'"):
        mst.simulate(snn, [(x, "labels")], 3)  # type: ignore[list-item]


def test_simulate_chooses_images_and_steps_at_once_by_the_number_of_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = sys.modules["mst.simulation.loop"]
    done: list[int] = []
    snn = spiking()
    result = mst.simulate(snn, images(9), 20, progress=done.append)
    neurons = sum(site.num_neurons for site in result.sites.values())
    assert done == [4, 4 * 19, 5 * 20]  # the first images show how many neurons there are
    monkeypatch.setattr(loop, "NEURON_STEPS_PER_CHUNK", neurons * 3 * loop.STEPS_OF_PART)
    done.clear()
    again = mst.simulate(snn, images(9), 20, progress=done.append)
    assert done == [4, *[4 * 8] * 2, 4 * 3, *[3 * 8] * 2, 3 * 4, 2 * 12, 2 * 8]
    torch.testing.assert_close(again.logits, result.logits, rtol=0, atol=1e-12)
    assert again.spike_counts == result.spike_counts
    done.clear()
    mst.simulate(snn, images(9), 20, steps_per_chunk=10, progress=done.append)
    assert done == [90, 90]


@pytest.mark.gpu
def test_simulate_on_a_gpu_equals_the_cpu() -> None:
    cpu = run()
    gpu = mst.simulate(mst.convert(masked_model().cuda()), images(), 10, keep_step_logits=True)
    assert gpu.spike_counts == cpu.spike_counts
