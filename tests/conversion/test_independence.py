"""The answer to an image is its own, under every coding, with an example and without."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from mst.conversion import refuse_dependent_answers
from mst.neurons import QCFS, IFNeuron

Function = Callable[["Net", Tensor], Tensor]
CODINGS = ["rate", "lossless"]


class Net(nn.Module):
    """Linear map, site, a function, linear map, site, head."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.fc, self.a, self.inner, self.b = nn.Linear(4, 4), QCFS(4, 1.0), nn.Linear(4, 4), QCFS(4, 1.0)
        self.head, self.function = nn.Linear(4, 3), function
        self.calls, self.mean, self.cache, self.random = 0, torch.zeros(4), None, random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.b(self.inner(self.function(self, self.a(self.fc(x))))))
        return y


def counting(net: Net, h: Tensor) -> Tensor:
    net.calls += 1
    return h * net.calls


def averaging(net: Net, h: Tensor) -> Tensor:
    net.mean = 0.9 * net.mean + 0.1 * h.mean(0).detach()
    return h - net.mean


def caching(net: Net, h: Tensor) -> Tensor:
    net.cache = h.mean() if net.cache is None else net.cache
    return h + net.cache


def chance(draw: Callable[[Net], float]) -> Function:
    return lambda net, h: h.flip(-1) if draw(net) < 0.5 else h


BESIDE = "the answer to an image depends on the others beside it"
CALLS = "the answer to an image changes from call to call"

DEPENDENT: dict[str, tuple[Function, str]] = {
    "a maximum over the batch": (lambda net, h: h - 0.5 * torch.stack([h, h]).sum() / h.numel(), BESIDE),
    "a mean over the batch": (lambda net, h: h - h.mean(0, keepdim=True), BESIDE),
    "a mean over all": (lambda net, h: h - h.mean(), BESIDE),
    "a sum over the batch": (lambda net, h: h + h.sum(0), BESIDE),
    "a running sum": (lambda net, h: h.cumsum(0), BESIDE),
    "the order": (lambda net, h: h.flip(0), BESIDE),
    "the neighbour": (lambda net, h: h + h.roll(1, 0), BESIDE),
    "the first": (lambda net, h: h + h[:1], BESIDE),
    "the place in the batch": (lambda net, h: h * torch.arange(1, len(h) + 1)[:, None], BESIDE),
    "the number of images": (lambda net, h: h / len(h), BESIDE),
    "statistics of the batch": (lambda net, h: F.batch_norm(h, None, None, training=True) if len(h) > 1 else h, BESIDE),
    "a counter": (counting, CALLS),
    "a running mean": (averaging, CALLS),
    "a cache": (caching, CALLS),
    "chance of Python": (chance(lambda net: random.random()), CALLS),
    "chance of numpy": (chance(lambda net: float(np.random.rand())), CALLS),  # noqa: NPY002
    "rare chance": (chance(lambda net: 5 * random.random()), CALLS),
    "a generator of its own": (lambda net, h: h * net.random.random(), CALLS),
    "one image only": (lambda net, h: h.view(1, 4), "it takes one image, but not several"),
}  # fmt: skip


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", DEPENDENT)
def test_convert_refuses_an_answer_that_is_not_the_images_own(name: str, coding: str) -> None:
    function, message = DEPENDENT[name]
    with pytest.raises(mst.ConversionError, match=message):
        mst.convert(Net(function), coding, torch.rand(1, 4))


@pytest.mark.parametrize("name", ["a mean over all", "a counter", "chance of Python"])
@pytest.mark.parametrize("record", [True, False])
def test_simulate_refuses_it_where_convert_had_no_image(name: str, record: bool) -> None:
    function, message = DEPENDENT[name]
    snn = mst.convert(Net(function))
    with pytest.raises(mst.ConversionError, match=message):
        mst.simulate(snn, torch.rand(2, 4), 2, record_operations=record)


def double_only(net: Net, h: Tensor) -> Tensor:
    """Takes no float64."""
    return F.linear(h, torch.eye(4))


OWN: dict[str, Function] = {
    "nothing": lambda net, h: h,
    "a mean over channels": lambda net, h: h - h.mean(-1, keepdim=True),
    "a constant of the batch's size": lambda net, h: h + torch.ones(len(h), 4),
    "a counter that changes nothing": lambda net, h: [setattr(net, "calls", net.calls + 1), h][1],  # type: ignore[func-returns-value]
    "a draw that changes nothing": lambda net, h: [random.random(), np.random.rand(), h][2],  # noqa: NPY002
    "a cached table": lambda net, h: h + cached_table(net),
    "no float64": double_only,
}


