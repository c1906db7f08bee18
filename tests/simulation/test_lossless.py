"""Lossless coding: a settled network equals the ANN; every step equals a plain implementation that sends changes."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mst
from conftest import randomise, tiny_config
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS, FiringSchedule, SignedIFNeuron, begin_run, find_sites, halving_weights, running
from mst.simulation import SimulationResult
from reference import LosslessReference
from released_networks import released_network

pytestmark = pytest.mark.slow


def ann_logits(model: nn.Module, images: Tensor, seed: int = 0) -> Tensor:
    """Logits of the ANN under the masks that the lossless SNN holds."""
    with torch.no_grad(), running(begin_run(model, seed=seed, batch_size=len(images))):
        logits: Tensor = model(images)
    return logits


def random_mst(seed: int, **options: object) -> MaskedSpikingTransformer:
    model = MaskedSpikingTransformer(tiny_config(**options)).eval()
    randomise(model, seed)
    return model.double()


@cache
def quantized_resnet(levels: int) -> nn.Module:
    model = timm.create_model("resnet18_small", width=4, num_classes=3, in_chans=1)
    return mst.quantize(model, num_levels=levels, calibration=[torch.rand(4, 1, 8, 8)]).eval()


def random_resnet(seed: int, levels: int) -> nn.Module:
    model = copy.deepcopy(quantized_resnet(levels))
    randomise(model, seed)
    return model.double()


def images_of(seed: int, count: int = 2) -> Tensor:
    return torch.rand(count, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 - 1


SCHEDULES = [
    FiringSchedule(), FiringSchedule(2), FiringSchedule(4, stagger=0.25), FiringSchedule(1, stagger=1.0),
    FiringSchedule(1, is_free=True), FiringSchedule(2, stagger=0.5, is_free=True),
    FiringSchedule(1, (4, 2, 1)), FiringSchedule(2, (8, 4, 2, 1, 1), 0.5), FiringSchedule(1, (3, 1)),
]  # fmt: skip


# -------------------------------------------------------------------------- a settled network is its ANN


@settings(max_examples=15)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["mst", "resnet"]),
    st.sampled_from([1, 2, 3, 4, 16]),
    st.sampled_from(SCHEDULES),
    st.sampled_from([0.0, 0.0, 0.5, 0.75]),
    st.sampled_from([1, 1, 3, 7]),
    st.booleans(),
    st.sampled_from([{}, {"drop_settled": True}, {"incremental": True}, {"incremental": True, "drop_settled": True}]),
)
def test_settled_output_equals_the_ann(
    seed: int,
    kind: str,
    levels: int,
    schedule: FiringSchedule,
    ratio: float,
    input_steps: int,
    rests: bool,
    options: dict[str, bool],
) -> None:
    model = random_mst(seed, num_levels=levels) if kind == "mst" else random_resnet(seed, levels)
    model = mst.mask_spikes(model, ratio, "all") if ratio else model
    images = images_of(seed)
    snn = mst.convert(
        model, "lossless", images, schedule=schedule, initial_images=images_of(seed + 1, 5) if rests else None
    )
    bound = schedule.longest(snn.depth, levels, input_steps)
    result = mst.simulate(snn, images, bound, seed=seed, input_steps=input_steps, record_operations=False, **options)
    assert (result.logits - ann_logits(model, images, seed)).abs().max().item() < 1e-9
    assert result.settled_at is not None
    assert bool((result.settled_at >= input_steps).all())  # the bound of the proof holds
    assert result.num_settled == len(images)
    assert torch.equal(result.steps_taken, result.settled_at)


class Gate(nn.Module):
    """Functions that rate coding refuses: a product of activations, sigmoid, LayerNorm before a neuron, maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first = nn.Conv2d(1, 4, 3, padding=1), QCFS(8, 1.0)
        self.gate, self.norm, self.second = nn.Linear(4, 4), nn.LayerNorm([4, 4, 4]), QCFS(8, 1.0)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.conv(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        x = self.second(self.norm(torch.max_pool2d(x, 2)))
        logits: Tensor = self.head(x.amax((2, 3)))
        return logits


def test_lossless_carries_functions_that_rate_coding_refuses_and_notes_them() -> None:
    model, images = Gate().double().eval(), images_of(3)
    with pytest.raises(mst.ConversionError):
        mst.convert(model, "rate", images)
    snn = mst.convert(model, "lossless", images)
    assert any("gate (squeeze-and-excitation)" in line or "two activations" in line for line in snn.notes)
    assert any("sigmoid" in line and "stays analog, and is exact" in line for line in snn.notes)
    result = mst.simulate(snn, images, 200, record_operations=False)
    assert result.num_settled == 2
    with torch.no_grad():
        assert (result.logits - model(images)).abs().max().item() < 1e-12


def test_float32_settled_predictions_are_the_anns() -> None:
    """Sums of the same terms: only rounding differs, which depends on the number of rows of a product."""
    model = random_mst(5, num_levels=8).float()
    images = images_of(5, 24).float()
    result = mst.simulate(mst.convert(model, "lossless"), images, 100, record_operations=False)
    assert result.num_settled == 24
    with torch.no_grad():
        expected = model(images)
    assert torch.equal(result.logits.argmax(1), expected.argmax(1))
    assert (
        (result.logits - expected).abs().amax(1) < 1e-5
    ).sum() >= 22  # the others have a neuron at the border of a level


def test_settling_under_masks_depends_on_seed_as_the_ann_does() -> None:
    model, images = mst.mask_spikes(random_mst(7), 0.5, "all"), images_of(7)
    snn = mst.convert(model, "lossless")
    results = [mst.simulate(snn, images, 60, seed=seed) for seed in (0, 1)]
    assert not torch.equal(results[0].logits, results[1].logits)
    for seed, result in enumerate(results):
        assert (result.logits - ann_logits(model, images, seed)).abs().max().item() < 1e-9
    assert sum(results[0].dropped_counts.values()) > 0


# --------------------------------------------------------------- spike for spike, against changes passed on


PLAIN, STAGGERED = FiringSchedule(), FiringSchedule(3, stagger=0.25)
WEIGHTED = FiringSchedule(2, halving_weights(16), 0.5)
FREE = FiringSchedule(stagger=0.25, is_free=True), FiringSchedule(2, is_free=True)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        *((name, WEIGHTED) for name in ("no_mlp_batch_norm", "window_3_patch_3", "position_embedding", "four_levels")),
        *(("mlp_batch_norm", schedule) for schedule in (WEIGHTED, PLAIN, *FREE)),
        *(("three_stages", schedule) for schedule in (WEIGHTED, STAGGERED)),
    ],
    ids=lambda each: each if isinstance(each, str) else f"burst {each.burst}, stagger {each.stagger}",
)
def test_lossless_agrees_with_passing_changes_spike_for_spike(name: str, schedule: FiringSchedule) -> None:
    model, images, described = released_network(name)
    snn = mst.convert(model, "lossless", schedule=schedule)
    neurons = [m for m in snn.modules() if isinstance(m, SignedIFNeuron)]
    assert max(m.depth for m in neurons) > 5
    reference = LosslessReference(
        **described, spiking=True, burst=schedule.burst, weights=schedule.weights or (1,),
        is_free=schedule.is_free, starts={m.site: schedule.start(m.depth) for m in neurons},
    )  # fmt: skip
    steps, input_steps = 14, 3
    result = mst.simulate(snn, images, steps, input_steps=input_steps, keep_step_logits=True)
    same_run(mst.simulate(snn, images, steps, input_steps=input_steps, incremental=True), result)
    changes = [reference(images / input_steps if t < input_steps else torch.zeros_like(images)) for t in range(steps)]
    assert result.step_logits is not None
    assert (result.step_logits - torch.stack(changes).cumsum(0)).abs().max().item() < 1e-9
    for t, spikes in enumerate(reference.spikes_by_step):
        assert {name: int(site.sent_per_step[t]) for name, site in result.sites.items()} == {
            name: spikes[name] for name in result.sites
        }
    assert sum(result.spike_counts.values()) > 1000


