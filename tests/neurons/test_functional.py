from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mst.neurons import (
    MIN_THRESHOLD,
    count_spikes,
    drop_spikes,
    if_run,
    if_step,
    initial_membrane_potential,
    keep_mask,
    qcfs,
)
from mst.neurons.functional import _QCFSFunction


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


def plain_qcfs(x: Tensor, threshold: Tensor, num_levels: int, min_level: int = 0) -> Tensor:
    """The expression as the paper writes it, differentiated by autograd.

    The clip is active where it changes its argument. torch.clamp is not used: whether its gradient passes at the
    very borders, where floor puts many values, depends on the version of torch.
    """
    level = _Floor.apply(x * num_levels / threshold + 0.5) / num_levels
    lowest = torch.full_like(level, min_level / num_levels)
    clipped = torch.where(level < lowest, lowest, torch.where(level > 1, torch.ones_like(level), level))
    return threshold * clipped


@pytest.mark.parametrize("num_levels", [1, 2, 7, 16])
@pytest.mark.parametrize("threshold", [0.3, 2.0])
@pytest.mark.parametrize("min_level", [0, -1, -8])
def test_qcfs_value_and_both_gradients_equal_the_plain_expression(
    num_levels: int, threshold: float, min_level: int
) -> None:
    x = (torch.randn(4000, dtype=torch.float64) * 2 * threshold).requires_grad_()
    lam = torch.tensor([threshold], dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4000, dtype=torch.float64)
    expected = torch.autograd.grad((plain_qcfs(x, lam, num_levels, min_level) * weight).sum(), (x, lam))
    got = torch.autograd.grad((qcfs(x, lam, num_levels, min_level) * weight).sum(), (x, lam))
    torch.testing.assert_close(
        qcfs(x, lam, num_levels, min_level), plain_qcfs(x, lam, num_levels, min_level), rtol=1e-13, atol=1e-13
    )
    torch.testing.assert_close(got[0], expected[0], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(got[1], expected[1], rtol=1e-10, atol=1e-10)


def test_qcfs_rounds_levels_to_few_powers_of_two() -> None:
    x = torch.tensor([-0.9, 0.0, 3.2, 4.8, 6.9, 20.0], dtype=torch.float64, requires_grad=True)
    lam = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    assert [qcfs(x, lam, 7, -3, powers).tolist() for powers in (None, 1, 2)] == [
        [-1, 0, 3, 5, 7, 7], [-1, 0, 2, 4, 8, 8], [-1, 0, 3, 5, 7, 7]
    ]  # fmt: skip
    gradients = [torch.autograd.grad(qcfs(x, lam, 7, -3, powers).sum(), (x, lam)) for powers in (None, 1)]
    assert torch.equal(gradients[1][0], gradients[0][0])  # straight through
    # inside the clip (y - x)/λ, above it y/λ
    assert gradients[1][1].item() == pytest.approx((-1 + 0.9 + 2 - 3.2 + 4 - 4.8 + 8 - 6.9 + 8) / 7)
    assert qcfs(x.detach().bfloat16(), lam.detach().bfloat16(), 7, -3, 1).tolist() == [-1, 0, 2, 4, 8, 8]
    with pytest.raises(ValueError, match="max_powers must be at least 1, got 0"):
        qcfs(x, lam, 7, 0, 0)


def test_qcfs_rounded_under_transforms_is_the_same() -> None:
    x, lam = torch.randn(60, 3), torch.tensor([1.3])
    expected = qcfs(x, lam, 45, -45, 2)
    assert torch.equal(torch.vmap(lambda row: qcfs(row, lam, 45, -45, 2))(x), expected)
    compiled = torch.compile(lambda each: qcfs(each, lam, 45, -45, 2), backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), expected)


def test_qcfs_threshold_gradient_is_the_closed_form() -> None:
    x = torch.tensor([-1.0, 0.3, 1.9, 5.0], dtype=torch.float64)
    lam = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    gradients = [torch.autograd.grad(qcfs(x[i : i + 1], lam, 4).sum(), lam)[0].item() for i in range(4)]
    # below: 0; inside: (y - x)/λ with y = 0.5 and 2.0; above: 1
    assert gradients == pytest.approx([0.0, (0.5 - 0.3) / 2, (2.0 - 1.9) / 2, 1.0])


