"""Networks of timm and torchvision: converted within stated bounds, or refused with every obstacle named."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.regnet import RegNet, RegNetCfg
from timm.models.vgg import VGG
from torch import Tensor, nn
from torchvision.models.regnet import BlockParams

import mst
from mst.neurons import IFNeuron, find_sites

pytestmark = pytest.mark.slow

LEVELS, SIZE = 8, 32

Build = Callable[[], nn.Module]


def by_timm(name: str, **options: Any) -> Build:
    return lambda: timm.create_model(name, num_classes=5, **options)


def by_torchvision(name: str, **options: Any) -> Build:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=5, **options)


def regnet_of_timm(**options: Any) -> Build:
    return lambda: RegNet(RegNetCfg(6, 24, 48.0, 2.5, 8, **options), num_classes=5)


CONVERTED: dict[str, Build] = {  # of a family with large or deep members only, one with fewer and narrower blocks
    "timm test_resnet": by_timm("test_resnet"),
    "timm resnet18_small": by_timm("resnet18_small", width=8),
    "timm vgg16_small": by_timm("vgg16_small", width=8),
    "timm vgg_bn": lambda: VGG([16, "M", 32, "M", 32, "M"], 5, norm_layer=nn.BatchNorm2d, mlp_ratio=0.02),
    "timm densenet": by_timm("densenet121", growth_rate=8, block_config=(2, 3)),
    "timm regnetx": regnet_of_timm(),
    "timm mobilenetv2_050": by_timm("mobilenetv2_050"),
    "timm repvgg": lambda: ByobNet(
        ByoModelCfg(tuple(ByoBlockCfg("rep", 2, 16 * width) for width in (1, 2)), stem_type="rep", stem_chs=16), 5
    ),
    "torchvision resnet18": by_torchvision("resnet18"),
    "torchvision densenet": lambda: torchvision.models.DenseNet(8, (2, 3), 16, num_classes=5),
    "torchvision mobilenet_v2": by_torchvision(
        "mobilenet_v2", width_mult=0.35, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]]
    ),
    "torchvision squeezenet1_1": by_torchvision("squeezenet1_1"),
    "torchvision shufflenet_v2": lambda: torchvision.models.ShuffleNetV2([2, 2, 2], [24, 32, 48, 64, 128], 5),
    "torchvision regnet_x": lambda: torchvision.models.RegNet(
        BlockParams([1, 2], [16, 32], [8, 8], [1.0, 1.0], [2, 2]), 5, stem_width=16
    ),
}


@cache
def settled(build: Build) -> tuple[nn.Module, Tensor]:
    """A network in float64 whose BatchNorm statistics are those of its images; no test changes it."""
    torch.manual_seed(0)
    model, images = build().double(), torch.randn(12, 3, SIZE, SIZE).double()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        model.train()(images)
    return model.eval(), images[:2]


def site_means(network: nn.Module, kind: type[nn.Module], run: Callable[[], object], steps: int) -> dict[str, Tensor]:
    """Mean output of every site over the passes that `run` makes."""
    sums: dict[str, Tensor] = {}
    names = {module: name.removeprefix("network.") for name, module in network.named_modules()}

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        folded = output.view(-1, 2, *output.shape[1:]).sum(dim=0) / steps
        name = names[module]
        sums[name] = sums.get(name, torch.zeros_like(folded)) + folded

    handles = [module.register_forward_hook(add) for module in network.modules() if isinstance(module, kind)]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return sums


@pytest.fixture(scope="module", params=CONVERTED)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """A quantised network of CONVERTED, and two images."""
    model, images = settled(CONVERTED[request.param])
    return mst.quantize(model, LEVELS, [images]).eval(), images


def test_converted_first_site_is_exact_and_last_site_near(network: tuple[nn.Module, Tensor]) -> None:
    quantized, images = network
    snn = mst.convert(quantized)
    assert len(snn.sites) == len(find_sites(quantized))
    assert not any(isinstance(m, nn.ReLU | mst.QCFS) for m in snn.modules())
    ann = site_means(quantized, mst.QCFS, lambda: quantized(images), 1)

    def run(steps: int) -> dict[str, Tensor]:
        return site_means(snn, IFNeuron, lambda: mst.simulate(snn, images, steps, record_operations=False), steps)

    at_levels, later = run(LEVELS), run(4 * LEVELS)
    first, last = next(iter(ann)), list(ann)[-1]
    torch.testing.assert_close(at_levels[first], ann[first], rtol=1e-9, atol=1e-9)
    threshold = find_sites(quantized)[last].threshold.item()
    errors = [(means[last] - ann[last]).abs().mean().item() / threshold for means in (at_levels, later)]
    assert errors[0] < 0.3
    assert errors[1] < min(0.27, errors[0] + 0.01)


def test_converted_lossless_settles_to_the_ann(network: tuple[nn.Module, Tensor]) -> None:
    quantized, images = network
    snn = mst.convert(quantized, "lossless", images, burst=LEVELS, schedule="plain")
    result = mst.simulate(snn, images, snn.longest_settling)
    assert result.num_settled == len(images)
    with torch.no_grad():
        assert (result.logits - quantized(images)).abs().max().item() < 1e-9
    assert sum(result.spike_counts.values()) > 0
    assert mst.estimate_energy(result).snn.energy_pj > 0


def test_every_converted_network_is_counted_and_priced() -> None:
    for name in ("timm test_resnet", "torchvision densenet", "timm vgg16_small"):
        model, images = settled(CONVERTED[name])
        snn = mst.convert(mst.quantize(model, LEVELS, [images]))
        result = mst.simulate(snn, images, 4)
        energy = mst.estimate_energy(result)
        convolutions = [m for m in snn.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        counted = [op for op in energy.operations if op.kind in ("convolution", "linear")]
        assert len(counted) == len(convolutions)
        assert next(op.name for op in counted if not op.sources) == counted[0].name  # the first sees the image
        assert energy.snn.energy_pj > 0


def with_relu(model: nn.Module) -> nn.Module:
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.GELU):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, nn.ReLU())
    return model


REFUSED: dict[str, tuple[Build, list[str]]] = {
    "a Swin with ReLU": (
        lambda: with_relu(
            timm.create_model(
                "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=8, depths=(1, 2),
                num_heads=(1, 2), num_classes=5,
            )
        ),
        [
            r"layers.1.blocks.0.norm2: layer_norm before the neuron layers.1.blocks.0.mlp.act; put a BatchNorm",
            r"layers.1.downsample.norm: layer_norm before",
            r"layers.1.blocks.1.attn: matmul of two activations.*make a matrix product an mst.ActivationProduct",
        ],
    ),
    "squeeze-and-excitation": (
        regnet_of_timm(se_ratio=0.25),
        ["s1.b1.se.gate: sigmoid has no.*leave out the gate", "s1.b1.se: mul of two activations", "s3.b1.se: mul"],
    ),
    "hard swish": (
        by_torchvision("mobilenet_v3_small"),
        [r"features.0.2: hardswish has no .*also=\(Hardswish,\)", "features.12.2: hardswish", "hardsigmoid"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_network_has_every_obstacle_named(name: str) -> None:
    build, expected = REFUSED[name]
    model, images = settled(build)
    quantized = mst.quantize(model, LEVELS, [images])
    with pytest.raises(mst.ConversionError) as refused:
        mst.convert(quantized)
    for text in expected:
        assert refused.match(text), text


@pytest.mark.parametrize("name", ["a Swin with ReLU", "squeeze-and-excitation", "hard swish"])
def test_lossless_carries_networks_that_rate_coding_refuses(name: str) -> None:
    model, images = settled(REFUSED[name][0])
    quantized = mst.quantize(model, LEVELS, [images]).eval()
    snn = mst.convert(quantized, "lossless", images, burst=LEVELS, schedule="plain")
    result = mst.simulate(snn, images, snn.longest_settling, record_operations=False)
    assert result.num_settled == len(images)
    with torch.no_grad():
        assert (result.logits - quantized(images)).abs().max().item() < 1e-9
    assert snn.notes
    assert all("(an error under rate coding); here it stays analog, and is exact" in line for line in snn.notes)
