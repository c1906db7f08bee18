from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

import mst
from mst.checkpoints import describe_model
from mst.models import copy_network, unwrapped

IMAGES = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def plain() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(64, 5))


def quantized() -> nn.Sequential:
    return mst.quantize(plain(), 4, calibration=IMAGES).eval()


def compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network, backend="eager")  # type: ignore[no-any-return]


def compiled_in_place(network: nn.Module) -> nn.Module:
    network.compile(backend="eager")
    return network


def compiled_forward(network: nn.Module) -> nn.Module:
    network.forward = torch.compile(network.forward, backend="eager")  # type: ignore[method-assign]
    return network


def compiled_part(network: nn.Module) -> nn.Module:
    network[0] = compiled(network[0])  # type: ignore[index, operator]
    return network


WRAPPED: list[Callable[[nn.Module], nn.Module]] = [
    compiled, compiled_in_place, compiled_forward, compiled_part, nn.DataParallel, AveragedModel,
    lambda network: compiled(nn.DataParallel(network)), lambda network: nn.DataParallel(compiled_part(network)),
]  # fmt: skip
IDS = ["compile", "in-place", "forward", "part", "parallel", "averaged", "compiled-parallel", "parallel-part"]


@pytest.mark.parametrize("wrap", WRAPPED, ids=IDS)
def test_unwrapped_network_has_the_names_the_tensors_and_the_answers_of_the_bare_one(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    network = quantized()
    expected, names = network(IMAGES), [*network.state_dict()]
    wrapped = wrap(network).eval()
    before = [type(module) for module in wrapped.modules()]
    bare = unwrapped(wrapped)
    assert [*bare.state_dict()] == names
    assert torch.equal(bare(IMAGES), expected)
    assert not any("torch._dynamo" in type(module).__module__ for module in bare.modules())
    assert {id(p) for p in bare.parameters()} == {id(p) for p in wrapped.parameters()}
    assert [type(module) for module in wrapped.modules()] == before  # it did not change


@pytest.mark.parametrize("wrap", WRAPPED, ids=IDS)
def test_every_door_takes_wrapped_networks(wrap: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    bare, labels = quantized(), torch.tensor([0, 1, 2, 3])
    wrapped = wrap(quantized())
    ours, theirs = mst.convert(bare), mst.convert(wrapped)
    assert theirs.sites == ours.sites
    for coding in (ours, theirs):
        assert mst.simulate(coding, (IMAGES, labels), num_steps=2).logits.shape == (4, 5)
    mst.save_checkpoint(wrapped, tmp_path / "w.safetensors")
    for model in (mst.quantize(plain(), 4), wrap(mst.quantize(plain(), 4))):
        filled = mst.load_checkpoint(tmp_path / "w.safetensors", model=model)
        assert torch.equal(filled(IMAGES), bare(IMAGES))
    mst.mask_spikes(bare, 0.5)
    mst.mask_spikes(wrapped, 0.5)  # a mask is a function of the site's name
    assert torch.equal(mst.evaluate(wrapped, (IMAGES, labels)).logits, mst.evaluate(bare, (IMAGES, labels)).logits)


def test_unwrapped_returns_a_bare_network_itself_and_keeps_a_module_that_is_used_twice_one() -> None:
    network = plain()
    assert unwrapped(network) is network
    part = compiled(nn.Linear(4, 4))
    twice = unwrapped(nn.Sequential(part, nn.ReLU(), part))
    assert twice[0] is twice[2]  # type: ignore[index]
    assert type(twice[0]) is nn.Linear  # type: ignore[index]


def test_unwrapped_reports_hooks_of_the_wrapper(caplog: pytest.LogCaptureFixture) -> None:
    parallel = nn.DataParallel(plain())
    parallel.register_forward_hook(lambda module, inputs, output: None)
    with caplog.at_level("INFO", "mst.notes"):
        unwrapped(parallel)
    assert "the hooks of its DataParallel are not run" in caplog.text


def test_unwrapped_refuses_weights_that_fsdp_has_divided() -> None:
    class FSDPModule(nn.Linear):
        """A class of the name that fully_shard gives."""

    with pytest.raises(mst.InputError, match="^0: FSDP has divided its weights"):
        unwrapped(nn.Sequential(FSDPModule(2, 2)))


class Own(nn.Module):
    """A network that keeps what deepcopy refuses, or treats wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.run = lambda x: self.body(x)  # refers to this object

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.run(x)
        return y


def test_copy_network_runs_its_own_modules_where_an_attribute_is_a_function_of_them() -> None:
    network, x = Own(), torch.rand(2, 3)
    copied = copy_network(network)
    with torch.no_grad():
        copied.body[0].weight.zero_()  # type: ignore[operator]
        copied.body[0].bias.fill_(7.0)  # type: ignore[operator]
    assert bool((copied(x) == 7).all())
    assert not bool((network(x) == 7).all())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda n: setattr(n.body, "lock", threading.Lock()), r"^Own\.body\.lock: .* the class _thread\.lock refuses"),
        (lambda n: setattr(n, "seen", {"last": [n(torch.rand(1, 3))]}), r"^Own\.seen\['last'\]\[0\]: .*detach\(\)"),
        (lambda n: setattr(n, "numbers", torch), r"^Own\.numbers: .* of the class module refuses it"),
        (lambda n: prune.l1_unstructured(n.body[0], "weight", 0.5), r"^Own\.body\.0\.weight: .*prune\.remove"),
    ],
    ids=["lock", "output", "module", "pruned"],
)
def test_copy_network_names_the_attribute_that_cannot_be_copied(spoil: Callable[[Own], object], message: str) -> None:
    network = Own()
    spoil(network)
    with pytest.raises(mst.InputError, match=message):
        copy_network(network)


def test_save_checkpoint_refuses_a_spiking_network_with_a_remedy(tmp_path: Path) -> None:
    snn = mst.convert(quantized())
    with pytest.raises(mst.InputError, match=r"save the ANN that it was converted from, .*mst\.load_checkpoint"):
        mst.save_checkpoint(snn, tmp_path / "x.safetensors")
    with pytest.raises(mst.InputError, match="this is a spiking network"):
        describe_model(snn)


def test_a_spiking_network_can_be_saved_whole_by_torch(tmp_path: Path) -> None:
    for coding in ("rate", "lossless"):
        snn, data = mst.convert(quantized(), coding), (IMAGES, torch.tensor([0, 1, 2, 3]))
        torch.save(snn, tmp_path / "snn.pt")
        again = torch.load(tmp_path / "snn.pt", weights_only=False)
        assert torch.equal(mst.simulate(again, data, 4).logits, mst.simulate(snn, data, 4).logits)


def test_a_wrapped_spiking_network_is_simulated_as_the_bare_one() -> None:
    snn, data = mst.convert(quantized()), (IMAGES, torch.tensor([0, 1, 2, 3]))
    for wrapped in (nn.DataParallel(snn), compiled(snn)):
        assert torch.equal(mst.simulate(wrapped, data, 3).logits, mst.simulate(snn, data, 3).logits)  # type: ignore[arg-type]