def test_qcfs_per_channel_threshold_equals_one_call_a_channel() -> None:
    x = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
    lam = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    together = torch.autograd.grad(qcfs(x, lam, 8).square().sum(), (x, lam))
    for c in range(3):
        alone = lam[c : c + 1].detach().requires_grad_()
        apart = torch.autograd.grad(qcfs(x[:, c], alone, 8).square().sum(), (x, alone))
        torch.testing.assert_close(together[0][:, c], apart[0][:, c], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together[1][c : c + 1], apart[1], rtol=1e-12, atol=1e-12)


def test_qcfs_other_devices_path_equals_cpu_path(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(500, dtype=torch.float64, requires_grad=True)
    lam = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    fast = qcfs(x, lam, 16, -5)
    fast_grads = torch.autograd.grad(fast.sin().sum(), (x, lam))
    monkeypatch.setattr("mst.neurons.functional._is_cpu_scalar", lambda x, threshold: False)
    general = qcfs(x, lam, 16, -5)
    general_grads = torch.autograd.grad(general.sin().sum(), (x, lam))
    torch.testing.assert_close(fast, general, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(fast_grads, general_grads, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fast", [True, False])
def test_qcfs_keeps_a_low_precision_dtype(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr("mst.neurons.functional._is_cpu_scalar", lambda x, threshold: False)
    x = torch.randn(64, dtype=torch.bfloat16, requires_grad=True)
    lam = torch.tensor([1.0], requires_grad=True)
    y = qcfs(x, lam, 16)
    y.float().sum().backward()
    assert (y.dtype, x.grad.dtype, lam.grad.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)  # type: ignore[union-attr]


def test_qcfs_threshold_stays_usable_when_an_optimiser_step_makes_it_negative() -> None:
    lam = torch.tensor([-0.5], requires_grad=True)
    x = torch.tensor([1.0, -1.0])
    y = qcfs(x, lam, 4)
    assert y.tolist() == pytest.approx([MIN_THRESHOLD, 0.0])
    y.sum().backward()
    assert lam.grad is not None
    assert lam.grad.item() == pytest.approx(1.0)  # it can grow back


def test_qcfs_num_levels_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="num_levels must be at least 1, got 0"):
        qcfs(torch.zeros(1), torch.ones(1), 0)


def test_qcfs_is_one_node_of_the_graph() -> None:
    y = qcfs(torch.zeros(3, requires_grad=True), torch.ones(1, requires_grad=True), 4)
    assert isinstance(y.grad_fn, _QCFSFunction._backward_cls)  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------- IF neuron


def test_if_step_follows_a_trace_computed_by_hand() -> None:
    threshold, v = torch.tensor([1.0]), torch.tensor([0.5])
    trace = []
    for x in [0.25, 0.25, 0.25, 2.0, 0.0, -3.0, 1.0]:
        spike, v = if_step(torch.tensor([x]), v, threshold)
        trace.append((spike.item(), v.item()))
    assert trace == [(0, 0.75), (1, 0.0), (0, 0.25), (1, 1.25), (1, 0.25), (0, -2.75), (0, -1.75)]


def test_if_step_fires_on_reaching_the_threshold() -> None:
    spike, v = if_step(torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([2.0]))
    assert (spike.item(), v.item()) == (2.0, 0.0)


def test_if_run_equals_if_step_by_step_and_leaves_its_arguments_alone() -> None:
    x, v0 = torch.randn(9, 4, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)
    threshold, before = torch.tensor([0.8], dtype=torch.float64), (x.clone(), v0.clone())
    spikes, v_end = if_run(x, v0, threshold)
    assert torch.equal(x, before[0])
    assert torch.equal(v0, before[1])
    v = v0
    for t in range(9):
        expected, v = if_step(x[t], v, threshold)
        assert torch.equal(spikes[t], expected)
    assert torch.equal(v_end, v)


def test_if_run_state_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4,\), the state \(5,\)"):
        if_run(torch.zeros(2, 4), torch.zeros(5), torch.ones(1))


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=40),
    st.sampled_from([0.5, 1.0, 2.0, 0.75]),
)
def test_if_run_conserves_charge_and_sends_zero_or_one_spike(currents: list[float], threshold: float) -> None:
    x, lam = torch.tensor(currents, dtype=torch.float64)[:, None], torch.tensor([threshold], dtype=torch.float64)
    spikes, v = if_run(x, initial_membrane_potential(x[0], lam), lam)
    assert set(spikes.flatten().tolist()) <= {0.0, threshold}
    assert (threshold / 2 + x.sum() - spikes.sum() - v).abs().item() < 1e-9


