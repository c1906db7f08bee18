"""`mst export`: files, what is verified, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import mst
from conftest import randomise, tiny_config
from mst.cli.main import main
from mst.experiments import exporting
from mst.interchange import AnnNetwork, Program, StepNetwork
from mst.interchange.stateless import LevelSite
from mst.quantization import create_model, note_quantization


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    model = create_model("vgg16_small", num_levels=4, width=1, in_chans=1, img_size=8, max_pool="average")
    mst.set_thresholds(model, torch.rand(8, 1, 8, 8))
    note_quantization(model, image_shape=(1, 8, 8), num_classes=10)
    path = tmp_path_factory.mktemp("cnn") / "small.safetensors"
    mst.save_checkpoint(model, path, mst.CheckpointInfo(dataset="digits"))
    return str(path)


def test_export_writes_nir_verifies_it_and_checks_a_chip(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nir")
    file = tmp_path / "small.nir"
    short = ["--images", "2", "--time-steps", "3"]
    assert main(["export", checkpoint, "-o", str(file), "--verify", "mst", "--check", "speck", *short]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "mst (faithful) beside mst, 2 images, T = 3, float64: 0 of" in said
    assert "speck: does not fit" in said
    assert re.search(r"all │ layers │ 14 cores │ 9 │ 1.56 times the limit", said)
    record = json.loads((tmp_path / "small.nir.json").read_text())
    assert record["results"]["differing"] == 0 < record["results"]["spikes"]
    assert not record["results"]["fits"]
    assert main(["export", checkpoint, "-o", str(file), "--weight-bits", "8", "--double", "false", *short]) == 0
    assert "weights of 8 bits, 2 images: " in capsys.readouterr().out
    assert set(json.loads((tmp_path / "small.nir.json").read_text())["results"]) == {"plain", "rounded"}


@pytest.mark.parametrize(
    ("arguments", "kind", "quantized"),
    [
        (["--to", "torch"], AnnNetwork, False),
        (["--to", "onnx"], AnnNetwork, False),
        (["--to", "onnx", "--weight-bits", "8", "--images", "2", "--qdq", "false"], AnnNetwork, False),
        (["--to", "onnx", "--part", "step", "--coding", "lossless"], StepNetwork, False),
        (
            ["--to", "onnx", "--part", "step", "--weight-bits", "4", "--images", "2", "--time-steps", "3"],
            StepNetwork,
            False,
        ),
    ],
)
def test_export_hands_the_network_that_was_asked_for_to_torch(
    arguments: list[str], kind: type, quantized: bool, checkpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Any] = []

    def export(network: Any, images: torch.Tensor, path: Path, facts: object = None) -> Program:
        given.append(network)
        return Program(path, (), (), True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "export_torch", export)
    monkeypatch.setattr(exporting, "export_onnx", export)
    assert main(["export", checkpoint, *arguments]) == 0
    (network,) = given
    assert type(network) is kind
    if "--weight-bits" in arguments:
        weight = next(each.weight for each in network.modules() if isinstance(each, torch.nn.Linear | torch.nn.Conv2d))
        assert max(len(row.unique()) for row in weight.detach().flatten(1)) <= 15
    sites = [each for each in network.modules() if isinstance(each, LevelSite)]
    assert all((each.rounding is not None) == quantized for each in sites)
    assert len(sites) == (13 if kind is AnnNetwork else 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "step"], "part has no effect on nir"),
        (["--to", "onnx", "--check", "speck"], "chips are checked on the graph of nir, not on onnx; add --to nir"),
        (["--to", "onnx", "--verify", "sinabs"], "--verify sinabs does not read onnx; choose onnxruntime"),
        (["--to", "torch", "--verify", "mst"], "--verify mst does not read torch; leave --verify out"),
        (["--coding", "lossless"], "the coding has no effect without --to onnx --part step"),
        (
            ["--to", "onnx", "--double", "true"],
            "double has no effect on onnx alone; add --to onnx --verify onnxruntime",
        ),
        (["--to", "onnx", "--qdq", "true"], "--qdq has no effect without --to onnx --part ann --weight-bits"),
        (["--images", "0"], "images must be at least 1, got 0"),
    ],
)
def test_export_options_without_effect_are_refused(
    arguments: list[str], message: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", checkpoint, *arguments]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_export_refuses_a_transformer_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = mst.MaskedSpikingTransformer(tiny_config())
    randomise(model)
    mst.save_checkpoint(model, tmp_path / "mst.safetensors", mst.CheckpointInfo(dataset="digits"))
    assert main(["export", "mst.safetensors"]) == 1
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.strip()]
    assert "places cannot be held by a graph of NIR. - patch_embed: " in line
    assert not list(tmp_path.glob("*.nir"))
