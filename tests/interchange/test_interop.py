"""Other simulators fire the same spikes; each runs where its package is installed (make test-interop)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import mst
from exported_networks import IMAGES, branched, simple
from mst.interchange import TARGETS, Verification, compare_spikes, load, network_steps, trace_graph, write_nir
from mst.quantization import create_model

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

pytest.importorskip("nir")

OTHERS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is missing"))
    for name in TARGETS
    if name != "mst"
]


def compared(model: torch.nn.Module, images: torch.Tensor, name: str, path: Path, steps: int) -> Verification:
    model, images = model.double(), images.double()
    write_nir(trace_graph(model, images), path)
    snn = mst.convert(model, "rate", images)
    theirs = load(path, name, dtype=torch.float64).steps
    return compare_spikes(lambda x, t: network_steps(snn, x, t), theirs, [images], steps)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("network", ["simple", "branched", "vgg", "resnet"])
def test_labels_hold(name: str, network: str, tmp_path: Path) -> None:
    images = IMAGES
    if network in ("simple", "branched"):
        model = simple() if network == "simple" else branched()
    else:
        torch.manual_seed(0)
        images = torch.rand(4, 1, 16, 16)
        vgg = {"img_size": 16, "max_pool": "average"} if network == "vgg" else {}
        model = create_model(
            {"vgg": "vgg16_small", "resnet": "resnet18_small"}[network], num_levels=8, width=2, in_chans=1, **vgg
        )
        mst.set_thresholds(model, images)
    found = compared(model, images, name, tmp_path / "net.nir", 16)
    assert found.spikes > 100
    assert (found.differing == 0) == (TARGETS[name].label == "faithful")