@settings(max_examples=300)
@given(st.integers(-200, 600), st.integers(1, 32), st.integers(1, 8))
def test_constant_input_over_num_levels_steps_gives_exactly_the_qcfs_output(
    numerator: int, num_levels: int, threshold_eighths: int
) -> None:
    """In exact rationals too, the number of spikes is the level, ties at rounding included."""
    threshold = Fraction(threshold_eighths, 8)
    x = Fraction(numerator, 64)
    v, count = threshold / 2, 0
    for _ in range(num_levels):
        v += x
        if v >= threshold:
            v, count = v - threshold, count + 1
    assert count == min(max(math.floor(x * num_levels / threshold + Fraction(1, 2)), 0), num_levels)
    if num_levels & (num_levels - 1) == 0:  # sums of these numbers are exact in binary
        lam = torch.tensor([float(threshold)], dtype=torch.float64)
        current = torch.full((num_levels, 1), float(x), dtype=torch.float64)
        spikes, _ = if_run(current, initial_membrane_potential(current[0], lam), lam)
        assert int((spikes > 0).sum()) == count
        assert int((qcfs(current[0], lam, num_levels) / lam * num_levels).round()) == count


def test_time_varying_input_leaves_an_unevenness_error() -> None:
    """Spikes cannot be cancelled: the mean input is 0, the mean output is not. So rate coding needs many steps."""
    x, lam = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([1.0])
    spikes, _ = if_run(x, initial_membrane_potential(x[0], lam), lam)
    assert spikes.mean().item() == 0.5
    assert qcfs(x.mean(0), lam, 4).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_count_spikes_counts_what_is_not_zero(dtype: torch.dtype) -> None:
    spikes = ((torch.rand(3, 4, 1001) < 0.7) * 0.37).to(dtype)
    expected = [int((step != 0).sum()) for step in spikes]
    assert count_spikes(spikes).tolist() == expected
    assert count_spikes(spikes.transpose(1, 2)).tolist() == expected
    assert count_spikes(torch.ones(1, 1, 2**24 + 1)).tolist() == [2**24 + 1]


# ----------------------------------------------------------------------------------- random spike masking


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.75])
def test_keep_mask_drops_the_given_fraction(ratio: float) -> None:
    keep = keep_mask(torch.arange(200), 500, ratio, seed=3, site="a", step=5)
    deviation = (keep.double().mean() - (1 - ratio)).abs().item()
    assert deviation <= 4 * math.sqrt(ratio * (1 - ratio) / keep.numel())
    for axis in (0, 1):  # no image and no neuron is favoured
        spread = keep.double().mean(axis).std().item()
        expected = math.sqrt(ratio * (1 - ratio) / keep.shape[axis])
        assert spread == pytest.approx(expected, rel=0.2, abs=1e-12)


@pytest.mark.parametrize("change", [{"seed": 4}, {"site": "b"}, {"step": 6}, {"images": torch.arange(400, 600)}])
def test_keep_mask_draws_are_independent_across_seed_site_step_and_image(change: dict[str, object]) -> None:
    base: dict[str, object] = {"seed": 3, "site": "a", "step": 5, "images": torch.arange(200)}
    a = keep_mask(num_elements=500, masking_ratio=0.5, **base)  # type: ignore[arg-type]
    b = keep_mask(num_elements=500, masking_ratio=0.5, **{**base, **change})  # type: ignore[arg-type]
    agreement = (a == b).double().mean().item()
    assert agreement == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(a.numel()))