# ------------------------------------------------------------------------------------------- the run


def same_run(a: SimulationResult, b: SimulationResult) -> None:
    for name, site in a.sites.items():
        assert torch.equal(site.sent_per_step, b.sites[name].sent_per_step)
        assert torch.equal(site.dropped_per_step, b.sites[name].dropped_per_step)
    for one_function, other_function in zip(a.functions, b.functions, strict=True):
        assert one_function.elements_per_step is not None
        assert other_function.elements_per_step is not None
        assert torch.equal(one_function.elements_per_step, other_function.elements_per_step)
    assert torch.equal(a.steps_taken, b.steps_taken)
    assert a.settled_at is not None
    assert b.settled_at is not None
    assert torch.equal(a.settled_at, b.settled_at)
    assert (a.logits - b.logits).abs().max().item() < 1e-12
    for one, other in zip(a.operations, b.operations, strict=True):
        assert torch.equal(one.acs_per_step, other.acs_per_step)
        assert one.macs_per_step is not None
        assert other.macs_per_step is not None
        assert torch.equal(one.macs_per_step, other.macs_per_step)


@cache
def masked_run(ratio: float, **options: Any) -> SimulationResult:
    model = mst.mask_spikes(random_mst(11, num_levels=16), ratio, "all")
    snn, images = mst.convert(model, "lossless", burst=2, schedule="staggered"), images_of(11, 4)
    return mst.simulate(snn, images, 40, input_steps=2, **options)


