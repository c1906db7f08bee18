"""The first step reaches the sites that the examination has seen, and no others."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.neurons import QCFS, RunState
from mst.simulation.examination import refuse_nan


class Branching(nn.Module):
    """Uses a site with hooks on a module only, as torch's fused fast path does, or without them only."""

    def __init__(self, with_hooks: bool) -> None:
        super().__init__()
        self.fc, self.a, self.b, self.head = nn.Linear(4, 4), QCFS(4, 1.0), QCFS(4, 1.0), nn.Linear(4, 2)
        self.with_hooks = with_hooks

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.fc(x))
        if bool(self.a._forward_hooks) is self.with_hooks:
            h = self.b(h)
        y: Tensor = self.head(h)
        return y


@pytest.mark.parametrize("coding", ["rate", "lossless"])
@pytest.mark.parametrize("with_hooks", [True, False])
@pytest.mark.parametrize("record", [True, False])
def test_simulate_refuses_a_step_that_reaches_other_sites(coding: str, with_hooks: bool, record: bool) -> None:
    snn, x = mst.convert(Branching(with_hooks), coding, torch.rand(1, 4)), torch.rand(3, 4)
    message = (
        "site: the first step passed by b, which the examination of the network reached; torch's fused fast path"
        if with_hooks
        else "site: the first step reached b, which the examination of the network did not"
    )
    with pytest.raises(ValueError, match=message):
        mst.simulate(snn, x, 4, record_operations=record)


def test_simulate_refuses_it_where_convert_had_no_image() -> None:
    with pytest.raises(ValueError, match="the first step passed by b"):
        mst.simulate(mst.convert(Branching(True)), torch.rand(3, 4), 4, record_operations=False)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=QCFS(4, 1.0))
        self.layer, self.head = layer, nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer(x).mean(1))
        return y


def test_simulate_never_leaves_out_the_sites_of_a_fused_encoder() -> None:
    """Refused, or right; and right if the remedy is followed."""
    net, x = Encoder().eval(), torch.rand(3, 4, 8)
    snn = mst.convert(net, "lossless", x)
    with torch.enable_grad():
        expected = net(x).detach()
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        result = mst.simulate(snn, x, 60, record_operations=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    torch.testing.assert_close(result.logits, expected, rtol=0, atol=1e-5)
    assert sum(result.spike_counts.values()) > 0
    fused = None
    with suppress(ValueError):  # the sites are named, see above
        fused = mst.simulate(snn, x, 60, record_operations=False)
    if fused is not None:
        torch.testing.assert_close(fused.logits, expected, rtol=0, atol=1e-5)


def test_simulate_accepts_sites_that_no_image_reaches() -> None:
    class Auxiliary(Branching):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.a(self.fc(x)))
            return y

    for example in (None, torch.rand(1, 4)):
        snn = mst.convert(Auxiliary(True), example=example)
        assert mst.simulate(snn, torch.rand(3, 4), 4).spike_counts.keys() == {"a"}


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_simulate_shows_a_monitor_its_images_and_one_trace(coding: str) -> None:
    """A monitor of numbers sees no values that the examination has made up."""
    net = nn.Sequential(nn.Linear(4, 6), QCFS(4, 1.0), nn.Linear(6, 4), QCFS(4, 1.0), nn.Linear(4, 2))
    snn, rates = mst.convert(net, coding, torch.rand(1, 4)), []
    snn.network[2].register_forward_pre_hook(lambda m, args: rates.append((args[0] != 0).float().mean().item()))  # type: ignore[index]
    for record, extra in ((False, 0), (True, 1)):
        rates.clear()
        result = mst.simulate(snn, torch.rand(3, 4), 5, steps_per_chunk=1, record_operations=record)
        passes = int(result.steps_taken.max()) + (coding == "lossless" and record)  # one before the first step
        assert len(rates) == passes + extra
        assert all(0 <= rate <= 1 for rate in rates)


def test_refuse_nan_looks_at_the_images_named_whatever_the_strides_of_their_state() -> None:
    state = torch.zeros(2, 3, 4).transpose(1, 2)  # as queries and keys leave it, after their heads have been split off
    state[1, 0, 0] = torch.nan
    run = RunState(0, 2, state={("site", "v"): state})
    refuse_nan(run, torch.tensor([True, False]))
    with pytest.raises(InputError, match="site 'site'.*received NaN"):
        refuse_nan(run, torch.tensor([False, True]))
