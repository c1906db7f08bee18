"""A quantised network under torch's compilers and transforms: the same logits, the same gradients."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import mst

IMAGES = torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=[False, True], ids=["scalar", "per_channel"])
def quantised(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 8), nn.ReLU(), nn.Linear(8, 4))
    return mst.quantize(plain, 10, calibration=IMAGES, per_channel=request.param).eval()


def gradients(model: nn.Module, like: nn.Module) -> list[Tensor]:
    """Of the parameters of `model` by the names that `like` gives them."""
    named = dict(model.named_parameters())
    loss = model(IMAGES).square().sum()
    return list(torch.autograd.grad(loss, [named[name] for name, _ in like.named_parameters()]))


def traced(model: nn.Module) -> nn.Module:
    """Traced, saved and loaded again."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and warns of every shape that is read
        torch.jit.save(torch.jit.trace(model, IMAGES), file)
        file.seek(0)
        return torch.jit.load(file)  # type: ignore[no-any-return]


def exported(model: nn.Module) -> nn.Module:
    batch = {0: torch.export.Dim("batch")}
    return torch.export.export(model, (IMAGES,), dynamic_shapes=(batch,)).module()


def test_quantised_network_exports(quantised: nn.Module) -> None:
    program = exported(quantised)
    assert torch.equal(program(IMAGES), quantised(IMAGES))
    assert torch.equal(program(IMAGES[:3]), quantised(IMAGES[:3]))
    torch.testing.assert_close(gradients(program, quantised), gradients(quantised, quantised))


def test_quantised_network_compiles_without_a_graph_break(quantised: nn.Module) -> None:
    compiled = torch.compile(quantised, backend="eager", fullgraph=True)
    assert torch.equal(compiled(IMAGES), quantised(IMAGES))
    torch.testing.assert_close(torch.autograd.grad(compiled(IMAGES).sum(), list(quantised.parameters())),
                               torch.autograd.grad(quantised(IMAGES).sum(), list(quantised.parameters())))  # fmt: skip


def test_quantised_network_is_traced_saved_and_loaded(quantised: nn.Module) -> None:
    loaded = traced(quantised)
    assert torch.equal(loaded(IMAGES), quantised(IMAGES))
    torch.testing.assert_close(gradients(loaded, quantised), gradients(quantised, quantised))


def test_quantised_network_under_vmap_and_grad(quantised: nn.Module) -> None:
    parameters = {name: value.detach() for name, value in quantised.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(quantised, parameters, (image[None],)).square().sum()  # type: ignore[no-any-return]

    assert torch.equal(torch.vmap(lambda image: quantised(image[None])[0])(IMAGES), quantised(IMAGES))
    per_image = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, IMAGES)
    summed = [per_image[name].sum(dim=0) for name in parameters]
    torch.testing.assert_close(summed, gradients(quantised, quantised))
    doubled = {name: torch.stack([value, 1.1 * value]) for name, value in parameters.items()}
    ensemble = torch.vmap(lambda each: functional_call(quantised, each, (IMAGES,)))(doubled)
    for index in range(2):
        alone = functional_call(quantised, {name: value[index] for name, value in doubled.items()}, (IMAGES,))
        torch.testing.assert_close(ensemble[index], alone)  # torch computes such convolutions in groups


@pytest.mark.parametrize("how", [exported, traced])
def test_masks_of_an_exported_network_are_drawn_at_every_call(quantised: nn.Module, how: object) -> None:
    masked = mst.mask_spikes(quantised, 0.5, "all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how is traced:
            program: nn.Module = torch.jit.trace(masked, IMAGES, check_trace=False)
        else:
            program = exported(masked)
    torch.manual_seed(3)
    first, second = program(IMAGES), program(IMAGES)
    torch.manual_seed(3)
    assert torch.equal(program(IMAGES), first)
    assert not torch.equal(second, first)
