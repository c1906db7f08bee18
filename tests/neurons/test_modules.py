from __future__ import annotations

import pytest
import torch
from torch import nn

from mst.errors import InputError
from mst.neurons import QCFS, IFNeuron, NotRunningError, RunState, begin_run, find_sites, make_mask, running


def neuron(masking_ratio: float = 0.0) -> IFNeuron:
    return IFNeuron(torch.tensor([1.0]), 16, "site", mask=make_mask(masking_ratio))


def steps(site: IFNeuron, run: RunState, x: torch.Tensor, count: int, first: int = 0) -> list[torch.Tensor]:
    """One output per step."""
    outputs = []
    for step in range(first, first + count):
        run.begin_chunk(step, 1)
        with running(run):
            outputs.append(site(x))
    return outputs


def test_qcfs_module_has_the_released_defaults() -> None:
    site = QCFS()
    assert (site.num_levels, site.threshold.tolist(), site.masking_ratio) == (16, [2.0], 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 0}, "num_levels must be a whole number, at least 1"),
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"masking_ratio": 1.0}, "masking_ratio is the fraction dropped"),
        ({"masking_ratio": 75.0}, "for 75 % write 0.75"),
    ],
)
def test_qcfs_module_value_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QCFS(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
def test_qcfs_module_masks_in_training_and_in_evaluation_without_rescaling(training: bool) -> None:
    site = QCFS(num_levels=4, threshold=1.0, masking_ratio=0.75).train(training)
    y = site(torch.full((100, 100), 0.5))
    assert set(y.unique().tolist()) == {0.0, 0.5}
    assert (y > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_qcfs_module_masks_repeat_inside_a_run_and_differ_between_calls_outside() -> None:
    site = QCFS(num_levels=4, threshold=1.0, masking_ratio=0.5)
    x = torch.full((4, 50), 0.5)
    with running(begin_run(site, seed=1, batch_size=4)):
        first, second = site(x), site(x)
    assert torch.equal(first, second)
    assert not torch.equal(site(x), site(x))


def test_qcfs_module_masked_elements_get_no_gradient() -> None:
    site = QCFS(num_levels=4, threshold=1.0, masking_ratio=0.5)
    x = torch.full((200,), 0.5, requires_grad=True)
    y = site(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad != 0, y != 0)


def test_find_sites_gives_each_site_by_its_module_path() -> None:
    model = nn.Sequential(nn.Linear(2, 2), QCFS(), nn.Sequential(QCFS()))
    assert find_sites(model) == {"1": model[1], "2.0": model[2][0]}


def test_if_neuron_outside_a_run_says_how_to_run_it() -> None:
    with pytest.raises(
        NotRunningError, match=r"'site': spiking neurons have state only inside a run; call mst.simulate"
    ):
        neuron()(torch.zeros(1, 1))


def test_if_neuron_keeps_its_state_in_the_run_and_none_in_itself() -> None:
    site, x = neuron(), torch.full((2, 3), 0.3)
    one, other = RunState(seed=0, batch_size=2), RunState(seed=0, batch_size=2)
    first, again = steps(site, one, x, 4), steps(site, other, x, 4)
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert list(site.state_dict()) == ["threshold"]
    assert one.state["site", "membrane_potential"].shape == (2, 3)


def test_if_neuron_interleaved_runs_do_not_touch_each_other() -> None:
    site = neuron()
    x, y = torch.full((1, 5), 0.37), torch.full((1, 5), 0.81)
    alone = RunState(seed=0, batch_size=1)
    expected = steps(site, alone, x, 6)
    a, b = RunState(seed=0, batch_size=1), RunState(seed=0, batch_size=1)
    got = []
    for step in range(6):
        got += steps(site, a, x, 1, step)
        steps(site, b, y, 1, step)
    assert torch.equal(torch.stack(got), torch.stack(expected))


def test_if_neuron_batch_that_does_not_fit_the_run_is_named() -> None:
    site = neuron()
    with running(RunState(seed=0, batch_size=2, steps_in_chunk=2)) as run:
        with pytest.raises(ValueError, match=r"'site': the first axis of \(6, 3\).*2 steps x 2 images = 4"):
            site(torch.zeros(6, 3))
        site(torch.zeros(4, 3))
        run.begin_chunk(2, 2)
        with pytest.raises(ValueError, match=r"'site': a step has shape \(2, 5\).*began with \(2, 3\)"):
            site(torch.zeros(4, 5))
        assert list(run.state) == [("site", "membrane_potential")]


def test_if_neuron_used_twice_in_one_pass_is_refused() -> None:
    site = neuron()
    with running(RunState(seed=0, batch_size=1)):
        site(torch.zeros(1, 3))
        with pytest.raises(ValueError, match="'site': used twice in one pass.*a QCFS of its own"):
            site(torch.zeros(1, 3))


def test_if_neuron_counts_what_it_sent_and_what_the_mask_took() -> None:
    masked, free = neuron(0.5), neuron()
    x = torch.full((4 * 2, 1000), 0.6)
    runs = []
    for site in (masked, free):
        run = RunState(seed=0, batch_size=2, steps_in_chunk=4)
        with running(run):
            out = site(x)
        counts = run.counts["site"]
        assert torch.cat(counts.sent).tolist() == [(step > 0).sum().item() for step in out.view(4, -1)]
        runs.append(counts)
    fired = torch.cat(runs[0].sent) + torch.cat(runs[0].dropped)
    assert torch.equal(fired, torch.cat(runs[1].sent))  # masking drops spikes, it does not stop firing
    assert int(torch.cat(runs[1].dropped).sum()) == 0
    assert runs[0].num_neurons == 1000


def test_if_neuron_takes_the_threshold_that_its_qcfs_acts_with() -> None:
    site = QCFS(threshold=1.0)
    with torch.no_grad():
        site.threshold.fill_(-3.0)
    assert IFNeuron.from_qcfs(site, "s").threshold.item() == pytest.approx(1e-4)
    with torch.no_grad():
        site.threshold.fill_(float("nan"))
    with pytest.raises(ValueError, match="'s': a neuron needs a finite threshold"):
        IFNeuron.from_qcfs(site, "s")


def test_masked_site_in_a_run_without_its_model_names_the_remedy() -> None:
    site = QCFS(masking_ratio=0.5)
    with (
        running(RunState(seed=0, batch_size=1)),
        pytest.raises(InputError, match="QCFS has a mask but no name in this run.*begin_run") as refused,
    ):
        site(torch.ones(1, 4))
    assert "model is the whole network" in refused.value.remedy


def test_begin_run_names_sites_by_their_path_below_the_model() -> None:
    part = nn.Sequential(QCFS(4, 1.0, masking_ratio=0.5))
    whole, x = nn.ModuleDict({"part": part}), torch.full((1, 300), 0.5)
    by_itself, inside = begin_run(part, batch_size=1), begin_run(whole, batch_size=1)
    assert (by_itself.name_of(part[0]), inside.name_of(part[0])) == ("0", "part.0")
    with running(inside):
        masked = part(x)
    with running(begin_run(whole, batch_size=1)):
        assert torch.equal(part(x), masked)  # names of another run in between change nothing
    with running(by_itself):
        assert not torch.equal(part(x), masked)


class _Accumulator(IFNeuron):
    """Two slots, one of them of another shape than the input."""

    slots = ("membrane_potential", "total")

    def initial_state(self, x: torch.Tensor, run: RunState) -> dict[str, torch.Tensor]:
        return {**super().initial_state(x, run), "total": torch.zeros(len(x))}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        run = self._run()
        x_TB = run.unfold(x, self.site)
        _, total = self._state(run, x_TB[0])
        total += x_TB.sum(dim=(0, 2))
        return x


def test_run_state_keeps_every_declared_slot_when_images_leave() -> None:
    site, x = _Accumulator(torch.tensor([1.0]), 16, "site"), torch.arange(12.0).view(4, 3)
    run = RunState(seed=0, batch_size=2)
    with running(run):
        site(x)
        run.keep_images(torch.tensor([False, True]))
        run.begin_chunk(1, 1)
        site(x[2:])
    assert run.state["site", "total"].tolist() == [2 * 21.0, 2 * 30.0]
    assert run.state["site", "membrane_potential"].shape == (2, 3)


def test_run_state_slot_that_is_not_images_first_is_refused() -> None:
    run = RunState(seed=0, batch_size=2)
    run.state["site", "sum"] = torch.zeros(3)
    with pytest.raises(InputError, match=r"'site': slot 'sum' has shape \(3,\).*images first"):
        run.keep_images(torch.tensor([False, True]))


def test_run_state_slots_other_than_declared_are_refused() -> None:
    class Forgetful(_Accumulator):
        slots = ("membrane_potential", "total", "trace")

    site = Forgetful(torch.tensor([1.0]), 16, "site")
    with running(RunState(seed=0, batch_size=2)), pytest.raises(InputError, match="'trace'.*are declared, got"):
        site(torch.zeros(2, 3))


def test_run_state_forgets_a_site_as_if_it_had_not_been_reached() -> None:
    site = neuron()
    run = RunState(seed=0, batch_size=1)
    with running(run):
        site(torch.zeros(1, 3))
        run.forget("site")
        assert (run.state, run.visited_sites) == ({}, set())
        assert site(torch.ones(1, 5)).shape == (1, 5)


def test_reprs_are_short_and_show_no_tensor() -> None:
    site, run = neuron(0.5), RunState(seed=3, batch_size=2, steps_in_chunk=2)
    with running(run):
        site(torch.zeros(4, 3))
    assert repr(run) == "RunState(seed=3, 2 images, steps 0 to 1, 1 tensors)"
    assert repr(run.counts["site"]) == "SiteCounts(3 neurons, threshold=1.0, 2 steps)"
    assert repr(site) == "IFNeuron(site='site', mask=random 0.5)"
    assert repr(QCFS(4, role="query")) == "QCFS(num_levels=4, role='query')"
