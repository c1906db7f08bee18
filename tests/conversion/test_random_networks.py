"""Properties that hold for every network, tried on random ones."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mst
from mst.neurons import find_sites
from mst.quantization.calibration import acting_as_relu
from random_networks import Network, networks

pytestmark = pytest.mark.slow

LEVELS = 4
EXAMPLES = int(os.environ.get("MST_EXAMPLES", "12"))

tried = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 12,
    print_blob=True,
)  # fmt: skip


@tried
@given(networks())
def test_random_network_is_the_same_before_and_after(case: tuple[Network, Tensor]) -> None:
    model, x = case
    quantized = mst.quantize(model, LEVELS, x).eval()
    caps = quantized.network_spec.caps  # type: ignore[union-attr]
    with torch.no_grad():
        with acting_as_relu(quantized, caps):  # type: ignore[arg-type]
            torch.testing.assert_close(quantized(x), model(x), rtol=1e-9, atol=1e-9)
        expected = quantized(x)
    snn = mst.convert(quantized, "lossless", burst=LEVELS, schedule="plain")
    assert snn.longest_settling is not None
    result = mst.simulate(snn, x, snn.longest_settling, seed=1)
    assert result.num_settled == len(x)
    torch.testing.assert_close(result.logits, expected, rtol=1e-9, atol=1e-9)
    assert set(result.sites) == set(find_sites(quantized))


@settings(tried, max_examples=max(2, EXAMPLES // 6))
@given(networks(products=True), st.booleans(), st.booleans())
def test_random_network_with_sites_at_products_is_the_same(
    case: tuple[Network, Tensor], image_site: bool, per_channel: bool
) -> None:
    model, x = case
    quantized = mst.quantize(
        model, LEVELS, x, placement="products", image_site=image_site, per_channel=per_channel
    ).eval()
    with torch.no_grad():
        with acting_as_relu(quantized, {}):
            torch.testing.assert_close(quantized(x), model(x), rtol=1e-9, atol=1e-9)
        expected = quantized(x)
    snn = mst.convert(quantized, "lossless", burst=LEVELS, schedule="plain")
    assert snn.longest_settling is not None
    result = mst.simulate(snn, x, snn.longest_settling)
    assert result.num_settled == len(x)
    torch.testing.assert_close(result.logits, expected, rtol=1e-9, atol=1e-9)
    reads_image = {"stem.0"} if not image_site else set()
    kinds = ("linear", "convolution", "product")
    analog = {
        each.operation.name
        for each in result.operations
        if each.operation.kind in kinds and int(each.macs_per_step.sum())  # type: ignore[union-attr]
    }
    assert analog <= reads_image
    assert result.uncounted == ()


@tried
@given(networks())
def test_random_network_counts_what_its_spikes_reach(case: tuple[Network, Tensor]) -> None:
    model, x = case
    quantized = mst.quantize(model, LEVELS, x).eval()
    snn = mst.convert(quantized, "rate")
    expected: Counter[tuple[str, int]] = Counter()
    calls: Counter[str] = Counter()

    def count(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[path] += 1
            expected[path, calls[path]] += reached(module, args[0])

        return hook

    result = mst.simulate(snn, x, 3, steps_per_chunk=1)
    maps = {path: m for path, m in snn.network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    handles = [module.register_forward_pre_hook(count(path)) for path, module in maps.items()]
    handles.append(snn.network.register_forward_pre_hook(lambda *_: calls.clear()))
    mst.simulate(snn, x, 3, steps_per_chunk=1, record_operations=False)
    for handle in handles:
        handle.remove()
    # Behind an average pool a value stands for several spikes; tests/operations/test_streams.py counts those.
    averages = any(isinstance(module, nn.AvgPool2d) for module in model.modules())
    driven = [
        each
        for each in result.operations
        if each.operation.pooled == 1 and 1 <= len(each.operation.sources) <= (1 if averages else 99)
    ]
    assert driven or not model.blocks
    for each in driven:
        operation = each.operation
        assert int(each.acs_per_step.sum()) == expected[operation.module, operation.call_number], operation


def reached(module: nn.Module, x: Tensor) -> int:
    """Connections from the values of x that are not 0, one by one."""
    fired = (x != 0).double()
    if isinstance(module, nn.Linear):
        return int(F.linear(fired, torch.ones_like(module.weight)).sum())
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros":
        fired = F.pad(fired, module._reversed_padding_repeated_twice, mode=module.padding_mode)
    padding = module.padding if module.padding_mode == "zeros" else 0
    ones = torch.ones_like(module.weight)
    return int(F.conv2d(fired, ones, None, module.stride, padding, module.dilation, module.groups).sum())
