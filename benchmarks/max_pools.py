"""Conversion error of three ways to pool spikes, on networks with random weights.

python benchmarks/max_pools.py [--steps 64]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import timm
import torch
import torchvision
from torch import Tensor, nn

import mst
from mst.models import set_submodule
from mst.neurons import IFNeuron, SpikingMaxPool

LEVELS = 8
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "timm resnet18": lambda: timm.create_model("resnet18", num_classes=5),
    "timm resnet26d": lambda: timm.create_model("resnet26d", num_classes=5),
    "timm vgg16_small": lambda: timm.create_model("vgg16_small", width=8, num_classes=5),
    "timm densenet121": lambda: timm.create_model("densenet121", growth_rate=8, block_config=(2, 3), num_classes=5),
    "torchvision squeezenet1_1": lambda: torchvision.models.squeezenet1_1(num_classes=5),
}


def last_site_error(model: nn.Module, snn: mst.SpikingNetwork, images: Tensor, steps: int) -> float:
    """Mean distance between the last site's mean output and that of its ANN, in units of the threshold."""
    seen: dict[str, Tensor] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, IFNeuron):
            output = output.view(-1, *images.shape[:1], *output.shape[1:]).sum(dim=0) / steps
        seen[module.site] = seen.get(module.site, 0) + output

    handles = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, mst.QCFS)]
    model(images)
    (ann, last), seen = (seen.popitem()[::-1]), {}
    handles += [m.register_forward_hook(note) for m in snn.modules() if isinstance(m, IFNeuron) and m.site == last]
    mst.simulate(snn, images, steps, record_operations=False)
    for handle in handles:
        handle.remove()
    return float((seen[last] - ann).abs().mean() / model.get_submodule(last).threshold.max())


def main() -> None:
    """Print the error of each way to pool, network by network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=64, help="T of the simulation")
    steps = parser.parse_args().steps
    print(f"mean error at the last site (thresholds), L = {LEVELS}, T = {steps}")
    print(f"{'network':<28}{'each step':>12}{'running sums':>14}{'average pools':>15}")
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        plain, images = build().double(), torch.randn(12, 3, 32, 32).double()
        for module in plain.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = None
        with torch.no_grad():
            plain.train()(images)
            images = images[:3]
            kept = mst.quantize(plain.eval(), LEVELS, [images]).eval()
            averaged = mst.quantize(plain, LEVELS, [images], max_pool="average").eval()
            exact, by_step = mst.convert(kept), mst.convert(kept)
            for path, module in list(by_step.network.named_modules()):
                if isinstance(module, SpikingMaxPool):
                    set_submodule(by_step.network, path, module.pool)
            errors = [
                last_site_error(kept, by_step, images, steps),
                last_site_error(kept, exact, images, steps),
                last_site_error(averaged, mst.convert(averaged), images, steps),
            ]
        print(f"{name:<28}{errors[0]:>12.3f}{errors[1]:>14.3f}{errors[2]:>15.3f}")


if __name__ == "__main__":
    main()
