"""Max-pooling over time: the running sum of its output is exactly the max-pool of the running sums of its input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.errors import InputError

from .functional import sum_dtype
from .run_state import require_run

MAX_POOLS = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip


INPUT_SUM = "input_sum"
"""Slot of the running sum of a pool's input."""


class SpikingMaxPool(nn.Module):
    """A max-pool over time-varying input: each step sends the growth of the largest running sum of a window.

    S(t) = S(t-1) + x(t) ;  y(t) = pool(S(t)) - pool(S(t-1)) ;  so  Σ y = pool(Σ x)  at every t

    A running sum of spikes grows by one spike at a time, and so does the largest sum of a window: spikes in, spikes
    out. (Pooling each step by itself passes a spike on whenever any input spikes, and so sends too many.) A chip needs
    a counter for each input. The sums live in the run (`RunState`), in float32 or wider.

    Args:
        pool: the pool of one step; it returns values only.
        site: module path in the network.

    Raises:
        InputError: the pool also returns indices.
    """

    def __init__(self, pool: nn.Module, site: str) -> None:
        super().__init__()
        if getattr(pool, "return_indices", False):
            raise InputError(
                "a max-pool that returns indices has no meaning over time steps",
                where=site,
                remedy="set return_indices=False",
            )
        self.pool = pool
        self.site = site

    def forward(self, x: Tensor) -> Tensor:
        """x: [T*B*k, ...], time outermost -> pooled, [T*B*k, ...].

        Raises:
            NotRunningError: called outside a run.
            InputError: the shape does not fit the run (see `RunState.unfold`).
        """
        run = require_run(self.site, "pools over time")
        use = run.name_of_use(self.site)  # a pool may be used several times in a pass; each use has its sums
        x_TB = run.unfold(x, use)
        before = run.state.get((use, INPUT_SUM))
        wide = sum_dtype(x.dtype)
        total = torch.zeros_like(x_TB[0], dtype=wide) if before is None else before.clone()
        sums_TB = torch.empty_like(x_TB, dtype=wide)
        for x_t, sums_t in zip(x_TB, sums_TB, strict=True):
            # One step after another, so that also in float32 the sum of equal spikes depends on their number alone and
            # the largest of a window grows by whole spikes.
            sums_t.copy_(total.add_(x_t))
        run.state[use, INPUT_SUM] = total
        pooled: Tensor = self.pool(sums_TB.flatten(0, 1))
        pooled_TB = pooled.view(x_TB.shape[0], -1, *pooled.shape[1:])
        last = torch.zeros_like(pooled_TB[0]) if before is None else self.pool(before)
        return torch.diff(pooled_TB, dim=0, prepend=last[None]).flatten(0, 1).to(x.dtype)

    def extra_repr(self) -> str:
        return f"site={self.site!r}"
