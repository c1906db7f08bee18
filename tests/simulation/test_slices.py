"""Images with a time axis: slice after slice, state carried over."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mst
from conftest import randomise, tiny_config
from mst.measure import estimate_energy
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS
from mst.simulation import SimulationResult

pytestmark = pytest.mark.slow


def model(ratio: float = 0.5) -> MaskedSpikingTransformer:
    network = MaskedSpikingTransformer(tiny_config(in_chans=2, masking_ratio=ratio)).eval()
    randomise(network)
    return network.double()


def slices(count: int, steps: int) -> torch.Tensor:
    """Sparse, as frames of events are: [B, K, 2, 8, 8]."""
    draw = torch.Generator().manual_seed(2)
    values = torch.rand(count, steps, 2, 8, 8, dtype=torch.float64, generator=draw)
    return torch.where(values > 0.8, values * 3, 0.0)


def assert_same(a: SimulationResult, b: SimulationResult) -> None:
    assert a.spike_counts == b.spike_counts
    assert (a.logits - b.logits).abs().max().item() < 1e-12
    for one, other in zip(a.operations, b.operations, strict=True):
        assert torch.equal(one.acs_per_step, other.acs_per_step)
        assert (one.macs_per_step is None) == (other.macs_per_step is None)
        if one.macs_per_step is not None and other.macs_per_step is not None:
            assert torch.equal(one.macs_per_step, other.macs_per_step)


def test_equal_slices_are_the_image_at_every_step() -> None:
    snn, image = mst.convert(model()), slices(3, 1)
    static = mst.simulate(snn, image[:, 0], 8)
    for number in (1, 4, 8):
        shown = mst.simulate(snn, image.expand(-1, number, -1, -1, -1), 8, in_slices=True)
        assert shown.spike_counts == static.spike_counts
        assert torch.equal(shown.logits, static.logits)


@pytest.mark.parametrize("number", [1, 3, 7, 10])
def test_slices_in_chunks_equal_step_by_step(number: int) -> None:
    snn, images = mst.convert(model()), slices(4, number)
    by_step = mst.simulate(snn, images, 10, in_slices=True, steps_per_chunk=1)
    for steps_per_chunk in (2, 10, None):
        assert_same(by_step, mst.simulate(snn, images, 10, in_slices=True, steps_per_chunk=steps_per_chunk))


def test_step_t_sees_slice_t_times_k_over_t() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site = QCFS(num_levels=1, threshold=1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.site(x).flatten(1)

    images = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1, 1)  # three slices over seven steps: 3, 2 and 2 steps
    result = mst.simulate(mst.convert(Sum()), images, 7, in_slices=True, keep_step_logits=True)
    assert result.step_logits is not None
    assert result.step_logits[:, 0, 0].tolist() == [1, 1, 1, 0, 0, 1, 1]


def test_state_is_carried_from_slice_to_slice() -> None:
    """A membrane keeps its charge between slices: 0.3 + 0.3 is above half a threshold, each alone is below."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site = QCFS(num_levels=1, threshold=1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.site(x).flatten(1)

    images = torch.tensor([0.3, 0.3, 0.0]).view(1, 3, 1, 1, 1)
    result = mst.simulate(mst.convert(One()), images, 3, in_slices=True, keep_step_logits=True)
    assert result.step_logits is not None
    assert result.step_logits[:, 0, 0].tolist() == [0, 1, 0]


def test_batches_and_shares_change_nothing() -> None:
    snn, images = mst.convert(model()), slices(5, 6)
    labels = torch.tensor([0, 1, 2, 0, 1])
    whole = mst.simulate(snn, (images, labels), 6, in_slices=True)
    split = mst.simulate(snn, [(images[:2], labels[:2]), (images[2:], labels[2:])], 6, in_slices=True)
    assert_same(whole, split)
    data = torch.utils.data.TensorDataset(images, labels)
    assert_same(whole, mst.simulate(snn, data, 6, batch_size=2, in_slices=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [torch.zeros(2, 9, 2, 8, 8), torch.zeros(2, 8), torch.zeros(2, 2, 8, 8)])
def test_more_slices_than_steps_or_no_time_axis_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"images in slices are \[B, K, C, height, width\] with K from 1 to the 8 time steps"
    ):
        mst.simulate(mst.convert(model()), images, 8, in_slices=True)


