"""ONNX and torch.export: the quantised ANN, and one step of the SNN under both codings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import mst
from conftest import randomise, tiny_config
from exported_networks import IMAGES, branched, simple
from mst.interchange import (
    AnnNetwork,
    ExportError,
    StepNetwork,
    ann_network,
    compare_onnx,
    export_onnx,
    export_torch,
    use_float64_operations,
)
from mst.interchange.stateless import largest_powers
from mst.models import MaskedSpikingTransformer
from mst.neurons import powers


def transformer() -> MaskedSpikingTransformer:
    model = MaskedSpikingTransformer(tiny_config(depths=(1,), num_heads=(2,), mlp_batch_norm=False)).eval()
    randomise(model)
    return model.double()


SMALL = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("coding", ["rate", "lossless", "free"])
def test_step_network_takes_the_steps_of_the_simulation(coding: str) -> None:
    options = {"rate": {}, "lossless": {"burst": 2}, "free": {"burst": 1, "schedule": "free"}}[coding]
    snn = mst.convert(transformer(), "rate" if coding == "rate" else "lossless", **options)  # type: ignore[arg-type]
    step = StepNetwork(snn, SMALL)
    result = mst.simulate(snn, SMALL, 5, keep_step_logits=True, steps_per_chunk=1)
    state: tuple[torch.Tensor, ...] = step.initial_state(4, SMALL)
    assert result.step_logits is not None
    for number, expected in enumerate(result.step_logits):
        logits, *after = step(SMALL, torch.tensor(number), *state)
        state = tuple(after)
        torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    assert len(result.step_logits) == 5


def test_step_network_pools_over_time_and_starts_from_initial_levels() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 3)
    )
    randomise(network)
    model = mst.quantize(network, 4, calibration=IMAGES).double()
    images = IMAGES.double()
    for snn in (mst.convert(model), mst.convert(model, "lossless", initial_images=images)):
        step, logits = StepNetwork(snn, images), torch.zeros(())
        state: tuple[torch.Tensor, ...] = step.initial_state(5, images)
        for number in range(3):
            logits, *after = step(images, torch.tensor(number), *state)
            state = tuple(after)
        steps = mst.simulate(snn, images, 3, keep_step_logits=True, steps_per_chunk=1).step_logits
        assert steps is not None
        torch.testing.assert_close(logits, steps[-1])


def test_ann_network_is_the_ann() -> None:
    model = branched(per_channel=True)
    expected = mst.evaluate(model, (IMAGES, torch.zeros(5, dtype=torch.long))).logits
    assert torch.equal(AnnNetwork(model)(IMAGES), expected)
    rounded = ann_network(model, 4)(IMAGES)
    assert not torch.equal(rounded, expected)


def test_masks_are_refused_with_all_places() -> None:
    model = mst.mask_spikes(branched(), 0.5, "act1")
    with pytest.raises(ExportError, match=r"1 place cannot be held by a graph without state.*act1: drops spikes"):
        AnnNetwork(model)
    with pytest.raises(ExportError, match=r"export without masks \(--masking-ratio 0\)"):
        StepNetwork(mst.convert(model), IMAGES)


@pytest.mark.slow
def test_onnx_of_the_ann_quantises_levels_and_weights_and_equals_torch(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = simple()
    program = export_onnx(ann_network(model, 8, quantized=True), IMAGES, tmp_path / "net.onnx", {"weight_bits": 8})
    content = onnx.load(program.path)
    kinds = [node.op_type for node in content.graph.node]
    assert kinds.count("QuantizeLinear") == 2
    assert kinds.count("DequantizeLinear") == 2 + 1  # both convolutions read no levels (images, means)
    assert not {node.domain for node in content.graph.node} - {""}
    about = json.loads({each.key: each.value for each in content.metadata_props}["mst"])
    assert about == {"network": "ann", "any_batch": True, "prediction": "logits", "weight_bits": 8}
    found = compare_onnx(ann_network(model, 8), program, [IMAGES[:2], IMAGES[2:]])
    assert (found.num_images, found.same_answers, found.within) == (5, 5, 5)


class Roll(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.roll(x, 3, dims=1)


class Cut(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 1:]


def chain() -> nn.Module:
    """Map 3 reads levels; 1 and 4 read none; 7 and 10 read them behind a roll."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(72, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 64), nn.ReLU(), Roll(),
        nn.Linear(64, 64), nn.ReLU(), Roll(), nn.Linear(64, 3),
    )  # fmt: skip


def pooled() -> nn.Module:
    """Maps 3 and 6 read levels that were chosen, 8 directly."""
    return nn.Sequential(
        nn.Conv2d(2, 16, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 1, bias=False), nn.ReLU(), Cut(),
        nn.Conv2d(16, 16, 1, bias=False), nn.Flatten(), nn.ReLU(), nn.Linear(32, 3),
    )  # fmt: skip


