"""Self-check of the numbers: small networks whose results are known exactly, in a few seconds.

All weights, images and thresholds are short binary fractions, so that every sum is exact in float32 and no order of
summation, BLAS or device can change a bit of the results.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mst.conversion import convert
from mst.neurons import QCFS, functional
from mst.neurons.chunks import SignedRule
from mst.neurons.kernels import keep_mask, kernels_at_once, numba_version, rate_chunk, signed_chunk, without_kernels
from mst.simulation import SimulationResult, simulate
from mst.text import one_line

INSTALLATION = "reinstall mst and torch in a new environment (make clean; make test); if it stays, report it as a bug"
DEVICE = "compute on the CPU (--device cpu) until torch and its driver are renewed; if it stays, report it as a bug"
COMPILER = "set NUMBA_DISABLE_JIT=1, which leaves neurons to torch; then install another numba"

GOLDEN_LOGITS = ((-19, 24, -42), (-21, 23, -35))
"""Logits of the ANN, in units of 1/128."""

GOLDEN_RUNS = {
    "rate": (8, ((-160, 188, -308), (-196, 204, -252)), (69, 4), (0, 428)),
    "lossless": (32, ((-152, 192, -336), (-168, 184, -280)), (33, 3), (1924, 217)),
}
"""Coding -> steps, logits in units of 1/1024, spikes of both sites, (MACs, ACs) of all operations, for both images."""

GOLDEN_MASK = (0xDE3AB5FE, 0xAB8E39F2)
"""Draws of a spike mask for two images, as the bits of whole numbers, the first draw the highest."""


@dataclass(frozen=True)
class NumberCheck:
    """One check of the numbers."""

    name: str
    """What is compared with what."""

    passed: bool | None
    """True if they are equal; None if it does not apply here."""

    finding: str
    """What was found, for people."""

    remedy: str = ""
    """What to do if it has failed."""


def check_numbers(devices: tuple[str, ...] = ("cpu",)) -> tuple[NumberCheck, ...]:
    """Compare neurons, masks, conversion, simulation and counting with numbers that are known exactly.

    Args:
        devices: devices of torch on which the golden network is computed.

    Returns:
        A check for each equality. A check that raises an error counts as failed, with the error as its finding.
    """
    checks: list[tuple[str, Callable[[], str], str]] = [
        (f"golden network on {device}", partial(_golden, device), INSTALLATION if device == "cpu" else DEVICE)
        for device in devices
    ]
    checks += [
        ("spike masks = golden draws", _masks, INSTALLATION),
        ("lossless coding, settled = quantised ANN", _lossless_is_ann, INSTALLATION),
        ("rate coding, mean of T = L steps = QCFS", _rate_mean_is_qcfs, INSTALLATION),
    ]
    found = tuple(_outcome(*check) for check in checks)
    name = "neurons, compiled = torch"
    if numba_version() is None:
        return (*found, NumberCheck(name, None, "numba is not in use: neurons are computed by torch"))
    return (*found, _outcome(name, _compiled_is_torch, COMPILER))


class _UnequalError(Exception):
    """Two results that should be equal are not."""


def _outcome(name: str, check: Callable[[], str], remedy: str) -> NumberCheck:
    try:
        return NumberCheck(name, True, check())
    except _UnequalError as error:
        return NumberCheck(name, False, str(error), remedy)
    except Exception as error:  # whatever is broken, the other checks are still wanted
        return NumberCheck(name, False, f"{type(error).__name__}: {one_line(error)}", remedy)


def _require_equal(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise _UnequalError(f"{what}: {found} instead of {expected}")


def golden_network() -> tuple[nn.Module, Tensor]:
    """A convolution, a max-pool and two linear maps with sites of 4 levels; two images [2, 1, 6, 6]."""
    network = nn.Sequential(
        _filled(nn.Conv2d(1, 4, 3, padding=1)), QCFS(4, 1.0), nn.MaxPool2d(2), nn.Flatten(),
        _filled(nn.Linear(36, 8)), QCFS(4, 1.0), _filled(nn.Linear(8, 3)),
    )  # fmt: skip
    images = (torch.arange(72) * 29 % 17 / 16).view(2, 1, 6, 6)
    return network.eval().requires_grad_(False), images


def _filled(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in layer.parameters():
            n = torch.arange(parameter.numel())
            parameter.copy_(((37 * n * n + 11 * n) % 17 - 7).view_as(parameter) / 32)
    return layer


def _golden(device: str) -> str:
    """ANN, both SNNs, their spikes and operations."""
    network, images = golden_network()
    network, images = network.to(device), images.to(device)
    _require_equal("logits of the ANN, times 128", _whole(network(images), 128), GOLDEN_LOGITS)
    for coding, (steps, logits, spikes, operations) in GOLDEN_RUNS.items():
        result = simulate(convert(network, coding, images), images, steps)
        _require_equal(f"logits under {coding} coding, times 1024", _whole(result.logits, 1024), logits)
        _require_equal(f"spikes under {coding} coding", tuple(result.spike_counts.values()), spikes)
        counted = _operations(result)
        _require_equal(f"MACs and ACs under {coding} coding", counted, operations)
    return "logits, spikes and operations of both codings are as known"


def _operations(result: SimulationResult) -> tuple[int, int]:
    """(MACs, ACs) of all maps, steps and images."""
    macs = [each.macs_per_step for each in result.operations if each.macs_per_step is not None]
    return sum(int(each.sum()) for each in macs), sum(int(each.acs_per_step.sum()) for each in result.operations)


def _whole(x: Tensor, unit: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in (x.double() * unit).tolist())


def _masks() -> str:
    keep = functional.keep_mask(torch.arange(2), 32, 0.5, seed=3, site="golden", step=1)
    bits = tuple(int("".join(str(int(bit)) for bit in row), 2) for row in keep.tolist())
    _require_equal("draws", bits, GOLDEN_MASK)
    return "64 draws are as known"


def _lossless_is_ann() -> str:
    network, images = golden_network()
    for schedule in ("plain", "staggered", "weighted", "free"):
        result = simulate(convert(network, "lossless", images, schedule=schedule, burst=2), images, 64)
        _require_equal(f"settled images, schedule {schedule}", result.num_settled, len(images))
        _require_equal(f"logits, schedule {schedule}", result.logits.tolist(), network(images).tolist())
    return "logits are equal bit for bit under the four schedules"


def _rate_mean_is_qcfs() -> str:
    network, inputs = nn.Sequential(QCFS(8, 2.0)), (torch.arange(-64, 192).view(1, -1) / 64).float()
    result = simulate(convert(network, "rate", inputs), inputs, 8, record_operations=False)
    _require_equal("inputs with another mean", int((result.logits != network(inputs)).sum()), 0)
    return f"equal for {inputs.numel()} inputs, ties among them"


def _compiled_is_torch() -> str:
    """A chunk of each kind of neuron and a mask."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-96, 160, (4, 6, 200), generator=generator) / 64
    threshold = torch.tensor(1.5)
    rule = SignedRule(threshold, 16, 0, None, 2, (8, 4, 2, 1), False)

    def results(how: AbstractContextManager[None]) -> dict[str, list[Tensor | None]]:
        with how:
            rate = rate_chunk(x, v := torch.full((6, 200), 0.75), threshold, 6)
            signed = signed_chunk(x, torch.zeros(6, 200), rule, 6)
            mask = keep_mask(torch.arange(8), 1000, 0.3, seed=1, site="golden", step=2)
        return {
            "rate-coded neurons": [rate.output, rate.fired, rate.sent, v],
            "signed neurons": [signed.output, signed.fired, signed.sent, signed.count],
            "masks": [mask],
        }

    compiled, plain = results(kernels_at_once()), results(without_kernels())
    for what, tensors in compiled.items():
        same = all(
            a is not None and b is not None and torch.equal(a, b) for a, b in zip(tensors, plain[what], strict=True)
        )
        _require_equal(f"{what} are equal bit for bit", same, True)
    return f"equal bit for bit, numba {numba_version()}"
