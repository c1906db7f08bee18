"""Signed neurons against traces by hand, exact rationals and properties of every run."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mst.neurons import (
    SCHEDULES,
    FiringSchedule,
    RandomMask,
    RunState,
    ScheduleName,
    SignedIFNeuron,
    count_powers,
    count_signed_spikes,
    free_quanta,
    named_schedule,
    qcfs,
    running,
    signed_if_step,
)
from mst.neurons.functional import to_levels


def trace(
    inputs: list[float],
    levels: int,
    burst: int = 1,
    weights: tuple[int, ...] = (1,),
    threshold: float = 1.0,
    min_level: int = 0,
) -> tuple[list[float], list[float]]:
    """Spikes and counts of one neuron whose running input sums are given, step by step."""
    lam, count = torch.tensor([threshold], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    sent, counts = [], []
    for t, x in enumerate(inputs):
        weight = weights[t % len(weights)]
        now = torch.tensor([x], dtype=torch.float64)
        spikes, _ = signed_if_step(now, count, lam, levels, burst, weight, min_level)
        count = count + spikes * weight
        sent.append(spikes.item())
        counts.append(count.item())
    return sent, counts


def test_signed_if_step_follows_a_trace_computed_by_hand() -> None:
    # L = 4, λ = 1, quantum 0.25, starts at half a quantum. Running input 0.5: two quanta; then it falls to 0.1
    # (0.1·4 + 1/2 = 0.9: level 0) and both are cancelled, one per step; then it rises beyond λ: four, and no more.
    sent, counts = trace([0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 9, 9, 9, 9, 9], levels=4)
    assert sent == [1, 1, 0, -1, -1, 0, 1, 1, 1, 1, 0]
    assert counts == [1, 2, 2, 1, 0, 0, 1, 2, 3, 4, 4]


def test_signed_if_step_sends_bursts_and_weighted_spikes() -> None:
    assert trace([1.0, 1.0, 0.0], levels=8, burst=3)[0] == [3, 3, -3]
    # 8 quanta are missing: a spike of 4, one of 2, one of 1, and again
    assert trace([1.0] * 6, levels=8, weights=(4, 2, 1)) == ([1, 1, 1, 0, 0, 1], [4, 6, 7, 7, 7, 8])
    # 7 missing: two spikes of 4 would lead to 8; two thirds of the second are missing, and 8 is a level
    assert trace([7 / 8, 7 / 8], levels=8, burst=2, weights=(4, 1)) == ([2, -1], [8, 7])
    # 6 of 7 levels missing: a second spike of 4 would lead beyond them
    assert trace([6 / 7, 6 / 7], levels=7, burst=2, weights=(4, 2)) == ([1, 1], [4, 6])
    # 2 missing are half a spike of 4: none
    assert trace([2 / 8], levels=8, weights=(4,))[0] == [0]
    assert trace([3 / 8], levels=8, weights=(4,))[0] == [1]


def test_signed_if_step_goes_down_to_its_lowest_level() -> None:
    # L = 4, λ = 1, from -2: -0.3 is level -1 (-1.2 + 1/2 rounds down to -1), -9 is clipped to -2
    assert trace([-0.3, -9, -9, -9, 0.5, 0.5], levels=4, min_level=-2) == (
        [-1, -1, 0, 0, 1, 1],
        [-1, -2, -2, -2, -1, 0],
    )
    # 3 in excess of nothing: a spike of 4 would lead beyond the lowest level
    assert trace([-0.75, -0.75], levels=4, weights=(4, 2), min_level=-3) == ([0, -1], [0, -2])


def test_signed_if_step_that_may_not_fire_keeps_its_level() -> None:
    x, lam = torch.tensor([0.7]), torch.tensor([1.0])
    spikes, target = signed_if_step(x, torch.zeros(1), lam, 4, weight=0)
    assert (spikes.item(), target.item()) == (0.0, 3.0)


@settings(max_examples=300)
@given(
    st.lists(st.integers(-40, 120), min_size=1, max_size=12),
    st.integers(1, 20),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(-12, 0),
)
def test_signed_neuron_in_exact_rationals_is_the_rule_of_membrane_and_counter(
    numerators: list[int], levels: int, threshold_eighths: int, burst: int, lowest: int
) -> None:
    """v starts at half a quantum, gains each change, loses what is sent; +1 where v >= 1, -1 where v < 0."""
    threshold = Fraction(threshold_eighths, 8)
    inputs = [Fraction(n, 32) for n in numerators] + [Fraction(numerators[-1], 32)] * (levels - lowest)
    v, count, before, sent = Fraction(1, 2), 0, Fraction(0), []
    for x in inputs:
        v, before = v + (x - before) * levels / threshold, x
        spikes = 0
        for _ in range(burst):
            spike = 1 if v >= 1 and count < levels else -1 if v < 0 and count > lowest else 0
            v, count, spikes = v - spike, count + spike, spikes + spike
        sent.append(spikes)
    assert count == min(max(math.floor(inputs[-1] * levels / threshold + Fraction(1, 2)), lowest), levels)
    if levels & (levels - 1) == 0 and threshold.numerator & (threshold.numerator - 1) == 0:  # exact in binary
        assert trace([float(x) for x in inputs], levels, burst, (1,), float(threshold), lowest)[0] == sent


@settings(max_examples=200)
@given(
    st.integers(0, 10**6),
    st.integers(1, 20),
    st.integers(1, 4),
    st.lists(st.integers(1, 9), max_size=5),
    st.sampled_from([0.3, 1.0, 1.7]),
    st.integers(-9, 0),
)
def test_signed_neurons_stay_in_their_levels_and_rest_at_qcfs(
    seed: int, levels: int, burst: int, weights: list[int], threshold: float, lowest: int
) -> None:
    schedule = FiringSchedule(burst, tuple([*weights, 1] if weights else []))
    generator = torch.Generator().manual_seed(seed)
    lam, count = torch.tensor([threshold], dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    x = torch.zeros(50, dtype=torch.float64)
    for t in range(12 + schedule.longest(1, levels - lowest)):
        if t <= 11:
            x = x + torch.randn(50, generator=generator, dtype=torch.float64)
        weight = schedule.weight(t, 0)
        spikes, target = signed_if_step(x, count, lam, levels, burst, weight, lowest)
        before, count = (target - count).abs(), count + weight * spikes
        assert bool((spikes.abs() <= burst).all())
        assert bool((spikes == spikes.round()).all())
        assert bool(((count >= lowest) & (count <= levels)).all())
        assert bool(((target - count).abs() <= before).all())  # the distance never grows
    assert torch.equal(count, target)
    torch.testing.assert_close(count * lam / levels, qcfs(x, lam, levels, lowest), rtol=0, atol=1e-12)


@pytest.mark.parametrize("burst", [1, 2, 5])
def test_free_neurons_rest_at_qcfs_within_the_steps_promised(burst: int) -> None:
    # 43 = 32 + 8 + 2 + 1, the first number that takes four powers; 7 = 8 - 1 passes the highest level on its way
    one = torch.tensor([43.0, 7.0, -6.0])
    assert [free_quanta(one, torch.zeros(3), n).tolist() for n in (0, 1, 2, 4)] == [
        [0, 0, 0], [32, 8, -4], [40, 7, -6], [43, 7, -6]
    ]  # fmt: skip
    schedule, generator = FiringSchedule(burst, is_free=True), torch.Generator().manual_seed(burst)
    for levels, lowest, limit in ((1, 0, None), (7, 0, 1), (45, -30, 2), (100, -3, None)):
        lam, count = torch.tensor([1.7], dtype=torch.float64), torch.zeros(500, dtype=torch.float64)
        x = torch.zeros(500, dtype=torch.float64)
        for t in range(8 + schedule.longest(1, levels - lowest)):
            if t < 8:
                x = x + torch.randn(500, generator=generator, dtype=torch.float64)
            target = to_levels(x, lam, levels, lowest, limit)
            sent = free_quanta(target, count, burst)
            before, count = (target - count).abs(), count + sent
            assert bool((count_powers(sent) <= burst).all())
            assert bool((3 * (target - count).abs() <= before).all())
        assert torch.equal(count, target)
        torch.testing.assert_close(count * lam / levels, qcfs(x, lam, levels, lowest, limit), rtol=0, atol=1e-12)


def test_count_signed_spikes_adds_magnitudes() -> None:
    spikes = torch.tensor([[[1.0, -3.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, -1.0]]])
    assert count_signed_spikes(spikes).tolist() == [6, 1]
    assert count_signed_spikes(-spikes.to(torch.bfloat16)).tolist() == [6, 1]
    assert count_signed_spikes(torch.full((1, 1, 2**24 + 1), -1.0)).tolist() == [2**24 + 1]


# -------------------------------------------------------------------------------------------- module


def passes(neuron: SignedIFNeuron, run: RunState, x: Tensor, steps: int) -> list[list[float]]:
    outputs = []
    for step in range(steps):
        run.begin_chunk(step, 1)
        with running(run):
            outputs.append(neuron(x).flatten().tolist())
    return outputs


def test_signed_neuron_hands_on_running_sums() -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0]), 4, "site")
    run = RunState(seed=0, batch_size=2)
    assert passes(neuron, run, torch.tensor([[0.5], [0.1]]), 3) == [[0.25, 0.0], [0.5, 0.0], [0.5, 0.0]]
    assert run.state["site", "sent_quanta"].flatten().tolist() == [2.0, 0.0]
    assert run.counts["site"].sent.tolist() == [1, 1, 0]


def test_signed_neuron_reports_images_that_have_not_settled() -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0]), 4, "site")
    run = RunState(seed=0, batch_size=2)
    run.begin_chunk(0, 3)
    with running(run):
        neuron(torch.tensor([[0.5], [0.1]]).repeat(3, 1))
    assert run.unsettled is not None
    assert run.unsettled.tolist() == [[True, False], [False, False], [False, False]]


def test_signed_neuron_waits_for_its_turn() -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0]), 4, "site", schedule=FiringSchedule(4, stagger=1.0))
    neuron.depth = 2
    run = RunState(seed=0, batch_size=1)
    assert passes(neuron, run, torch.tensor([[0.5]]), 4) == [[0.0], [0.0], [0.5], [0.5]]
    assert run.unsettled is not None
    assert not bool(run.unsettled.any())


def test_signed_neuron_dropped_synapse_is_dropped_for_the_whole_run() -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0]), 4, "site", mask=RandomMask(0.5))
    run = RunState(seed=0, batch_size=1)
    outputs = passes(neuron, run, torch.full((1, 400), 1.0), 4)
    silent = [value == 0 for value in outputs[0]]
    assert 150 < sum(silent) < 250
    assert all([value == 0 for value in output] == silent for output in outputs)
    sent, dropped = (each.tolist() for each in (run.counts["site"].sent, run.counts["site"].dropped))
    assert sent == [400 - sum(silent)] * 4
    assert dropped == [sum(silent)] * 4


def test_signed_neuron_per_channel_thresholds() -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0, 0.5]), 4, "site", schedule=FiringSchedule(4))
    run = RunState(seed=0, batch_size=1)
    assert passes(neuron, run, torch.tensor([[0.5, 0.5]]), 1) == [[0.5, 0.5]]
    assert run.state["site", "sent_quanta"].tolist() == [[2.0, 4.0]]


def test_signed_neuron_batch_of_another_size_is_refused() -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0]), 4, "site")
    run = RunState(seed=0, batch_size=2)
    passes(neuron, run, torch.zeros(2, 3), 1)
    with pytest.raises(ValueError, match=r"site 'site': a step has shape \(2, 4\), but this run began with \(2, 3\)"):
        passes(neuron, run, torch.zeros(2, 4), 1)
    with pytest.raises(RuntimeError, match="call mst.simulate"):
        neuron(torch.zeros(2, 3))


def test_images_that_leave_take_their_neurons_with_them() -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0]), 4, "site", mask=RandomMask(0.5))
    run = RunState(seed=0, batch_size=3, first_image=10)
    x = torch.rand(6, 40)  # two rows per image
    passes(neuron, run, x, 1)
    count, mask = run.state["site", "sent_quanta"].clone(), run.state["site", "mask"].clone()
    run.keep_images(torch.tensor([True, False, True]))
    kept = torch.tensor([True, True, False, False, True, True])
    assert run.batch_size == 2
    assert run.image_indices(x.device).tolist() == [10, 12]
    assert torch.equal(run.state["site", "sent_quanta"], count[kept])
    assert torch.equal(run.state["site", "mask"], mask[kept])
    passes(neuron, run, x[kept], 2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_signed_neuron_keeps_nan_under_every_schedule(name: ScheduleName) -> None:
    neuron = SignedIFNeuron(torch.tensor([1.0]), 4, "site", schedule=named_schedule(name, 4, 2))
    run = RunState(0, batch_size=1)
    passes(neuron, run, torch.tensor([[math.nan, 0.5]]), 3)
    assert run.state["site", "sent_quanta"].isnan().tolist() == [[True, False]]