@pytest.mark.parametrize(
    "options",
    [{"steps_per_chunk": 4}, {"steps_per_chunk": 99}, {"drop_settled": True}, {"incremental": True}],
    ids=str,
)
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_lossless_in_chunks_or_without_the_settled_is_the_same_run(ratio: float, options: dict[str, Any]) -> None:
    base = masked_run(ratio, steps_per_chunk=1)
    assert len(set(base.steps_taken.tolist())) > 1
    same_run(base, masked_run(ratio, **options))


def test_settled_at_is_the_first_step_after_which_nothing_moves() -> None:
    snn, images = mst.convert(random_mst(12, num_levels=16), "lossless"), images_of(12, 3)
    result = mst.simulate(snn, images, 40, keep_step_logits=True)
    assert result.settled_at is not None
    assert result.step_logits is not None
    for i, settled in enumerate(result.settled_at.tolist()):
        alone = mst.simulate(snn, images[i : i + 1], settled + 5)
        per_step = alone.sent_per_step
        assert int(per_step[settled - 1]) > 0
        assert int(per_step[settled:].sum()) == 0
        same = (result.step_logits[settled - 1 :, i] - result.step_logits[settled - 1, i]).abs().max().item()
        assert same < 1e-12


def test_lossless_reports_images_that_have_not_settled_in_too_few_steps() -> None:
    snn, images = mst.convert(random_mst(11, num_levels=16), "lossless", burst=2), images_of(11, 6)
    whole = mst.simulate(snn, images, 40, input_steps=2)
    assert whole.settled_at is not None
    cut = int(whole.settled_at.min())
    short = mst.simulate(snn, images, cut, input_steps=2)
    assert short.settled_at is not None
    assert short.settled_at.tolist() == [s if s <= cut else -1 for s in whole.settled_at.tolist()]
    assert short.steps_taken.tolist() == [cut] * 6
    assert short.num_settled < 6


def test_accuracy_of_settled_images_is_the_anns_from_then_on() -> None:
    model, images = random_mst(13), images_of(13, 8)
    labels = model(images).argmax(1)
    result = mst.simulate(mst.convert(model, "lossless"), (images, labels), 60, drop_settled=True)
    assert result.accuracy is not None
    assert result.accuracy[-1] == 1.0
    last = int(result.steps_taken.max())
    assert last < 60
    assert result.accuracy[last - 1 :].tolist() == [1.0] * (61 - last)
    assert result.images_per_step.tolist()[last:] == [0] * (60 - last)


def test_spikes_are_never_fewer_than_the_quanta_of_the_ann() -> None:
    """Minimum number of spikes of one quantum; reached if no site has a spike to cancel."""
    model, images = random_mst(14), images_of(14)
    quanta: dict[str, int] = {}

    def tally(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, QCFS)
        quanta[names[module]] = int((output / module.threshold * module.num_levels).round().sum())

    names = {site: name for name, site in find_sites(model).items()}
    handles = [site.register_forward_hook(tally) for site in names]
    model(images)
    for handle in handles:
        handle.remove()
    result = mst.simulate(mst.convert(model, "lossless", schedule="staggered"), images, 60)
    assert all(result.spike_counts[site] >= quanta[site] for site in quanta)
    first = "patch_embed.proj_if"
    assert result.spike_counts[first] == quanta[first]
    assert sum(result.spike_counts.values()) > sum(quanta.values())


