"""Every form of network in every mode of torch under both codings: as the reference, or refused, never otherwise."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import mst
from mst.neurons import find_sites
from mst.simulation import SimulationResult

pytestmark = pytest.mark.slow

LEVELS = 4
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(54, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.max_pool2d(F.relu(self.norm(self.conv(x)), inplace=True), 2).flatten(1))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.again, self.act, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return self.head(self.act(self.again(x) + x).mean((2, 3)))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="relu", batch_first=True)
        self.patch, self.encoder, self.head = nn.Conv2d(3, 8, 4, 4), nn.TransformerEncoder(layer, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


def modules() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.BatchNorm2d(6), nn.ReLU6(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 3),
    )  # fmt: skip


FORMS: dict[str, Callable[[], nn.Module]] = {
    "modules": modules,
    "functions": Functional,
    "shared activation": Shared,
    "fused layer": Encoder,
    "graph": lambda: fx.symbolic_trace(Functional()),
    "timm": lambda: mst.models.build(mst.models.foreign.architecture("resnet18_small", {"width": 2}, False)),
}


@contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


Change = Callable[[nn.Module], nn.Module]
MODES: dict[str, tuple[Change, Callable[[], AbstractContextManager[object]], torch.dtype]] = {
    "with gradients": (lambda net: net, torch.enable_grad, torch.float32),
    "without gradients": (lambda net: net, torch.no_grad, torch.float32),
    "inference mode": (lambda net: net, torch.inference_mode, torch.float32),
    "autocast": (lambda net: net, autocast, torch.bfloat16),
    "float64": (lambda net: net.double(), nullcontext, torch.float64),
    "bfloat16": (lambda net: net.bfloat16(), nullcontext, torch.bfloat16),
    "compiled": (lambda net: torch.compile(net, backend="eager"), nullcontext, torch.float32),  # type: ignore[dict-item, return-value]
    "in a wrapper": (nn.DataParallel, nullcontext, torch.float32),
}


@pytest.fixture(scope="module", params=FORMS)
def quantized(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(1)
    model = FORMS[request.param]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return mst.quantize(model.eval(), LEVELS, X).eval()


@pytest.fixture(scope="module")
def reference(quantized: nn.Module) -> SimulationResult:
    return mst.simulate(mst.convert(quantized, "rate", X), X, 16)


@pytest.mark.parametrize("mode", MODES)
def test_network_is_the_reference_in_every_mode(quantized: nn.Module, reference: SimulationResult, mode: str) -> None:
    change, entered, dtype = MODES[mode]
    with torch.no_grad():
        expected = quantized(X)
    changed = change(copy.deepcopy(quantized)).eval()
    # In bfloat16 values at the border between two levels may fall on either side.
    allowed = 0.1 if dtype == torch.bfloat16 else 1e-5
    with entered():
        logits = changed(X.to(torch.float64) if dtype == torch.float64 else X.to(next(changed.parameters()).dtype))
        assert distance(logits, expected) < allowed
        assert mst.evaluate(changed, (X, expected.argmax(1))).accuracy == 1.0
        lossless = mst.convert(changed, "lossless", X, burst=LEVELS, schedule="plain")
        settled = mst.simulate(lossless, X, lossless.longest_settling)
        rate = mst.simulate(mst.convert(changed, "rate", X), X, 16)
    assert settled.num_settled == len(X)
    assert distance(settled.logits, expected) < allowed
    sites = set(find_sites(quantized))
    assert set(settled.sites) == set(rate.sites) == sites
    if dtype == torch.float32:
        assert rate.spike_counts == reference.spike_counts
    assert distance(rate.logits, reference.logits) < allowed


def distance(logits: Tensor, expected: Tensor) -> float:
    """Norm of the difference, relative to that of what is expected."""
    return float((logits.detach().float() - expected).norm() / expected.norm())


def test_autocast_sums_over_time_in_float32() -> None:
    torch.manual_seed(0)
    quantized = mst.quantize(modules().eval(), LEVELS, X).eval()
    snn = mst.convert(quantized)
    with torch.autocast("cpu", torch.bfloat16):
        short, long = (mst.simulate(snn, X, steps) for steps in (64, 1024))
    expected = quantized(X).detach()
    assert (long.logits - expected).norm() <= (short.logits - expected).norm() + 0.02 * expected.norm()
