"""QCFS as a module: what stands in the ANN wherever the SNN will have a neuron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .functional import check_masking_ratio, drop_spikes, qcfs
from .run_state import current_run


class QCFS(nn.Module):
    """A site: the quantised activation, its trainable threshold and, if asked, random spike masking.

    y = m · λ · clip(floor(x·L/λ + 1/2) / L, 0, 1),   m ~ Bernoulli(1 - p), fresh at every call

    Masks are drawn in training *and* in evaluation. Outside a run they come from torch's global generator,
    as dropout's do; inside one (`mst.evaluate`) from the run's seed, so that they can be repeated.

    Args:
        num_levels: L >= 1.
        threshold: initial λ > 0, in units of the input: a number, or a tensor that broadcasts to the input (one value
            per channel: [C, 1, 1] before [B, C, height, width], [C] before [B, ..., C]).
        masking_ratio: p, fraction dropped, in [0, 1).
        role: what the site is in its network ("query", "key", ...), for choosing sites by kind.

    Raises:
        ValueError: L below 1, λ not above 0, or p outside [0, 1).

    Source: Masked Spiking Transformer (ICCV 2023).
    """

    def __init__(
        self, num_levels: int = 16, threshold: float | Tensor = 2.0, masking_ratio: float = 0.0, role: str = ""
    ) -> None:
        super().__init__()
        if not isinstance(num_levels, int) or num_levels < 1:
            raise ValueError(f"num_levels must be a whole number, at least 1, got {num_levels}")
        is_positive = bool((threshold > 0).all()) if isinstance(threshold, Tensor) else threshold > 0
        if not is_positive:
            raise ValueError(f"threshold must be above 0, got {threshold}")
        self.num_levels = num_levels
        self.masking_ratio = check_masking_ratio(masking_ratio)
        self.role = role
        self.site = ""
        initial = threshold.detach().clone() if isinstance(threshold, Tensor) else torch.full((1,), float(threshold))
        self.threshold = nn.Parameter(initial)

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape [B, ...] -> same shape, values in {0, λ/L, ..., λ}."""
        y = qcfs(x, self.threshold, self.num_levels)
        if self.masking_ratio == 0.0:
            return y
        run = current_run()
        if run is None:
            keep = torch.empty_like(y, dtype=torch.bool).bernoulli_(1.0 - self.masking_ratio)
        else:
            keep = run.keep_mask(y, self.masking_ratio, run.name_of(self), run.step)
        return drop_spikes(y, keep)

    def extra_repr(self) -> str:
        return f"num_levels={self.num_levels}, masking_ratio={self.masking_ratio}, role={self.role!r}"


def name_sites(model: nn.Module) -> dict[str, QCFS]:
    """Tell every QCFS of `model` its module path, which names its site; return them by name."""
    sites = {name: module for name, module in model.named_modules() if isinstance(module, QCFS)}
    for name, module in sites.items():
        module.site = name
    return sites
