"""Weights of few bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mst
from exported_networks import IMAGES, simple
from mst.interchange import GraphNetwork, integer_weights, quantize_weights, round_weights, run_steps, trace_graph


def test_integer_weights_are_symmetric_with_one_scale_per_channel() -> None:
    weight = torch.tensor([[1.27, -0.637, 0.004], [0.0, 0.0, 0.0], [-12.7, 0.04, 3.0]], dtype=torch.float64)
    whole, scale = integer_weights(weight, 8)
    assert whole.tolist() == [[127, -64, 0], [0, 0, 0], [-127, 0, 30]]
    torch.testing.assert_close(scale, torch.tensor([0.01, 1.0, 0.1], dtype=torch.float64))


def test_quantize_weights_leaves_multiples_of_the_scale_and_the_thresholds() -> None:
    graph = trace_graph(simple())
    rounded = quantize_weights(graph, 4)
    for before, after in zip(graph.maps, rounded.maps, strict=True):
        _, scale = integer_weights(before.weight, 4)
        whole = after.weight.flatten(1) / scale[:, None]
        torch.testing.assert_close(whole, whole.round())
        assert int(whole.abs().max()) == 7
        assert bool(((after.weight - before.weight).flatten(1).abs() <= scale[:, None] * 0.5001).all())
        if before.bias is not None and after.bias is not None:
            torch.testing.assert_close(after.bias / scale, (before.bias / scale).round())
    assert rounded.weight_bits == 4
    assert [each.threshold for each in rounded.neurons] == [each.threshold for each in graph.neurons]
    runs = [run_steps(GraphNetwork(each).steps, [(IMAGES, torch.zeros(5))], 8) for each in (graph, rounded)]
    assert runs[0].spikes_per_image != runs[1].spikes_per_image


def test_round_weights_leaves_at_most_as_many_values_in_a_channel_as_there_are_whole_numbers() -> None:
    model = simple()
    before = [each.weight.detach().clone() for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert round_weights(model, 3) is model
    after = [each.weight.detach() for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert before
    for old, new in zip(before, after, strict=True):
        assert max(len(row.unique()) for row in new.flatten(1)) <= 7
        torch.testing.assert_close(new.flatten(1).abs().amax(dim=1), old.flatten(1).abs().amax(dim=1))


@pytest.mark.parametrize(("bits", "message"), [(1, "at least 2, got 1"), (17, "at most 16, got 17"), (8.5, "whole")])
def test_bad_bits_are_refused(bits: int, message: str) -> None:
    with pytest.raises(mst.InputError, match=message):
        quantize_weights(trace_graph(simple()), bits)