class Small(nn.Module):
    """A strided, padded convolution in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.site = QCFS(num_levels=4)
        self.head = nn.Linear(3 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.site(self.conv(x)).flatten(1))
        return y


def test_macs_of_slices_are_values_times_the_outputs_they_reach() -> None:
    network, images = Small().double().eval(), slices(3, 5)
    result = mst.simulate(mst.convert(network), images, 5, in_slices=True)
    count = next(c for c in result.operations if c.operation.name == "conv")
    assert count.macs_per_step is not None
    windows = F.unfold((images.flatten(0, 1) != 0).double(), 3, stride=2, padding=1)  # the input of each output
    expected = windows.sum(dim=(1, 2)).view(3, 5).sum(dim=0) * 3
    assert count.macs_per_step.tolist() == expected.tolist()
    static = mst.simulate(mst.convert(network), images[:, 0], 5)
    assert next(c for c in static.operations if c.operation.name == "conv").macs_per_step is None


def test_energy_of_slices_sums_and_is_less_than_dense() -> None:
    network, images = Small().double().eval(), slices(3, 5)
    estimate = estimate_energy(mst.simulate(mst.convert(network), images, 5, in_slices=True))
    dense = estimate_energy(mst.simulate(mst.convert(network), images[:, 0], 5))
    assert sum(row.snn.energy_pj for row in estimate.operations) == pytest.approx(estimate.snn.energy_pj)
    assert estimate.snn_energy_pj_per_step[-1] == pytest.approx(estimate.snn.energy_pj)
    rows = {row.name: row for row in estimate.operations}
    assert rows["conv"].by_events
    assert not rows["head"].by_events
    dense_rows = {row.name: row for row in dense.operations}
    assert 0 < rows["conv"].snn.num_macs < 0.35 * dense_rows["conv"].snn.num_macs
    assert rows["conv"].ann == dense_rows["conv"].ann


def test_function_before_the_first_neuron_is_refused_with_slices_only() -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.site = QCFS(num_levels=4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.site(self.conv(torch.sigmoid(x))).mean(dim=(2, 3))

    snn = mst.convert(Squared().double().eval())
    mst.simulate(snn, slices(2, 1)[:, 0], 4)
    for record in (True, False):
        with pytest.raises(mst.ConversionError, match="sigmoid"):
            mst.simulate(snn, slices(2, 4), 4, in_slices=True, record_operations=record)


def test_max_pool_function_before_the_first_neuron_is_refused_with_slices() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)
            self.site = QCFS(num_levels=4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.site(self.conv(F.max_pool2d(x, 2))).mean(dim=(2, 3))

    snn = mst.convert(Pooled().double().eval())
    mst.simulate(snn, slices(2, 1)[:, 0], 4)
    with pytest.raises(mst.ConversionError, match=r"max-pool that is a function, .*make it an nn.MaxPool2d"):
        mst.simulate(snn, slices(2, 4), 4, in_slices=True)


def test_max_pool_function_of_spikes_passes_as_with_still_images() -> None:
    class Pooled(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = F.max_pool2d(self.site(self.conv(x)), 2).flatten(1)
            return y

    snn = mst.convert(Pooled().double().eval(), example=slices(1, 1)[:, 0])
    assert len(snn.notes) == 1
    assert mst.simulate(snn, slices(2, 4), 4, in_slices=True).logits.shape == (2, 12)


def test_convolution_that_pads_by_itself_is_billed_as_dense() -> None:
    from timm.layers import Conv2dSame

    network = Small().double().eval()
    network.conv = Conv2dSame(2, 3, 3, stride=2).double()
    result = mst.simulate(mst.convert(network), slices(2, 4), 4, in_slices=True)
    count = next(c for c in result.operations if c.operation.name == "conv")
    assert count.macs_per_step is None


def test_slices_carry_the_mean_to_the_first_site() -> None:
    """Charge is conserved: what the first site has sent and still holds is the sum of its input from all slices."""
    network = Small().double().eval()
    images = slices(2, 400)
    snn = mst.convert(network)
    result = mst.simulate(snn, images, 400, in_slices=True)
    threshold = float(network.site.threshold.detach())
    with torch.no_grad():
        carried = network.conv(images.mean(dim=1)).clamp(0, threshold)
    assert result.spike_counts["site"] * threshold / 400 == pytest.approx(float(carried.sum()), rel=0.05)
