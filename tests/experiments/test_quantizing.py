"""A float checkpoint quantised without training, by the verb and from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import mst
from mst.cli.main import main
from mst.errors import FileConflictError, InputError
from mst.experiments import QuantizingOptions, run_quantizing
from mst.experiments.options import QuantizeOptions
from mst.neurons import find_sites

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def float_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    data = mst.load_dataset("digits", img_size=8)
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 1, "num_heads": 2}
    model = mst.create_model(
        "vit_tiny_patch16_224", placement="none", example=torch.rand(1, 1, 8, 8), in_chans=1, num_classes=10, **sizes
    )
    path = tmp_path_factory.mktemp("float") / "last.safetensors"
    mst.save_checkpoint(model, path, mst.CheckpointInfo("digits", data.info.class_names, data.preprocessing))
    return path


def test_quantize_writes_a_checkpoint_that_the_other_verbs_take(
    float_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--max-images", "20", "--calibration-images", "16", "--device", "cpu"]
    words = ["quantize", str(float_checkpoint), "--num-levels", "255", "--output", str(tmp_path), *few]
    assert main(words) == 0
    assert "of the answers are the same" in capsys.readouterr().out.replace("\n", " ")
    record = json.loads((tmp_path / "run_record.json").read_text())
    assert (record["verb"], record["results"]["num_images"]) == ("quantize", 20)
    assert record["results"]["agreement"] >= 0.9
    run = mst.run_simulation(
        mst.CheckpointOptions(tmp_path / "quantized.safetensors", max_images=4, device="cpu"),
        mst.StepOptions(40), mst.CodingOptions("lossless", burst=4),
    )  # fmt: skip
    assert run.result.num_settled == 4
    assert run.coding.schedule == "free"
    assert run.evaluation.accuracy == run.result.accuracy[-1]  # type: ignore[index]


def test_quantize_with_options_of_its_own(float_checkpoint: Path, tmp_path: Path) -> None:
    options = QuantizingOptions(
        float_checkpoint, num_levels=15, quantize=QuantizeOptions(placement="products", per_channel=True),
        max_powers=1, weight_correction=True, allocate_levels=True, calibration_images=32, max_images=5, device="cpu",
    )  # fmt: skip
    run = run_quantizing(options, tmp_path)
    sites = find_sites(mst.load_checkpoint(run.checkpoint))
    assert {site.max_powers for site in sites.values()} == {1}
    assert {site.num_levels - site.min_level for site in sites.values()} > {15}
    assert any(site.threshold.numel() > 1 for site in sites.values())
    with pytest.raises(FileConflictError, match="exists already"):
        run_quantizing(options, tmp_path)
    with pytest.raises(InputError, match="it has sites already"):
        run_quantizing(QuantizingOptions(run.checkpoint, device="cpu"), tmp_path / "again")
    with pytest.raises(InputError, match="placement none sets no sites"):
        QuantizingOptions(float_checkpoint, quantize=QuantizeOptions(placement="none"))


def test_quantize_moves_the_sites_of_an_mst_to_its_products(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = mst.load_dataset("digits", img_size=8)
    sizes = {"embed_dim": 8, "depths": (1,), "num_heads": (2,), "in_chans": 1, "num_classes": 10}
    model = mst.create_model("mst_nano_patch2_window2_8", masking_ratio=0.5, **sizes)
    path = tmp_path / "last.safetensors"
    mst.save_checkpoint(model, path, mst.CheckpointInfo("digits", data.info.class_names, data.preprocessing))
    options = QuantizingOptions(path, num_levels=15, calibration_images=8, max_images=4, device="cpu")
    run = run_quantizing(options, tmp_path / "out")
    assert "masks sites at activations; the network with sites at products has no masks" in caplog.text
    sites = find_sites(mst.load_checkpoint(run.checkpoint))
    assert {site.num_levels - site.min_level for site in sites.values()} == {15}
    assert all(site.is_operand and site.mask is None for site in sites.values())
    with pytest.raises(InputError, match="it has sites already"):
        run_quantizing(
            QuantizingOptions(path, quantize=QuantizeOptions(placement="activations"), device="cpu"), tmp_path / "no"
        )


def test_mst_trains_with_sites_at_its_products(tmp_path: Path) -> None:
    network = mst.NetworkOptions(
        model_kwargs={"embed_dim": 8, "depths": (1,), "num_heads": (2,)}, num_levels=7, masking_ratio=0.5,
        quantize=QuantizeOptions(placement="products"), calibration_images=16,
    )  # fmt: skip
    train = mst.TrainConfig(epochs=1, warmup_epochs=0, batch_size=32, trackers=(), device="cpu")
    options = mst.TrainingOptions(network, mst.DataOptions("digits", train_images=64), train)
    run = mst.run_training(options, tmp_path)
    sites = find_sites(mst.load_checkpoint(run.result.last_checkpoint))
    assert {site.role for site in sites.values() if site.mask} == {"query", "key"}
    assert all(site.is_operand for site in sites.values())
