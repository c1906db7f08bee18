"""Traces agree with the run that they are of: every spike, every score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.models import MaskedSpikingTransformer
from mst.neurons import find_sites
from mst.simulation import ImageTrace, SimulationOptions, trace_images

STEPS = 6


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def all_traces(snn: mst.SpikingNetwork, images: Tensor, sites: list[str], **changes: int) -> tuple[ImageTrace, ...]:
    options = SimulationOptions(STEPS, **changes)
    return trace_images(snn, list(enumerate(images)), options, sites, num_neurons=10**6)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_traces_of_all_neurons_sum_to_the_spikes_of_the_run(
    coding: str, tiny_model: MaskedSpikingTransformer, images: Tensor
) -> None:
    mst.mask_spikes(tiny_model, 0.5)
    snn = mst.convert(tiny_model, coding)
    result = mst.simulate(snn, images, STEPS, seed=3, keep_step_logits=True)
    sites = list(find_sites(tiny_model))
    traces = all_traces(snn, images, sites, seed=3)
    assert sum(site.dropped_per_step.sum() for site in result.sites.values()) > 0
    for name in sites:
        found = torch.zeros(STEPS, dtype=torch.int64)
        for trace in traces:
            site = trace.sites[name]
            assert site.num_neurons == len(site.neurons) == result.sites[name].num_neurons
            found[: len(site.sent)] += (site.sent != 0).sum(dim=1)
        assert torch.equal(found, result.sites[name].sent_per_step), name
    for trace in traces:
        assert torch.allclose(trace.scores[-1], result.logits[trace.index].float(), atol=1e-5)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_trace_ends_at_the_answer_of_the_run(coding: str, tiny_model: MaskedSpikingTransformer, images: Tensor) -> None:
    snn = mst.convert(tiny_model, coding)
    result = mst.simulate(snn, images, STEPS)
    for trace in all_traces(snn, images, []):
        steps = (
            STEPS if result.settled_at is None or result.settled_at[trace.index] < 0 else result.settled_at[trace.index]
        )
        assert len(trace.scores) == steps
        assert trace.sites == {}


class OneSite(nn.Module):
    """The membrane potential of its only site can be computed by hand: its input is the image."""

    def __init__(self) -> None:
        super().__init__()
        self.site = mst.QCFS(4, threshold=2.0)
        self.head = nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.site(x))
        return y


def test_trace_of_rate_coding_shows_the_potential_in_thresholds() -> None:
    snn = mst.convert(OneSite())
    (trace,) = trace_images(snn, [(0, torch.tensor([0.8, 2.4, -0.2]))], SimulationOptions(5), ["site"])
    site = trace.sites["site"]
    # v(0) = 1/2, each step adds x/2 and takes 1 with a spike
    assert site.sent.tolist() == [[0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert site.potential is not None
    expected = [[0.9, 0.7, 0.4], [0.3, 0.9, 0.3], [0.7, 1.1, 0.2], [0.1, 1.3, 0.1], [0.5, 1.5, 0.0]]
    assert torch.allclose(site.potential, torch.tensor(expected), atol=1e-5)


def test_trace_of_lossless_coding_shows_the_potential_in_quanta() -> None:
    snn = mst.convert(OneSite(), "lossless", torch.ones(1, 3), schedule="plain")
    (trace,) = trace_images(snn, [(0, torch.tensor([0.8, 2.4, -0.2]))], SimulationOptions(9), ["site"])
    site = trace.sites["site"]
    # quanta of 1/2: x is 1.6, 4.8 and -0.4 quanta, so 2, 4 (clipped) and 0 are sent, one in a step
    assert site.sent.tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert site.potential is not None
    assert torch.allclose(site.potential[0], torch.tensor([1.1, 4.3, 0.1]), atol=1e-5)
    assert torch.allclose(site.potential[-1], torch.tensor([0.1, 1.3, 0.1]), atol=1e-5)


def test_trace_takes_evenly_spaced_neurons_up_to_the_limit() -> None:
    snn = mst.convert(OneSite())
    (trace,) = trace_images(snn, [(0, torch.ones(3))], SimulationOptions(2), ["site"], num_neurons=2)
    assert trace.sites["site"].neurons.tolist() == [0, 1]
    assert trace.sites["site"].sent.shape == (2, 2)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_trace_holds_the_maps_of_attention(coding: str, tiny_model: MaskedSpikingTransformer, images: Tensor) -> None:
    """What all neurons of the site have sent: its mean under rate coding, its sum where changes are sent."""
    snn = mst.convert(tiny_model, coding)
    sites = [name for name in find_sites(tiny_model) if name.endswith("attn.attn_if")]
    (trace,) = trace_images(snn, [(0, images[0])], SimulationOptions(24), sites, num_neurons=128)
    assert len(trace.attention) == 3
    assert any(found.any() for found in trace.attention.values())
    for name, found in trace.attention.items():
        site = find_sites(tiny_model)[name]
        sent = trace.sites[name].sent.mean(dim=0) if coding == "rate" else trace.sites[name].sent.sum(dim=0) / 4
        assert found.shape == ((4, 2, 4, 4) if name.startswith("layers.0") else (1, 2, 4, 4))
        assert torch.allclose(found.flatten(), sent * site.threshold.float(), atol=1e-5)


def test_trace_of_an_unknown_site_is_refused() -> None:
    with pytest.raises(InputError, match="the network has no site 'other'; it has site"):
        trace_images(mst.convert(OneSite()), [(0, torch.ones(3))], SimulationOptions(2), ["other"])


def test_trace_leaves_no_hook_behind() -> None:
    snn = mst.convert(OneSite())
    trace_images(snn, [(0, torch.ones(3))], SimulationOptions(2), ["site"])
    assert not any(module._forward_hooks for module in snn.network.modules())
