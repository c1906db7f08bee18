"""Activations that are functions, or modules called several times: each call has its site, the code stays as it is."""

from __future__ import annotations

import copy
import pickle
import random
import threading
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

import mst
from mst.errors import InputError
from mst.neurons import find_sites

torch.manual_seed(0)
X = torch.randn(4, 3, 6, 6)


class Base(nn.Module):
    """A convolution, a hidden map and a head; a subclass says how they are called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.hidden, self.head = nn.Conv2d(3, 4, 3), nn.Linear(64, 8), nn.Linear(8, 3)
        self.scale = 1.0
        self.seen: list[Tensor] = []

    def rectified(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


class WithModule(Base):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()


class Plain(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x)) * self.scale
        return self.head(torch.relu(self.hidden(x.flatten(1))))


class Shared(WithModule):
    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x)).flatten(1)
        return self.head(self.act(self.hidden(x)))


class Loop(Base):
    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.conv, nn.Flatten(), self.hidden):
            x = x if isinstance(layer, nn.Flatten) else layer(x.flatten(1) if layer is self.hidden else x).relu()
        return self.head(x)


class Checked(Base):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3
        if x.dim() == 3:
            x = x[None]
        x = F.relu(self.conv(x)).view(len(x), -1)
        return self.head(F.relu(self.hidden(x)))


class Helped(Base):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            raise ValueError("too bright")
        return self.head(self.rectified(self.hidden(self.rectified(self.conv(x)).flatten(1))))


class SharedAndChecked(WithModule):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3
        return self.head(self.act(self.hidden(self.act(self.conv(x)).flatten(1))))


FOLLOWED = {"plain": Plain, "shared": Shared, "loop": Loop}
WATCHED = {"checked": Checked, "helped": Helped, "shared and checked": SharedAndChecked}


@pytest.mark.parametrize("name", FOLLOWED | WATCHED)
def test_each_call_has_its_site_and_the_network_stays_the_same(name: str) -> None:
    model = (FOLLOWED | WATCHED)[name]().eval()
    quantized = mst.quantize(model, 2**14, X, threshold_from="max").eval()
    assert list(find_sites(quantized)) == (["act", "act_2"] if "shared" in name else ["relu", "relu_2"])
    torch.testing.assert_close(quantized(X), model(X), rtol=1e-2, atol=2e-3)
    assert isinstance(quantized, type(model))
    snn = mst.convert(quantized, "lossless")
    torch.testing.assert_close(mst.simulate(snn, X, 200).logits, quantized(X).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WATCHED)
def test_forward_that_cannot_be_followed_is_refused_without_images(name: str) -> None:
    model = WATCHED[name]()
    if name == "shared and checked":  # its modules are found, its calls are not
        quantized = mst.quantize(model)
        with pytest.raises(mst.ConversionError, match="used several times in one pass"):
            mst.convert(quantized, example=X)
        return
    with pytest.raises(InputError, match="cannot be followed without images: .*give images.*nn.ReLU modules"):
        mst.quantize(model)
    assert len(find_sites(mst.quantize(model, example=X))) == 2


def test_state_that_the_forward_reads_and_writes_stays_alive() -> None:
    class Stateful(Base):
        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.conv(x)) * self.scale
            self.seen.append(h)
            if random.random() < self.chance:
                h = h.flip(-1)
            return self.head(F.relu(self.hidden(h.flatten(1))))

        chance = 0.0

    quantized = mst.quantize(Stateful(), 8).eval()
    assert quantized.seen == []
    first = quantized(X)
    assert len(quantized.seen) == 1
    quantized.chance = 1.0
    assert not torch.equal(quantized(X), first)
    quantized.chance, quantized.scale = 0.0, 0.0
    assert not torch.equal(quantized(X), first)
    state = random.getstate()
    mst.quantize(Stateful(), 8)
    assert random.getstate() == state


def test_call_that_quantize_did_not_see_is_refused() -> None:
    class Branch(Base):
        extra = False

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.conv(x)).flatten(1)
            if self.extra:
                h = F.relu(h - 0.1)
            return self.head(self.hidden(h))

    quantized = mst.quantize(Branch(), 8)
    quantized(X)
    quantized.extra = True
    with pytest.raises(InputError, match="the forward of Branch: an activation that is a function is called where"):
        quantized(X)
    model = Branch()
    model.extra = True
    assert len(find_sites(mst.quantize(model, 8))) == 2


def test_arguments_that_reach_further_calls_are_found_with_images() -> None:
    class Block(Base):
        def forward(self, x: Tensor, before: bool = False) -> Tensor:
            return F.relu(self.conv(F.relu(x) if before else x))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.head = Block(), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(x, before=True).flatten(1))

    with pytest.raises(InputError, match="called where it was not"):
        mst.quantize(Outer(), 8)(X)
    assert len(find_sites(mst.quantize(Outer(), 8, X))) == 2


def test_functions_of_weights_and_of_whole_numbers_are_no_sites() -> None:
    class Weights(Base):
        def forward(self, x: Tensor) -> Tensor:
            if self.scale > 2:
                assert x.sum() > 0  # torch.fx does not follow this
            at = torch.arange(3).clamp(min=1)
            weight = F.relu(self.head.weight * 2)
            return F.linear(F.relu(self.hidden(x.flatten(1)[:, :64])), weight)[:, at] if len(at) else x

    for images in (None, X):
        quantized = mst.quantize(Weights(), 2**14, images, threshold_from="max")
        assert list(find_sites(quantized)) == ["relu"]
        torch.testing.assert_close(quantized(X).shape, Weights()(X).shape)


@pytest.mark.parametrize("make", [Plain, Shared, Loop, lambda: fx.symbolic_trace(Plain())])
def test_redirected_network_can_be_copied_pickled_and_saved(make: Any, tmp_path: Path) -> None:
    quantized = mst.quantize(make(), 4, X).eval()
    snn = mst.convert(quantized)
    expected, spikes = quantized(X), mst.simulate(snn, X, 8).spike_counts
    torch.save(quantized, tmp_path / "whole.pt")
    loaded = torch.load(tmp_path / "whole.pt", weights_only=False)
    for copied in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized)), loaded):
        assert torch.equal(copied(X), expected)
        copied.conv.weight.data.zero_()
    assert torch.equal(quantized(X), expected)
    assert mst.simulate(pickle.loads(pickle.dumps(snn)), X, 8).spike_counts == spikes


def test_redirected_network_runs_in_every_mode_and_thread() -> None:
    quantized = mst.quantize(Shared(), 4, X).eval()
    expected = quantized(X).detach()
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(quantized(X), expected)
    assert torch.equal(torch.compile(quantized, backend="eager")(X), expected)
    assert torch.equal(quantized.forward(X), expected)
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(torch.equal(quantized(X), expected))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_forward_that_was_set_on_the_module_is_answered_too() -> None:
    model = Plain().eval()

    def forward(self: Base, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(F.relu(self.conv(x)).flatten(1)) + 1))

    model.forward = MethodType(forward, model)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="its forward was set on the module"):
        mst.quantize(model)
    quantized = mst.quantize(model, 2**14, X, threshold_from="max").eval()
    torch.testing.assert_close(quantized(X), model(X), rtol=1e-2, atol=2e-3)
    assert list(find_sites(quantized)) == ["relu", "relu_2"]
    quantized.head.weight.data.zero_()
    assert torch.equal(quantized(X), quantized.head.bias.expand(4, 3))
    assert not torch.equal(model(X), quantized(X))


def test_gradient_checkpointing_of_calls_is_refused_and_of_modules_is_not() -> None:
    class Checkpointed(Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = checkpoint(lambda y: F.relu(self.conv(y)), x, use_reentrant=False)
            return self.head(self.hidden(x.flatten(1)))

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Plain()

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=False)

    with pytest.raises(InputError, match="torch.utils.checkpoint repeats.*make this part a module of its own"):
        mst.quantize(Checkpointed(), 4, X)
    quantized = mst.quantize(Outer(), 4, X)
    direct = mst.quantize(Plain(), 4, X)
    quantized(X).sum().backward()
    direct(X).sum().backward()
    assert torch.equal(quantized.inner.conv.weight.grad, direct.conv.weight.grad)


def test_calls_by_keyword_in_lambdas_and_comprehensions_are_found() -> None:
    class Spelled(WithModule):
        def forward(self, x: Tensor) -> Tensor:
            rectify = lambda t: F.relu(input=t)  # noqa: E731
            x = self.act(input=rectify(self.conv(x)) - 0.1)
            halves = [half.relu() for half in x.flatten(1).chunk(2, dim=1)]
            return self.head(
                partial(F.relu, inplace=True)(self.hidden(sum(torch.cat([h, h], 1).relu() for h in halves)))
            )

    model = Spelled().eval()
    quantized = mst.quantize(model, 2**14, X, threshold_from="max").eval()
    assert len(find_sites(quantized)) == 7
    torch.testing.assert_close(quantized(X), model(X), rtol=1e-2, atol=2e-3)


def test_calls_are_known_again_after_many_runs() -> None:
    quantized = mst.quantize(Loop(), 4, X).eval()
    expected = quantized(X)
    for _ in range(40):  # the interpreter replaces instructions that run often
        assert torch.equal(quantized(X), expected)


def test_hooks_move_to_the_site_that_takes_over() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    seen: list[tuple[int, ...]] = []
    model[1].register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    quantized = mst.quantize(model, 4)
    quantized(torch.ones(3, 4))
    assert seen == [(3, 4)]


def test_error_inside_a_redirected_forward_leaves_nothing_behind() -> None:
    quantized = mst.quantize(Plain(), 4, X).eval()
    expected = quantized(X)
    with pytest.raises(RuntimeError):
        quantized(torch.randn(4, 2, 6, 6))
    assert torch.equal(quantized(X), expected)
    assert torch.equal(F.relu(X), X.clamp(min=0))


@pytest.mark.parametrize("activation", ["relu", F.relu, nn.ReLU()])
@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_that_torch_fuses_reach_their_sites_in_every_mode(activation: Any, norm_first: bool) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation, batch_first=True, norm_first=norm_first)
            self.encoder, self.head = (
                nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first),
                nn.Linear(8, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x).mean(1))

    x = torch.randn(4, 5, 8)
    quantized = mst.quantize(Encoder(), 2, x).eval()
    assert list(find_sites(quantized)) == ["encoder.layers.0.activation", "encoder.layers.1.activation"]
    with torch.no_grad():
        without = quantized(x)
    torch.testing.assert_close(without, quantized(x).detach(), rtol=1e-5, atol=1e-6)
    snn = mst.convert(quantized, "lossless")
    counted, uncounted = (mst.simulate(snn, x, 60, record_operations=each).spike_counts for each in (True, False))
    assert counted == uncounted
    assert sum(counted.values()) > 0


def test_layer_that_passes_over_its_sites_in_some_mode_is_refused() -> None:
    class Shy(WithModule):
        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x)
            h = self.act(h) if torch.is_grad_enabled() else h.clamp_min(0.0) if False else torch.maximum(h, 0 * h)
            return self.head(self.hidden(h.flatten(1)))

    with pytest.raises(InputError, match="without gradients its forward passes over act"):
        mst.quantize(Shy(), 8, X)


def test_scripted_network_is_refused() -> None:
    with pytest.warns(FutureWarning):
        scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    with pytest.raises(InputError, match="scripted network's code cannot be changed; quantise it first"):
        mst.quantize(scripted)


def test_gradients_flow_through_redirected_calls_in_place() -> None:
    class InPlace(Base):
        def forward(self, x: Tensor) -> Tensor:
            h = self.conv(x)
            y = F.relu_(h)
            return self.head(self.hidden((h + y).flatten(1)))

    model = InPlace().double()
    x = X.double()
    quantized = mst.quantize(model, 2**16, x, threshold_from="max")
    model(x).sum().backward()
    quantized(x).sum().backward()
    assert model.conv.weight.grad is not None
    torch.testing.assert_close(quantized.conv.weight.grad, model.conv.weight.grad, rtol=1e-3, atol=1e-3)


def test_activation_of_a_buffer_that_was_written_into_is_a_site() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(6, 6), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            buffer = torch.zeros(len(x), 8)
            buffer[:, :6] = self.first(x)
            return self.head(F.relu(buffer))

    assert set(find_sites(mst.quantize(Writes(), 4, example=torch.randn(2, 6)))) == {"relu"}


def test_class_that_registers_its_subclasses_knows_none_of_ours() -> None:
    class Registered(nn.Module):
        known: ClassVar[dict[str, type]] = {}

        def __init_subclass__(cls, *, key: str) -> None:
            Registered.known[key] = cls

    class Block(Registered, key="block"):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.first(x))

    class Slotted(nn.Module):
        __slots__ = ("first_used",)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x)

    quantized = mst.quantize(Block(), 4)
    assert isinstance(quantized, Block)
    assert Registered.known == {"block": Block}
    assert set(find_sites(mst.quantize(nn.Sequential(nn.Linear(6, 3), Slotted()), 4))) == {"1.relu"}


def test_weights_keep_their_types_where_they_differ() -> None:
    model = nn.Sequential(nn.Linear(6, 6).bfloat16(), nn.ReLU(), nn.Linear(6, 3).double())
    dtypes = [weights.dtype for weights in model.parameters()]
    quantized = mst.quantize(model, 4)
    assert [weights.dtype for name, weights in quantized.named_parameters() if "threshold" not in name] == dtypes
