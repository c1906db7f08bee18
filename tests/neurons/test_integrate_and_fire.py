from __future__ import annotations

import pytest
import torch
from torch import nn

from mst.neurons import QCFS, IFNeuron, NotRunningError, RunState, make_mask, running
from mst.neurons.precision import _OWNER, _SETTING


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


def test_if_neuron_outside_a_run_names_the_remedy() -> None:
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


def test_a_run_convolves_in_full_precision_until_the_last_run_has_ended() -> None:
    usual = getattr(_OWNER, _SETTING)
    first, second = running(RunState(seed=0, batch_size=1)), running(RunState(seed=0, batch_size=1))
    first.__enter__()
    second.__enter__()
    assert getattr(_OWNER, _SETTING) in ("ieee", False)
    second.__exit__(None, None, None)
    assert getattr(_OWNER, _SETTING) in ("ieee", False)
    first.__exit__(None, None, None)
    assert getattr(_OWNER, _SETTING) == usual not in ("ieee", False)


@pytest.mark.gpu
def test_a_run_convolves_in_full_precision_on_a_gpu() -> None:
    conv, x = nn.Conv2d(64, 64, 3), torch.randn(8, 64, 16, 16)
    expected = conv.double()(x.double())
    with torch.no_grad(), running(RunState(seed=0, batch_size=8)):
        y = conv.float().cuda()(x.cuda()).cpu().double()
    assert ((y - expected).norm() / expected.norm()).item() < 1e-5  # TF32: 3e-4


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
        assert counts.sent.tolist() == [(step > 0).sum().item() for step in out.view(4, -1)]
        runs.append(counts)
    fired = runs[0].sent + runs[0].dropped
    assert torch.equal(fired, runs[1].sent)  # masking drops spikes; it does not stop the neuron from firing
    assert int(runs[1].dropped.sum()) == 0
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
