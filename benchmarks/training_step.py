"""Time a training step against the same network with QCFS and BatchNorm in plain operations, in one run.

The plain network has QCFS as six elementwise operations that autograd records, and BatchNorm1d between two transposes.
Their steps alternate, so that other load on the machine affects all alike. --compile adds ours as torch.compile makes
it, the form that `mst train --train.compile` runs; its compilation takes a minute or more and is not timed.

    python benchmarks/training_step.py [--model NAME] [--batch-size N] [--rounds N] [--threads N] [--compile]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

import mst
from mst.models import TokenBatchNorm


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


class PlainQCFS(nn.Module):
    """QCFS, written operation by operation."""

    def __init__(self, site: mst.QCFS) -> None:
        super().__init__()
        self.threshold, self.num_levels = site.threshold, site.num_levels

    def forward(self, x: Tensor) -> Tensor:
        u = x * self.num_levels / self.threshold + 0.5
        y: Tensor = self.threshold * torch.clamp(_Floor.apply(u) / self.num_levels, 0, 1)
        return y


class TransposingBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d of torch, which expects the channels on axis 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def plain_copy(model: nn.Module) -> nn.Module:
    """The same network with plain modules instead of ours."""
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        replacement: nn.Module | None = None
        if isinstance(module, mst.QCFS):
            replacement = PlainQCFS(module)
        elif isinstance(module, TokenBatchNorm):
            replacement = TransposingBatchNorm(module.num_features)
            replacement.load_state_dict(module.state_dict())
        if replacement is not None:
            parent, _, leaf = name.rpartition(".")
            setattr(plain.get_submodule(parent), leaf, replacement)
    return plain


Forward = Callable[[Tensor], Tensor]


def step_seconds(model: Forward, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """Time one forward pass, backward pass and update."""
    began = time.perf_counter()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - began


def main() -> None:
    """Time both networks and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mst_mini_patch2_window7_28", help="registered name of the network")
    parser.add_argument("--batch-size", type=int, default=128, help="images per step")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each network")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--compile", action="store_true", help="time a compiled step too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours = mst.create_model(options.model, num_classes=10)
    plain = plain_copy(ours)
    images = torch.rand(options.batch_size, ours.config.in_chans, *ours.config.image_shape)
    labels = torch.randint(0, 10, (options.batch_size,))
    with torch.no_grad():
        difference = (ours.eval()(images) - plain.eval()(images)).abs().max().item()
    sides: dict[str, tuple[Forward, torch.optim.Optimizer]] = {
        name: (model.train(), torch.optim.AdamW(model.parameters(), 1e-4))
        for name, model in (("plain", plain), ("ours", ours))
    }
    if options.compile:
        copied = copy.deepcopy(ours)
        sides["compiled"] = torch.compile(copied), torch.optim.AdamW(copied.parameters(), 1e-4)
    for forward, optimizer in sides.values():
        for _ in range(2):
            step_seconds(forward, optimizer, images, labels)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, (forward, optimizer) in sides.items():
            times[name].append(step_seconds(forward, optimizer, images, labels))
    print(f"{options.model}, batch {options.batch_size}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"largest difference of the logits: {difference:.1e}")
    for name, side in times.items():
        print(f"{name:>8}: median {1e3 * statistics.median(side):8.1f} ms per step, fastest {1e3 * min(side):8.1f} ms")
    for name in [*times][1:]:
        ratios = [slow / fast for slow, fast in zip(times["plain"], times[name], strict=True)]
        print(
            f"plain / {name}: median {statistics.median(ratios):.2f}, "
            f"from {min(ratios):.2f} to {max(ratios):.2f} over {options.rounds} rounds"
        )


if __name__ == "__main__":
    main()
