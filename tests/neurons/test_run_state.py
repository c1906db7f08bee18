from __future__ import annotations

import pytest
import torch
from torch import nn

from mst.errors import InputError
from mst.neurons import QCFS, IFNeuron, RunState, begin_run, make_mask, running


def neuron(masking_ratio: float = 0.0) -> IFNeuron:
    return IFNeuron(torch.tensor([1.0]), 16, "site", mask=make_mask(masking_ratio))


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
        assert torch.equal(part(x), masked)  # the names of another run in between have no effect
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


def test_run_state_forgets_a_site() -> None:
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
    assert repr(run.counts["site"]) == "SiteCounts(3 neurons, 2 steps)"
    assert repr(site) == "IFNeuron(site='site', mask=random 0.5)"
    assert repr(QCFS(4, role="query")) == "QCFS(num_levels=4, role='query')"
