"""QCFS as a module: the activation of the ANN wherever the SNN will have a neuron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mst.errors import InputError
from mst.numbers import whole_number

from .functional import drop_spikes, qcfs
from .masks import Layout, SpikeMask, check_layout, make_mask
from .run_state import current_run
from .site import Site


class QCFS(Site):
    """A site: the quantised activation, its trainable threshold and, if asked, a spike mask.

    y = m · λ/L · clip(floor(x·L/λ + 1/2), n, L),   m the mask, 1 with probability 1 - p

    Masks act in training *and* in evaluation. Outside a run they come from torch's global generator, as dropout's do;
    inside one (`mst.evaluate`) from the run's seed, so that they can be repeated. A network that torch.export,
    torch.compile or torch.jit.trace has taken outside a run draws its masks at every call; torch.vmap asks for
    `randomness="different"`.

    Args:
        num_levels: L >= 1.
        threshold: initial λ > 0, in units of the input: a number, or a tensor that broadcasts to the input (one value
            per channel: [C, 1, 1] before [B, C, height, width], [C] before [B, ..., C]).
        masking_ratio: p in [0, 1); above 0 the site gets a `RandomMask`. Set `mask` for another rule.
        role: what the site is in its network ("query", "key", ...), for choosing sites by kind.
        layout: order of the input's axes, for masks of channels and tokens; None decides by their number, see
            `channel_axes`.
        rows_per_image: k, rows of the batch axis that belong to one image (its windows).
        min_level: n <= 0, the lowest level. Below 0 the site carries negative values too, for which its coding needs
            signed spikes.
        max_powers: levels are rounded to sums of at most this many signed powers of two, see `qcfs`; None: every whole
            number is a level.

    Attributes:
        mask: drops spikes; None keeps all.
        is_operand: True if the site stands at an operand of a product rather than in the place of an activation: in
            full precision it is the identity, not ReLU.
        scale_axis: for an operand, the axis of which each channel may have a threshold of its own; None: none may,
            because the product adds up over it.

    Raises:
        InputError: L, rows_per_image or max_powers below 1, n above 0, λ not above 0, p outside [0, 1), or an unknown
            layout.

    Source: Masked Spiking Transformer (ICCV 2023).
    """

    def __init__(
        self,
        num_levels: int = 16,
        threshold: float | Tensor = 2.0,
        masking_ratio: float = 0.0,
        role: str = "",
        *,
        layout: Layout | None = None,
        rows_per_image: int = 1,
        min_level: int = 0,
        max_powers: int | None = None,
    ) -> None:
        super().__init__()
        self.is_operand = False
        self.scale_axis: int | None = None
        is_positive = bool((threshold > 0).all()) if isinstance(threshold, Tensor) else threshold > 0
        if not is_positive:
            raise InputError(f"threshold must be above 0, got {threshold}")
        if rows_per_image < 1:
            raise InputError(f"rows_per_image must be at least 1, got {rows_per_image}")
        self.num_levels = whole_number("num_levels", num_levels, 1)
        self.min_level = whole_number("min_level", min_level)
        if self.min_level > 0:
            raise InputError(f"min_level must be 0 or less, got {min_level}")
        self.max_powers = None if max_powers is None else whole_number("max_powers", max_powers, 1)
        self.mask: SpikeMask | None = make_mask(masking_ratio)
        self.role = role
        self.layout = check_layout(layout)
        self.rows_per_image = rows_per_image
        initial = threshold.detach().clone() if isinstance(threshold, Tensor) else torch.full((1,), float(threshold))
        self.threshold = nn.Parameter(initial)

    @property
    def masking_ratio(self) -> float:
        """p, fraction of the spikes dropped; 0 without a mask."""
        return 0.0 if self.mask is None else self.mask.masking_ratio

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape [B, ...] -> same shape, values in {n·λ/L, ..., λ}.

        Raises:
            InputError: the site has a mask and the run was begun without the model it belongs to.
        """
        return self.masked(self.quantised(x))

    def quantised(self, x: Tensor) -> Tensor:
        """Output before masking."""
        return qcfs(x, self.threshold, self.num_levels, self.min_level, self.max_powers)

    def masked(self, y: Tensor) -> Tensor:
        """Part of y, [B, ...], that the mask keeps, if there is a mask."""
        if self.mask is None:
            return y
        run = current_run()
        if run is None:
            keep = self.mask.keep_fresh(y, self.rows_per_image, self.layout)
        else:
            keep = run.keep_mask(y, self.mask, run.name_of(self), run.step, self.layout)
        return drop_spikes(y, keep)

    def extra_repr(self) -> str:
        role, mask = (f", role={self.role!r}" if self.role else ""), (f", mask={self.mask}" if self.mask else "")
        lowest = f", min_level={self.min_level}" if self.min_level else ""
        powers = f", max_powers={self.max_powers}" if self.max_powers else ""
        return f"num_levels={self.num_levels}{lowest}{powers}{role}{mask}"