def test_a_spread_image_settles_later_to_the_same_answer() -> None:
    model, images = random_mst(15), images_of(15)
    snn = mst.convert(model, "lossless", burst=4)
    at_once, spread = (mst.simulate(snn, images, 60, input_steps=k) for k in (1, 20))
    assert spread.settled_at is not None
    assert int(spread.settled_at.min()) >= 20
    assert at_once.mean_steps < spread.mean_steps
    torch.testing.assert_close(at_once.logits, spread.logits, rtol=0, atol=1e-12)


def test_slices_add_up_to_the_mean_of_all() -> None:
    model, slices = random_mst(16), images_of(16, 12).view(2, 6, 1, 8, 8)
    result = mst.simulate(mst.convert(model, "lossless", burst=2), slices, 60, in_slices=True)
    assert result.num_settled == 2
    assert result.settled_at is not None
    assert int(result.settled_at.min()) > 50  # the last slice arrives at step 51
    with torch.no_grad():
        assert (result.logits - model(slices.mean(1))).abs().max().item() < 1e-9


def test_initial_images_save_spikes_for_images_like_them() -> None:
    model, images = random_mst(17), images_of(17, 4)
    results = [
        mst.simulate(mst.convert(model, "lossless", initial_images=rest), images, 60)
        for rest in (None, images, list(images.split(1)))
    ]
    assert results[1].spikes_per_image < 0.7 * results[0].spikes_per_image
    assert results[1].spike_counts == results[2].spike_counts
    torch.testing.assert_close(results[1].logits, results[0].logits, rtol=0, atol=1e-12)


def test_initial_levels_of_the_very_image_need_no_spike() -> None:
    model, image = random_mst(18), images_of(18, 1)
    snn = mst.convert(model, "lossless", initial_images=image)
    result = mst.simulate(snn, image, 60)
    assert sum(result.spike_counts.values()) == 0
    assert result.steps_taken.tolist() == [1]
    with torch.no_grad():
        assert (result.logits - model(image)).abs().max().item() < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_steps": 0}, "input_steps must be from 1 to the 10 time steps, got 0"),
        ({"input_steps": 11}, "input_steps must be from 1 to the 10 time steps, got 11"),
        ({"in_slices": True, "input_steps": 2}, "slices over time are spread already"),
    ],
)
def test_lossless_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mst.simulate(mst.convert(random_mst(1), "lossless"), images_of(1), 10, **options)


@pytest.mark.parametrize("options", [{"input_steps": 2}, {"drop_settled": True}], ids=str)
def test_options_of_lossless_coding_are_refused_under_rate_coding(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no effect under rate coding; it belongs to lossless coding"):
        mst.simulate(mst.convert(random_mst(1)), images_of(1), 10, **options)


def test_initial_levels_of_another_image_size_are_refused() -> None:
    class AnySize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.site = nn.Conv2d(1, 2, 3), QCFS(4, 1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.site(self.conv(x)).mean((2, 3))

    images = torch.rand(2, 1, 8, 8)
    snn = mst.convert(AnySize(), "lossless", images, initial_images=images)
    assert mst.simulate(snn, images, 20).num_settled == 2
    with pytest.raises(ValueError, match=r"initial levels are for one image of \(1, 2, 6, 6\).*of the same size"):
        mst.simulate(snn, torch.rand(2, 1, 9, 9), 20, record_operations=False)


@pytest.mark.gpu
def test_lossless_on_a_gpu_settles_to_the_cpus_ann() -> None:
    model, images = mst.mask_spikes(random_mst(20), 0.5, "all"), images_of(20)
    expected = ann_logits(model, images)
    data = (images, expected.argmax(1))
    snn = mst.convert(model.cuda(), "lossless", burst=2)
    result = mst.simulate(snn, data, 60, drop_settled=True)
    assert result.num_settled == 2
    assert (result.logits - expected).abs().max().item() < 1e-9
    assert result.accuracy is not None
    assert result.accuracy[-1] == 1.0
    early = mst.simulate(snn, data, 60, early_exit=mst.EarlyExit("stability", 3))
    assert early.mean_steps <= result.mean_steps


def test_lossless_computes_few_steps_that_are_not_needed() -> None:
    """Small networks could compute all steps at once; those after the last would be thrown away."""
    snn, images, computed = mst.convert(random_mst(21), "lossless", burst=4), images_of(21, 4), []
    snn.register_forward_pre_hook(lambda module, args: computed.append(len(args[0]) // 4))  # type: ignore[arg-type]
    result = mst.simulate(snn, images, 200, record_operations=False)
    assert sum(computed) <= int(result.steps_taken.max()) + 4
