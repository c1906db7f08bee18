"""Levels shared out among sites by the errors that they make in the output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.neurons import find_sites
from mst.quantization.allocation import share_bits


def images(count: int = 40) -> Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(0))


def uneven() -> nn.Module:
    """Two maps in parallel behind tanh, of which the second adds next to nothing to the output."""

    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.loud, self.faint = nn.Linear(12, 16), nn.Linear(16, 4), nn.Linear(16, 4)
            self.unused = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).tanh()
            return self.loud(x) + 1e-3 * self.faint(x)

    return Uneven().eval()


def test_share_bits_gives_the_least_error_of_all_ways() -> None:
    effects, sizes, bits = {"a": 4.0, "b": 1.0, "c": 0.1}, {"a": 1, "b": 2, "c": 3}, dict.fromkeys("abc", 5.0)
    shared = share_bits(effects, sizes, bits, 3, 8)
    spent = sum(sizes[name] * shared[name] for name in sizes)
    assert shared == {"a": 8, "b": 6, "c": 3}
    assert spent <= 30

    def error(way: tuple[int, ...]) -> float:
        return sum(e**2 * 4.0 ** (5 - b) for e, b in zip(effects.values(), way, strict=True))

    ways = [(a, b, c) for a in range(3, 9) for b in range(3, 9) for c in range(3, 9) if a + 2 * b + 3 * c <= 30]
    assert error(tuple(shared.values())) == min(map(error, ways))


def test_allocated_levels_go_where_errors_reach_the_output_and_lower_its_error() -> None:
    plain, x = uneven(), images()
    model = mst.quantize(plain, 15, x, placement="products").eval()
    expected = plain(x)
    before = (model(x) - expected).norm()
    shared = mst.allocate_levels(model, x, min_bits=2)
    assert shared == {"loud.input_site": 6, "faint.input_site": 2}
    levels = {name: site.num_levels - site.min_level for name, site in find_sites(model).items()}
    assert levels == {"loud.input_site": 63, "faint.input_site": 3}
    mst.set_thresholds(model, x)
    assert (model(x) - expected).norm() < before / 2


def test_allocated_levels_of_sites_in_the_place_of_relu_start_from_what_they_have() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    model = mst.quantize(plain, 8, images())  # log2(9) bits each: the mean is rounded down
    shared = mst.allocate_levels(model, images(), min_bits=3, max_bits=3)
    assert shared == {"1": 3, "3": 3}
    assert [site.num_levels for site in find_sites(model).values()] == [7, 7]


def test_allocate_levels_refuses_what_it_cannot_share_out() -> None:
    model = mst.quantize(uneven(), 7, images(), placement="products")
    with pytest.raises(InputError, match=r"min_bits 4 is more than the mean of the bits, 3.00"):
        mst.allocate_levels(model, images(), min_bits=4)
    with pytest.raises(InputError, match="min_bits must not exceed max_bits, got 3 and 2"):
        mst.allocate_levels(model, images(), min_bits=3, max_bits=2)
    with pytest.raises(InputError, match="there are no images to allocate levels with"):
        mst.allocate_levels(model, images(0))
    trained = nn.Sequential(nn.Linear(12, 8), mst.QCFS(63, 0.05), nn.Linear(8, 3))
    with pytest.raises(
        InputError, match="was trained with quantisation, and its weights and biases are fitted to its levels"
    ):
        mst.allocate_levels(trained, images())