class Shared(nn.Module):
    """One map that reads the image, and then levels."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.head = nn.Linear(72, 72), nn.Linear(72, 3)
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.shared(self.first(self.shared(x.flatten(1))))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "whole"), [(chain(), {"3"}), (pooled(), {"3", "6", "9"}), (Shared(), {"shared", "head"})]
)
def test_onnxruntime_rounds_nothing_unasked(network: nn.Module, whole: set[str], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    randomise(network)
    images = torch.rand(48, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    model = mst.quantize(network, 16, calibration=images)
    program = export_onnx(ann_network(model, 8, quantized=True), images[:2], tmp_path / "net.onnx")
    held = {each.name: each.data_type for each in onnx.load(program.path).graph.initializer if "whole" in each.name}
    assert {name.split(".")[1] for name, kind in held.items() if kind == onnx.TensorProto.INT8} == whole
    found = compare_onnx(ann_network(model, 8), program, [images])
    assert found.within >= 40  # a value may lie within rounding of the border of a level


class OfTwo(nn.Module):
    """Reads the number of images as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.head = nn.ReLU(), nn.Linear(72, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(x).reshape(len(x), 72))


@pytest.mark.slow
def test_a_number_of_images_that_the_exporter_has_fixed_is_one(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = mst.quantize(OfTwo(), 4, calibration=IMAGES)
    program = export_onnx(ann_network(model), IMAGES, tmp_path / "net.onnx")
    found = compare_onnx(ann_network(model), program, [IMAGES])
    assert (found.num_images, found.within) == (5, 5)


def test_quantized_levels_with_floating_point_weights_are_refused() -> None:
    with pytest.raises(mst.InputError, match="rounds floating-point weights to 8 bits, unasked; round them here"):
        ann_network(simple(), quantized=True)


@pytest.mark.slow
def test_onnx_of_a_step_equals_torch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    step = StepNetwork(mst.convert(simple()), IMAGES)
    program = export_onnx(step, IMAGES, tmp_path / "step.onnx")
    assert program.inputs == ("images", "step", "1_before", "5_before")
    found = compare_onnx(step, program, [IMAGES], num_steps=6)
    assert (found.same_answers, found.within) == (5, 5)


@pytest.mark.slow
def test_onnx_in_float64_equals_torch_to_its_last_digits(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    snn, images = mst.convert(simple().double(), "lossless", burst=1, schedule="free"), IMAGES.double()
    ours, theirs = StepNetwork(snn, images), StepNetwork(snn, images)
    use_float64_operations(theirs)
    found = compare_onnx(ours, export_onnx(theirs, images, tmp_path / "double.onnx"), [images], num_steps=6)
    assert found.same_answers == 5
    assert found.largest_difference < 1e-12


@pytest.mark.parametrize(
    "made",
    [
        torch.nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2),
        torch.nn.Conv2d(2, 3, 2, padding="same", padding_mode="reflect", bias=False),
        torch.nn.GELU(),
    ],
)
def test_float64_operations_have_the_values_of_those_that_they_stand_for(made: torch.nn.Module) -> None:
    network, x = torch.nn.Sequential(made).double(), 4 * IMAGES.double()
    expected = network(x)
    use_float64_operations(network)
    assert network[0] is not made
    torch.testing.assert_close(network(x), expected, rtol=1e-13, atol=1e-13)


def test_float64_operations_leave_no_number_to_the_exporter() -> None:
    network = ann_network(simple().double())  # torch's exporter rounds numbers to float32
    constants = ("per_unit", "quantum")
    before = [getattr(each, name) for each in network.modules() for name in constants if hasattr(each, name)]
    use_float64_operations(network)
    after = [getattr(each, name) for each in network.modules() for name in constants if hasattr(each, name)]
    assert before
    assert all(isinstance(each, torch.Tensor) and each.dtype == torch.float64 for each in after)
    assert [float(each) for each in after] == before


def test_largest_powers_are_those_of_the_neurons() -> None:
    quanta = torch.arange(-127.0, 128)
    for most in (1, 2, 3, 4):
        assert torch.equal(largest_powers(quanta, most, 127), powers.largest_powers(quanta, most))
    assert largest_powers(torch.tensor(torch.nan), 2, 3).isnan()


def test_torch_export_takes_both_forms(tmp_path: Path) -> None:
    model = simple()
    export_torch(ann_network(model), IMAGES, tmp_path / "ann.pt2")
    again = torch.export.load(tmp_path / "ann.pt2").module()
    torch.testing.assert_close(again(IMAGES), AnnNetwork(model)(IMAGES))
    step = StepNetwork(mst.convert(model), IMAGES)
    program = export_torch(step, IMAGES, tmp_path / "step.pt2")
    given = (IMAGES, torch.tensor(0), *step.initial_state(5, IMAGES))
    torch.testing.assert_close(torch.export.load(program.path).module()(*given), step(*given))