def test_keep_mask_neighbouring_elements_and_steps_are_uncorrelated() -> None:
    keeps = torch.stack(
        [keep_mask(torch.arange(50), 200, 0.5, seed=0, site="s", step=t).flatten() for t in range(64)]
    ).double()
    centred = keeps - keeps.mean(1, keepdim=True)
    correlation = (centred @ centred.T) / (centred.norm(dim=1)[:, None] * centred.norm(dim=1)[None])
    off_diagonal = correlation - torch.eye(64, dtype=torch.float64)
    assert off_diagonal.abs().max().item() < 5.5 / math.sqrt(keeps.shape[1])
    lagged = (centred[:, 1:] * centred[:, :-1]).mean(1) / centred.square().mean(1)
    assert lagged.abs().max().item() < 5 / math.sqrt(keeps.shape[1])


def test_keep_mask_of_an_image_does_not_depend_on_its_batch() -> None:
    whole = keep_mask(torch.arange(6), 40, 0.5, seed=1, site="s", step=2)
    parts = [keep_mask(torch.arange(i, i + n), 40, 0.5, seed=1, site="s", step=2) for i, n in ((0, 1), (1, 3), (4, 2))]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_keep_mask_ratio_outside_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"fraction dropped, in \[0, 1\)"):
        keep_mask(torch.arange(1), 1, ratio, seed=0, site="s", step=0)