def cached_table(net: Net) -> Tensor:
    net.cache = torch.arange(4.0) if net.cache is None else net.cache
    return net.cache


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", OWN)
def test_convert_accepts_an_answer_that_is_the_images_own(name: str, coding: str) -> None:
    mst.convert(Net(OWN[name]), coding, torch.rand(1, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_convert_examines_a_network_that_takes_no_float64_in_its_own_precision(dtype: torch.dtype) -> None:
    def mixing(net: Net, h: Tensor) -> Tensor:
        return F.linear(h - h.mean(), torch.eye(4, dtype=dtype))

    with pytest.raises(mst.ConversionError, match=BESIDE):
        mst.convert(Net(mixing).to(dtype), "rate", torch.rand(1, 4))
    mst.convert(Net(lambda net, h: F.linear(h, torch.eye(4, dtype=dtype))).to(dtype), "rate", torch.rand(1, 4))


def test_convert_names_the_first_site_that_sees_the_difference() -> None:
    with pytest.raises(mst.ConversionError, match="b: the answer to an image depends on the others beside it"):
        mst.convert(Net(lambda net, h: h - h.mean()), "lossless", torch.rand(1, 4))


def test_convert_refuses_sites_and_outputs_with_the_images_on_another_axis() -> None:
    class TokensFirst(nn.Module):
        def __init__(self, squeezes: bool) -> None:
            super().__init__()
            self.fc, self.site, self.squeezes = nn.Linear(4, 4), QCFS(4, 1.0), squeezes

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc(x)
            return self.site(x).squeeze() if self.squeezes else self.site(x.transpose(0, 1)).transpose(0, 1)

    with pytest.raises(mst.ConversionError, match="site: the images are not on the first axis of its input"):
        mst.convert(TokensFirst(False), "rate", torch.rand(1, 6, 4))
    with pytest.raises(mst.ConversionError, match="the first axis of the output is not that of the images"):
        mst.convert(TokensFirst(True), "rate", torch.rand(1, 4))


@pytest.mark.parametrize("coding", CODINGS)
def test_convert_leaves_random_numbers_as_they_were(coding: str) -> None:
    states = []
    for convert in (False, True):
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)
        if convert:
            mst.convert(Net(lambda net, h: h), coding, torch.ones(1, 4))
            torch.manual_seed(3)  # building the network draws
        states.append((random.random(), float(np.random.rand()), float(torch.rand(1))))  # noqa: NPY002
    assert states[0] == states[1]


def test_refuse_dependent_answers_leaves_the_network_as_it_was() -> None:
    net = Net(counting)
    net.a, net.b = (IFNeuron.from_qcfs(site, name) for site, name in ((net.a, "a"), (net.b, "b")))  # type: ignore[assignment]
    with pytest.raises(mst.ConversionError):
        refuse_dependent_answers(net, torch.rand(1, 4))
    assert net.calls == 0
    assert not net.a._forward_hooks


class WithTable(nn.Module):
    """A table, its MLP and a token; none depends on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.a, self.head = nn.Linear(4, 4), QCFS(4, 0.5), nn.Linear(4, 3)
        self.table, self.mlp, self.b, self.c = (
            nn.Parameter(torch.rand(3, 5)),
            nn.Linear(5, 4),
            QCFS(4, 0.3),
            QCFS(4, 0.2),
        )
        self.token, self.out = nn.Parameter(torch.rand(1, 1, 4)), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.c(self.out(self.b(self.mlp(F.gelu(self.table)))))
        h = torch.cat([self.token.expand(len(x), -1, -1), self.a(self.fc(x))], dim=1) + bias.mean(0)
        y: Tensor = self.head(h.mean(1))
        return y


@pytest.mark.parametrize("coding", CODINGS)
def test_convert_keeps_what_depends_on_no_image_as_a_constant(coding: str) -> None:
    net, x = WithTable().double().eval(), torch.rand(5, 2, 4, dtype=torch.float64)
    snn = mst.convert(net, coding, x, **({"initial_images": x} if coding == "lossless" else {}))
    assert [line.site for line in snn.sites] == ["a"]
    assert [note.partition(";")[0] for note in snn.notes][:2] == [
        f"{site}: its input depends on no image, so it stays a constant of the network" for site in "bc"
    ]
    result = mst.simulate(snn, [x[:3], x[3:]], 64)
    assert {count.operation.name for count in result.operations} == {"fc", "head"}
    torch.testing.assert_close(result.logits, net(x), rtol=0, atol=1e-9 if coding == "lossless" else 0.05)


def test_simulate_reports_that_a_constant_needs_an_example() -> None:
    net = WithTable()
    with pytest.raises(mst.ConversionError, match="b: its input depends on no image; convert with an example"):
        mst.simulate(mst.convert(net), torch.rand(2, 2, 4), 3)
    mst.simulate(mst.convert(net, example=torch.rand(1, 2, 4)), torch.rand(2, 2, 4), 3)


def test_convert_refuses_several_inputs_and_other_outputs() -> None:
    class Two(Net):
        def forward(self, x: Tensor, meta: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x) + meta

    class Pair(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(x), x

    with pytest.raises(ValueError, match="Two: its forward takes x, meta, but a network takes one tensor"):
        mst.convert(Two(lambda net, h: h))
    for coding in CODINGS:
        with pytest.raises(ValueError, match="Pair: it returns a tuple of Tensor, Tensor, but a network"):
            mst.convert(Pair(lambda net, h: h), coding, torch.rand(1, 4))
    with pytest.raises(ValueError, match="Pair: it returns a tuple of Tensor, Tensor"):
        mst.simulate(mst.convert(Pair(lambda net, h: h)), torch.rand(1, 4), 2)
