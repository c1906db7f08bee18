"""Values that reach a site -> the threshold, or the levels, nearest to them in least squares."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mst.errors import InputError
from mst.neurons import MIN_THRESHOLD, qcfs

SAMPLE = 2**18
"""Values of a site, drawn at random, at which its threshold is fitted."""

ThresholdFrom = Literal["least_squares", "max", "percentile"]

DEFAULT_PERCENTILE = 99.9
"""Share of the positive values, in per cent, that a threshold covers where it is set by percentile."""


def fit_threshold(x: Tensor, num_levels: int) -> Tensor:
    """The thresholds with which QCFS is nearest to ReLU on given values, in least squares.

        λ = arg min  Σ (qcfs(x; λ, L) - max(x, 0))²

    Args:
        x: inputs of the site, [n] for one threshold or [n, C] for one per channel.
        num_levels: L.

    Returns:
        λ in units of x, [1] or [C], found by search over fractions of the largest value in steps of 0.2 %; NaN where no
        value is above 0.

    Raises:
        InputError: x has another number of axes.
    """
    if x.dim() not in (1, 2):
        raise InputError(f"values must be [n] or [n, C], got {tuple(x.shape)}")
    values = _draw(x.detach(), 1 if x.dim() == 1 else x.shape[1]).double().cpu()
    values = values.reshape(len(values), -1).clamp_min(0.0)
    largest = values.amax(dim=0)
    acting = largest.clamp_min(MIN_THRESHOLD)

    def error(fraction: Tensor) -> Tensor:
        return (qcfs(values, fraction * acting, num_levels) - values).square().sum(dim=0)

    def best(fractions: Tensor) -> Tensor:  # [K, C] -> [C]
        errors = torch.stack([error(fraction) for fraction in fractions])
        return fractions.gather(0, errors.argmin(dim=0, keepdim=True))[0]

    grid = torch.linspace(0.02, 1.0, 50, dtype=values.dtype)[:, None].expand(-1, len(largest))
    around = torch.linspace(-0.018, 0.018, 19, dtype=values.dtype)[:, None]
    fraction = best(best(grid) + around)
    return torch.where(largest > 0, (fraction * acting).clamp_min(MIN_THRESHOLD), torch.nan)


def fit_levels(x: Tensor, num_levels: int, max_powers: int | None = None) -> tuple[Tensor, int, int]:
    """The levels, equally far apart and 0 among them, that are nearest to given values in least squares.

    q, n = arg min  Σ (q · clip(floor(x/q + 1/2), n, n + L) - x)²

    Args:
        x: values at an operand of a product, [n] for one quantum or [n, C] for one per channel.
        num_levels: L, levels above the lowest.
        max_powers: see `qcfs`.

    Returns:
        Thresholds λ = q·n_max in units of x, [1] or [C], NaN where all values are 0; n_max = n + L, at least 1; n <= 0.
        Every channel has the same n.
    """
    rows = x.detach().reshape(len(x), -1)
    values = rows[: max(OPERAND_ROWS, OPERAND_SAMPLE // rows.shape[1])].double().cpu()
    low, high = values.amin(dim=0).clamp_max(0.0), values.amax(dim=0).clamp_min(0.0)
    best: tuple[float, Tensor, int] | None = None
    for lowest in _lowest_levels(values, low, high, num_levels):
        highest = num_levels + lowest
        largest = torch.maximum(high / highest, low / lowest if lowest else torch.zeros_like(low))
        acting = largest.clamp_min(MIN_THRESHOLD / highest)

        def error(fraction: Tensor, lowest: int = lowest, highest: int = highest, acting: Tensor = acting) -> Tensor:
            threshold = fraction * acting * highest
            return (qcfs(values, threshold, highest, lowest, max_powers) - values).square().sum(dim=0)

        fractions = torch.linspace(0.1, 1.0, 31, dtype=values.dtype)[:, None].expand(-1, len(low))
        errors = torch.stack([error(fraction) for fraction in fractions])
        fewest, at = errors.min(dim=0)
        threshold = torch.where(largest > 0, fractions.gather(0, at[None])[0] * acting * highest, torch.nan)
        if best is None or float(fewest.sum()) < best[0]:
            best = float(fewest.sum()), threshold, lowest
    assert best is not None
    return best[1], num_levels + best[2], best[2]


def _lowest_levels(values: Tensor, low: Tensor, high: Tensor, num_levels: int) -> list[int]:
    """Lowest levels worth trying: none below 0, as many as above, and in proportion to what the values reach."""
    if float(low.min()) == 0:
        return [0]
    inner = values.quantile(torch.tensor([0.001, 0.999], dtype=values.dtype), dim=0)
    spans = [(-low, high), (-inner[0].clamp_max(0.0), inner[1].clamp_min(0.0))]
    shares = [float((below / (below + above).clamp_min(1e-30)).median()) for below, above in spans]
    tried = {-min(num_levels - 1, round(num_levels * share)) for share in [*shares, 0.5]}
    return sorted(tried | {min(0, level + 1) for level in tried})


OPERAND_SAMPLE = 2**16
"""Values of an operand at which its levels are fitted."""

OPERAND_ROWS = 512
"""Values of each of its channels, at least: the scale of a channel needs them however many channels there are."""

LEAST_VALUES = 128
"""Values of each channel of an operand that a threshold for each channel needs: the largest of fewer are often exceeded
on other images, and what exceeds them is clipped."""


def _draw(rows: Tensor, num_channels: int) -> Tensor:
    """At most SAMPLE values in whole rows, at random: a fixed stride would take the same channels of each token."""
    wanted = max(1, SAMPLE // num_channels)
    if len(rows) <= wanted:
        return rows
    drawn = torch.randint(len(rows), (wanted,), generator=torch.Generator().manual_seed(0))
    return rows[drawn.to(rows.device)]


class Sample:
    """Inputs of one site: the largest values, and a uniform random sample."""

    def __init__(self, per_channel: bool, seed: int, least_rows: int = 1) -> None:
        self.per_channel, self.least_rows = per_channel, least_rows
        self.generator = torch.Generator().manual_seed(seed)
        self.largest: Tensor | None = None
        self.shape: tuple[int, ...] = (1,)
        self.rows = torch.empty(0)
        self.lots = torch.empty(0)

    def add(self, x: Tensor, channel_axis: int) -> None:
        """x: the site's input from one batch, [B, ...]."""
        if self.per_channel:
            axis = channel_axis % x.dim()
            self.shape = (x.shape[axis], *[1] * (x.dim() - 1 - axis))
            rows = x.movedim(axis, -1).reshape(-1, x.shape[axis])
        else:
            rows = x.reshape(-1, 1)
        largest = rows.abs().amax(dim=0)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)
        # Every row draws a lot, and the lowest lots stay: a uniform sample however the images are batched.
        wanted = max(self.least_rows, SAMPLE // rows.shape[1])
        lots = torch.rand(len(rows), generator=self.generator).to(rows.device)
        if len(self.rows):
            rows, lots = torch.cat([self.rows, rows]), torch.cat([self.lots, lots])
        if len(rows) > wanted:
            lots, kept = lots.topk(wanted, largest=False)
            rows = rows[kept]
        self.rows, self.lots = rows, lots

    def threshold(self, num_levels: int, threshold_from: ThresholdFrom, percentile: float) -> Tensor:
        """[1] or [C]; NaN where no value was above 0."""
        assert self.largest is not None
        if threshold_from == "least_squares":
            return fit_threshold(self.rows if self.per_channel else self.rows[:, 0], num_levels)
        value = self.largest.double().cpu()
        if threshold_from == "percentile":
            rows = self.rows.double().cpu()
            positive = torch.where(rows > 0, rows, torch.nan)
            value = positive.nanquantile(percentile / 100, dim=0) if len(rows) else value
        return torch.where(self.largest.cpu() > 0, value.clamp_min(MIN_THRESHOLD), torch.nan)