def test_drop_spikes_only_removes_and_does_not_rescale() -> None:
    spikes = torch.tensor([2.0, 0.0, 2.0, 2.0])
    assert drop_spikes(spikes, torch.tensor([True, True, False, True])).tolist() == [2.0, 0.0, 0.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_qcfs_threshold_gradient_survives_half_precision(dtype: torch.dtype) -> None:
    """Its two parts nearly cancel: if each were rounded, their difference would be lost."""
    torch.manual_seed(0)
    x = (4 * torch.rand(20_000)).to(dtype)
    weight = (1e-3 + 1e-2 * torch.randn(20_000)).to(dtype)
    gradients = []
    for cast in (torch.float64, dtype):
        threshold = torch.tensor(
            [4.0], dtype=torch.float64 if cast == torch.float64 else torch.float32, requires_grad=True
        )
        y = qcfs(x.to(cast), threshold, 16)
        (y * weight.to(cast)).to(torch.float64).sum().backward()
        assert threshold.grad is not None
        gradients.append(float(threshold.grad))
    assert gradients[1] == pytest.approx(gradients[0], rel=0.05, abs=0.02)


# ------------------------------------------------------------------- QCFS under torch's transforms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("threshold", [1.7, -0.3, (0.4, 1.0, 2.3)], ids=["scalar", "negative", "per_channel"])
@pytest.mark.parametrize(("num_levels", "min_level"), [(1, 0), (10, 0), (16, -7)])
def test_qcfs_under_transforms_has_the_same_values_and_gradients(
    dtype: torch.dtype, threshold: float | tuple[float, ...], num_levels: int, min_level: int
) -> None:
    lam = torch.tensor(threshold).reshape(-1).requires_grad_()
    grid = (torch.arange(-8, 40) / 32).repeat(3, 1).T  # values between levels, and torch's order of rounding matters
    x = torch.cat([grid, torch.randn(100, 3) * 2]).to(dtype).requires_grad_()
    weight = torch.randn(148, 3, dtype=dtype)

    def both(x: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        y = qcfs(x, lam, num_levels, min_level)
        return (y * weight).sum(), y

    expected = both(x, lam)[1]
    gradients = torch.autograd.grad(both(x, lam)[0], (x, lam))
    got, values = torch.func.grad(both, argnums=(0, 1), has_aux=True)(x.detach(), lam.detach())
    assert torch.equal(values, expected)
    assert torch.equal(got[0], gradients[0])
    tolerance = {"rtol": 0.02, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(got[1], gradients[1], **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("threshold", [1.7, -0.3, (0.4, 1.0, 2.3)], ids=["scalar", "negative", "per_channel"])
@pytest.mark.parametrize(("num_levels", "min_level", "max_powers"), [(1, 0, None), (10, 0, None), (45, -21, 2)])
def test_qcfs_compiled_has_the_same_values_and_gradients(
    dtype: torch.dtype, threshold: float | tuple[float, ...], num_levels: int, min_level: int, max_powers: int | None
) -> None:
    lam = torch.tensor(threshold).reshape(-1).requires_grad_()
    grid = (torch.arange(-8, 40) / 32).repeat(3, 1).T
    x = torch.cat([grid, torch.randn(100, 3) * 2]).to(dtype).requires_grad_()
    weight = torch.randn(148, 3, dtype=dtype)

    def values(x: Tensor, lam: Tensor) -> Tensor:
        return qcfs(x, lam, num_levels, min_level, max_powers)

    torch.compiler.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(values, backend=backend, fullgraph=True)
    y, expected = compiled(x, lam), values(x, lam)
    assert torch.equal(y, expected)
    got, wanted = (torch.autograd.grad(each, (x, lam), weight) for each in (y, expected))
    assert torch.equal(got[0], wanted[0])
    tolerance = {"rtol": 0.02, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(got[1], wanted[1], **tolerance)
    assert any("autograd_function" in str(node.target) for node in graphs[0].graph.nodes)  # gradients of few operations


def test_qcfs_compiled_for_another_device_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    x, lam = torch.randn(200, dtype=torch.float64, requires_grad=True), torch.tensor([0.7], dtype=torch.float64)
    lam.requires_grad_()
    monkeypatch.setattr("mst.neurons.functional._is_cpu_scalar", lambda x, threshold: False)
    torch.compiler.reset()
    compiled = torch.compile(lambda x, lam: qcfs(x, lam, 16, -5), backend="eager", fullgraph=True)
    y, expected = compiled(x, lam), qcfs(x, lam, 16, -5)
    assert torch.equal(y, expected)
    got, wanted = (torch.autograd.grad(each.square().sum(), (x, lam)) for each in (y, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("threshold", [(1.0,), (1.0, 1.0)], ids=["scalar", "per_channel"])
def test_qcfs_gradient_at_the_borders_of_the_clip_is_the_same_in_every_form(threshold: tuple[float, ...]) -> None:
    x, lam = torch.tensor([[-0.25, -0.25], [1.25, 1.25]]), torch.tensor(threshold)

    def gradient(x: Tensor) -> Tensor:
        return torch.func.grad(lambda each: qcfs(each, lam, 2).sum())(x)

    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(qcfs(leaf, lam, 2).sum(), leaf)[0]
    compiled = torch.compile(lambda each: qcfs(each, lam, 2), backend="eager", fullgraph=True)
    assert torch.equal(torch.autograd.grad(compiled(leaf).sum(), leaf)[0], expected)
    assert torch.equal(gradient(x), expected)


def test_qcfs_transformed_within_a_compiled_function() -> None:
    x, lam = torch.randn(6, 5), torch.tensor([0.7])

    def gradients(x: Tensor) -> Tensor:
        return torch.vmap(torch.func.grad(lambda row: qcfs(row, lam, 10).square().sum()))(x)

    assert torch.equal(torch.compile(gradients, backend="eager", fullgraph=True)(x), gradients(x))


def test_qcfs_element_by_element_equals_qcfs_of_the_whole() -> None:
    x, lam = torch.randn(50), torch.tensor([0.7])
    assert torch.equal(torch.vmap(lambda value: qcfs(value, lam, 10))(x), qcfs(x, lam, 10))


def test_qcfs_maps_over_thresholds() -> None:
    x, lam = torch.randn(50), torch.tensor([[0.7], [1.3]])
    together = torch.vmap(lambda each: qcfs(x, each, 10))(lam)
    assert torch.equal(together, torch.stack([qcfs(x, each, 10) for each in lam]))
