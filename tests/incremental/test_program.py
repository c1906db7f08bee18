"""A network as a list of calls: which networks can be written down, and what is known of their calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mst.incremental import NotRecordableError, Program, program_of
from mst.incremental.program import PerImage
from mst.incremental.recording import leaves
from mst.neurons import QCFS, SignedIFNeuron


class Custom(nn.Module):
    """A site, a function of the tester's choice, a site and a linear map."""

    def __init__(self, function: Callable[[Tensor], Tensor], features: int = 4) -> None:
        super().__init__()
        self.first, self.second = (SignedIFNeuron.from_qcfs(QCFS(4, 1.0), site) for site in ("first", "second"))
        self.head = nn.Linear(features, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.second(self.function(self.first(x))))
        return answer


def program(function: Callable[[Tensor], Tensor], features: int = 4) -> Program:
    return program_of(Custom(function, features).double().eval(), torch.rand(1, 3, 4, dtype=torch.float64))


def sizes(found: Program) -> list[int]:
    return [each.number for call in found.calls for each in leaves((call.args, call.kwargs)) if type(each) is PerImage]


def test_program_finds_the_sizes_that_grow_with_the_batch() -> None:
    def windows(x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        return x.reshape(batch * tokens, channels).view(batch, tokens, channels)

    assert sizes(program(windows)) == [3, 1]


def test_program_knows_what_depends_on_one_image_only() -> None:
    found = program(lambda x: x.transpose(0, 1).softmax(0).transpose(0, 1).exp() + torch.zeros(3, 1).cos())
    names = [getattr(call.func, "__name__", "site") for call in found.calls]
    by_image = dict(zip(names, (call.is_by_image for call in found.calls), strict=True))
    assert by_image["exp"]
    assert by_image["linear"]
    assert not by_image["softmax"]  # behind a transposition the images are on another axis
    assert found.calls[names.index("cos")].sources == frozenset()


def test_program_takes_what_writes_into_a_tensor_that_nobody_else_reads() -> None:
    found = program(lambda x: x.mul(2).relu_())
    assert [call.written is not None for call in found.calls].count(True) == 1


def hidden(x: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():  # as functions of an extension in C++ are
        return x * 2


def by_value(x: Tensor) -> Tensor:
    return x if bool(x.sum() > 0) else x * 2


def into_a_view(x: Tensor) -> Tensor:
    x = x + 1
    x[:, :1].mul_(2)
    return x


def by_number_of_images(x: Tensor) -> Tensor:
    return x * 2 if len(x) == 2 else x


def by_share_of_images(x: Tensor) -> Tensor:
    return x * (1 / len(x))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (by_value, "__bool__"),
        (into_a_view, "others may read"),
        (by_number_of_images, "number of images"),
        (by_share_of_images, "number of images"),
        (lambda x: x + torch.rand(4), "random"),
        (lambda x: x + torch.arange(len(x))[:, None, None], "number of images"),
        (hidden, "from no torch function"),
        (lambda x: x.sum(1, keepdim=True).item() * x if x.numel() == 1 else x.tolist() and x, "tolist"),
    ],
    ids=["bool", "view", "length", "share", "random", "index", "hidden", "tolist"],
)
def test_program_refuses_what_cannot_be_made_again(function: Callable[[Tensor], Tensor], reason: str) -> None:
    with pytest.raises(NotRecordableError, match=reason):
        program(function)


class Counting(nn.Module):
    """Keeps the largest value that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("peak", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.peak.copy_(torch.maximum(self.peak, x.detach().amax().reshape(1)))  # type: ignore[operator, arg-type]
        return x


def test_program_of_a_network_that_changes_a_buffer_is_refused_and_leaves_it_as_it_was() -> None:
    counting = Counting()
    network = Custom(counting).eval()
    assert dict(network.named_buffers())["function.peak"] is counting.peak
    with pytest.raises(NotRecordableError):
        program_of(network, torch.rand(1, 3, 4))
    assert counting.peak.item() == 0.0  # type: ignore[operator]
