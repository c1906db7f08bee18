"""One tensor in, one tensor out, and no chance in evaluation."""

from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.models import check_one_tensor_in, one_tensor_out, refuse_chance


class Net(nn.Module):
    """A linear map, then a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.inner, self.count = nn.Linear(4, 4), nn.Identity(), 0
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner(self.fc(x)))


class Counting(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        y: Tensor = self.fc(x) * self.count
        return y


class Drop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


def attention(x: Tensor, dropout: float) -> Tensor:
    x = x[:, None]
    return F.scaled_dot_product_attention(x, x, x, dropout_p=dropout)[:, 0]


RANDOM: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "dropout": (lambda x: F.dropout(x, 0.5), "Net: dropout is random in evaluation; pass training=self.training"),
    "torch.dropout": (lambda x: torch.dropout(x, 0.5, True), "dropout is random in evaluation"),
    "dropout1d": (lambda x: F.dropout1d(x[:, None], 0.5)[:, 0], "dropout1d is random in evaluation"),
    "alpha_dropout": (lambda x: F.alpha_dropout(x, 0.5, True), "alpha_dropout is random in evaluation"),
    "rrelu": (lambda x: F.rrelu(x, training=True), "rrelu is random in evaluation"),
    "attention": (lambda x: attention(x, 0.5), "pass dropout_p=p if self.training else 0.0"),
    "rand_like": (lambda x: x + torch.rand_like(x), "rand_like draws random numbers in evaluation; draw them only if"),
    "randn": (lambda x: x + torch.randn(4), "randn draws random numbers"),
    "randperm": (lambda x: x[:, torch.randperm(4)], "randperm draws"),
    "bernoulli": (lambda x: x * torch.bernoulli(torch.full((4,), 0.5)), "bernoulli draws"),
    "in place": (lambda x: x + torch.empty(4).normal_(), "normal draws"),
    "Python": (lambda x: x * random.random(), "Net: it answers differently each time it is run on the same images"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_refuse_chance_names_the_random_function(name: str) -> None:
    function, message = RANDOM[name]
    with pytest.raises(ValueError, match=message):
        refuse_chance(Net(function).eval(), torch.rand(8, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.dropout(x, 0.5, False),
        lambda x: torch.dropout(x, 0.5, False),
        lambda x: F.dropout(x, 0.0),
        lambda x: F.rrelu(x),
        lambda x: attention(x, 0.0),
        lambda x: x + torch.rand(4, generator=torch.Generator().manual_seed(0)),
        lambda x: [torch.rand(1), x][1],
    ],
)
def test_refuse_chance_accepts_what_does_not_change_the_answer(function: Callable[[Tensor], Tensor]) -> None:
    refuse_chance(Net(function).eval(), torch.rand(8, 4))


def test_refuse_chance_names_the_module_that_draws() -> None:
    with pytest.raises(ValueError, match="1: dropout is random in evaluation"):
        refuse_chance(nn.Sequential(nn.Linear(4, 4), Drop()).eval(), torch.rand(8, 4))


def test_refuse_chance_refuses_a_counter() -> None:
    with pytest.raises(ValueError, match="counters, caches, running means"):
        refuse_chance(Counting(F.relu).eval(), torch.rand(2, 4))


def test_check_one_tensor_in_names_the_arguments() -> None:
    class Two(Net):
        def forward(self, x: Tensor, meta: Tensor) -> Tensor:  # type: ignore[override]
            return x + meta

    class Optional(Net):
        def forward(self, x: Tensor, meta: Tensor | None = None, *args: int, **kwargs: int) -> Tensor:
            return x

    with pytest.raises(ValueError, match="Two: its forward takes x, meta, but a network takes one tensor, the images"):
        check_one_tensor_in(Two(F.relu))
    for net in (Optional(F.relu), nn.Sequential(nn.Linear(4, 4)), nn.DataParallel(Net(F.relu))):
        check_one_tensor_in(net)


Pair = namedtuple("Pair", ["logits", "features"])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((torch.ones(1), 3), "Net: it returns a tuple of Tensor, int, but a network takes one tensor"),
        ([torch.ones(1)], "returns a list of Tensor"),
        ({"logits": torch.ones(1)}, "returns a dict of 'logits'"),
        (Pair(torch.ones(1), None), "returns a Pair of Tensor, NoneType"),
        (None, "returns a NoneType"),
    ],
)
def test_one_tensor_out_names_what_was_returned(output: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_tensor_out(output, Net(F.relu))


def test_one_tensor_out_returns_the_tensor() -> None:
    y = torch.ones(2, 3, 4)
    assert one_tensor_out(y, Net(F.relu)) is y
