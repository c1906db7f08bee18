"""`mst sweep`, and the other verbs with networks other than an MST."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import mst
from failing import fails
from mst.cli.main import main
from mst.experiments import COLUMNS
from mst.models import build
from mst.models.foreign import architecture
from mst.neurons import find_sites
from mst.quantization import note_quantization, quantization_of
from small_runs import TINY_MST

pytestmark = pytest.mark.slow

TRAIN = [
    "--model", "resnet18_small", "--model-kwargs.width", "4", "--train-images", "128", "--train.epochs", "1",
    "--train.warmup-epochs", "0", "--train.batch-size", "32", "--train.eval-batch-size", "360",
    "--train.learning-rate", "0.01",
]  # fmt: skip
CELLS = ["--masking-ratios", "0,0.5", "--time-steps", "2,4", "--max-images", "20"]
SWEEP = ["sweep", *TRAIN, *CELLS]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def test_sweep_writes_one_table_and_continues_where_it_was_interrupted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = [
        "sweep",
        *TINY_MST,
        *TRAIN[4:],
        *CELLS,
        "--output",
        str(out),
        "--num-levels",
        "4,8",
        "--mask-seeds",
        "0,1",
    ]
    calls: list[str] = []
    from mst.experiments import sweeping

    real = sweeping.run_training

    def cut(options: mst.TrainingOptions, folder: Path, **how: Any) -> None:
        calls.append(folder.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(options, folder, **how)

    monkeypatch.setattr(sweeping, "run_training", cut)
    assert main(command) == 130
    assert not (out / "sweep.csv").exists()
    assert main(command) == 0
    cells = ["L4_p0", "L4_p0.5_attention", "L8_p0", "L8_p0.5_attention"]
    assert calls == [*cells[:3], *cells[2:]]
    capfd.readouterr()

    table = rows(out)
    assert tuple(table[0]) == COLUMNS
    assert len(table) == 4 * 2
    by_cell = {(r["num_levels"], r["masking_ratio"], r["mask_sites"], r["time_steps"]): r for r in table}
    plain, masked = by_cell["4", "0.0", "", "4"], by_cell["4", "0.5", "attention", "4"]
    assert (plain["num_seeds"], masked["num_seeds"]) == ("1", "2")
    runs = [json.loads((out / "L4_p0.5_attention" / f"seed{seed}.json").read_text()) for seed in (0, 1)]
    spikes = [run["spikes_per_image"][3] for run in runs]
    assert float(masked["spikes_per_image"]) == pytest.approx(sum(spikes) / 2)
    assert float(masked["spikes_per_image_spread"]) == pytest.approx(abs(spikes[0] - spikes[1]) / 2**0.5)
    relative = float(masked["spikes_per_image"]) / float(plain["spikes_per_image"])
    assert float(masked["spikes_relative_to_unmasked"]) == pytest.approx(relative)
    assert float(masked["firing_rate"]) == pytest.approx(float(masked["spikes_per_neuron"]) / 4)
    assert runs[0]["accuracy"] != runs[1]["accuracy"] or spikes[0] != spikes[1]
    for name in ("accuracy_vs_time", "accuracy_vs_spikes", "accuracy_and_spikes_vs_ratio"):
        assert (out / f"{name}.png").is_file()
    assert "| 4 | 0.5 | attention | 0 | 4 |" in (out / "sweep.md").read_text()

    assert {row["on_energy_front"] for row in table} == {"True", "False"}
    assert (out / "pareto_fronts.png").is_file()

    # a larger request uses the results that are there
    calls.clear()
    assert main([*command, "--mask-seeds", "0,1,2", "--time-steps", "2,8"]) == 0
    assert calls == []
    assert {r["time_steps"] for r in rows(out)} == {"2", "8"}

    # a combination that fails is named, and the others are in the table
    def fail(opening: mst.CheckpointOptions, *rest: object, **how: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(sweeping, "run_simulation", fail)
    (out / "L8_p0" / "seed0.json").unlink()
    line = fails([*command, "--mask-seeds", "0,1,2", "--time-steps", "2,8"], capfd)
    assert "1 combinations failed: L = 8, p = 0 (out of memory); the same command tries them again" in line
    assert len(rows(out)) == 3 * 2
    assert "Not in this table, because it is unfinished: L = 8, p = 0." in (out / "sweep.md").read_text()
    capfd.readouterr()
    line = fails([*command, "--train.learning-rate", "0.02"], capfd)
    assert "holds a sweep with other settings: train.learning_rate: 0.01 -> 0.02" in line


def test_sweep_fine_tunes_and_evaluates_a_checkpoint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["train", *TRAIN, "--masking-ratio", "0.25", "--num-levels", "4", "--output", str(tmp_path / "run")]) == 0
    )
    checkpoint = str(tmp_path / "run" / "last.safetensors")
    common = ["sweep", "--masking-ratios", "0,0.5", "--time-steps", "2", "--mask-seeds", "0", "--max-images", "20"]
    evaluate = [*common, "--method", "evaluate", "--checkpoint", checkpoint, "--output", str(tmp_path / "e")]
    assert main([*evaluate, "--mask-sites", "layer1.*+layer2.*"]) == 0
    unmasked, masked = rows(tmp_path / "e")
    assert masked["mask_sites"] == "layer1.*+layer2.*"
    assert masked["num_levels"] == "4"
    assert float(masked["spikes_per_image"]) < float(unmasked["spikes_per_image"])
    capfd.readouterr()
    assert main(["simulate", checkpoint, "--time-steps", "2", "--masking-ratio", "0", "--max-images", "20",
                 "--output", str(tmp_path / "s")]) == 0  # fmt: skip
    assert "was made with masking ratio 0.25; it runs with 0 at 0 of 17 sites" in capfd.readouterr().err
    simulated = json.loads((tmp_path / "s" / "simulation.json").read_text())
    assert float(unmasked["spikes_per_image"]) == pytest.approx(simulated["spikes_per_image"])

    tune = [
        *common,
        *TRAIN,
        "--masking-ratios",
        "0.5",
        "--method",
        "fine-tune",
        "--checkpoint",
        checkpoint,
        "--output",
        str(tmp_path / "f"),
    ]
    assert main(tune) == 0
    tuned = mst.load_checkpoint(tmp_path / "f" / "L16_p0.5_all" / "last.safetensors")
    assert {site.masking_ratio for site in find_sites(tuned).values()} == {0.5}
    info = mst.read_checkpoint_info(tmp_path / "f" / "L16_p0.5_all" / "last.safetensors")
    assert info.provenance["init_from"] == checkpoint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "evaluate"], "needs one start; give a checkpoint"),
        (["--checkpoint", "x.safetensors"], "--method train starts from scratch"),
        (["--method", "evaluate", "--checkpoint", "x"], "model, train belong to training"),
        (["--num-levels", "4,0"], "num_levels must be at least 1, got 0"),
        (["--mask-sites", "layer1.*,nosuch"], "no site matches 'nosuch'"),
        (["--spike-penalties", "0,-1"], "spike_penalty must not be negative"),
        (["--quantize.also", "Sigmoid", "--model-kwargs.attn_layer", "se"], "cannot be built"),
        (["--masking-ratios", "0,50"], "for 50 % write 0.5"),
        (["--mask-seeds", "[]"], "at least one entry of each"),
        (["--time-steps", "0"], "time steps from 1"),
        (["--train.spike-penalty", "1"], "give --spike-penalties"),
        (["--model", "resnet18_smal"], "unknown model 'resnet18_smal'; did you mean resnet18_small"),
        (["--mask-sites", "attention", "--masking-ratios", "0.5"], "no site matches 'attention'"),
        (["--dataset", "digit"], "did you mean digits"),
        (["--train-images", "5000"], "train_images must be from 1 to the 1437 that digits has, got 5000"),
    ],
)  # fmt: skip
def test_sweep_bad_input_gets_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert message in fails([*SWEEP, "--output", str(tmp_path / "out"), *arguments], capfd)
    assert not list((tmp_path / "out").glob("*"))  # nothing was started: the folder is free for the corrected command


def test_sweep_refuses_what_cannot_be_converted_before_it_trains(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "--model", "test_byobnet", "--output", str(tmp_path / "out")]
    line = fails([*command, "--quantize.small-stem", "--time-steps", "2"], capfd)
    assert "8 places cannot be carried by spikes" in line


def test_sweep_keeps_selections_apart_that_look_alike(tmp_path: Path) -> None:
    command = [*SWEEP, "--masking-ratios", "0.5", "--mask-sites", "layer?.0.*,layer*.0.*,layer[1,2].*"]
    assert main([*command, "--mask-seeds", "0,0", "--output", str(tmp_path)]) == 0
    table = [row for row in rows(tmp_path) if row["time_steps"] == "4"]
    assert [row["mask_sites"] for row in table] == ["layer?.0.*", "layer*.0.*", "layer[1,2].*"]
    assert {row["num_seeds"] for row in table} == {"1"}
    folders = {folder.name for folder in tmp_path.iterdir() if folder.is_dir()}
    assert len(folders) == 3
    assert "L16_p0.5_layer-1-2-.--928598" in folders
    spikes = [row["spikes_per_image"] for row in table]
    assert spikes[0] == spikes[1]  # the same sites, trained and simulated twice
    assert spikes[0] != spikes[2]


def test_sweep_notices_other_data_under_the_same_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from image_data import image_files, write_folder

    for name, train in (("a", 4), ("b", 5)):
        write_folder(tmp_path / name, image_files(classes=2, train=train, test=2))
    (tmp_path / "data").symlink_to(tmp_path / "a")
    command = [
        "sweep", *TRAIN[:4], "--train.epochs", "1", "--train.warmup-epochs", "0", "--train.batch-size", "2",
        "--dataset", f"folder:{tmp_path / 'data'}", "--img-size", "8", "--masking-ratios", "0", "--time-steps", "2",
        "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(command) == 0
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to(tmp_path / "b")
    capfd.readouterr()
    assert "other settings: data_fingerprint" in fails(command, capfd)
    # an evaluated checkpoint has its own image size
    checkpoint = str(tmp_path / "out" / "L16_p0" / "last.safetensors")
    evaluate = ["sweep", "--method", "evaluate", "--checkpoint", checkpoint, "--masking-ratios", "0,0.5"]
    assert main([*evaluate, "--time-steps", "2", "--mask-seeds", "0", "--output", str(tmp_path / "e")]) == 0
    assert [row["mask_sites"] for row in rows(tmp_path / "e")] == ["", "all"]


@pytest.mark.usefixtures("rendered_figures")
def test_sweep_of_a_network_that_sends_nothing_still_reports(tmp_path: Path) -> None:
    model = mst.create_model("resnet18_small", width=4, num_classes=10, in_chans=1)
    for site in find_sites(model).values():
        site.threshold.data.fill_(1e6)
    note_quantization(model, image_shape=(1, 8, 8))
    info = mst.CheckpointInfo("digits", preprocessing=mst.Preprocessing(8, 1, (0.3,), (0.3,)))
    mst.save_checkpoint(model, tmp_path / "silent.safetensors", info)
    command = ["sweep", "--method", "evaluate", "--checkpoint", str(tmp_path / "silent.safetensors"), "--time-steps"]
    assert main([*command, "2", "--mask-seeds", "0", "--max-images", "9", "--output", str(tmp_path / "out")]) == 0
    assert {row["spikes_per_image"] for row in rows(tmp_path / "out")} == {"0.0"}
    for name in ("accuracy_vs_time", "accuracy_vs_spikes", "accuracy_and_spikes_vs_ratio", "pareto_fronts"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000


def test_training_with_a_threshold_for_each_channel_resumes(tmp_path: Path) -> None:
    plain = build(architecture("resnet18_small", {"width": 4, "in_chans": 1}))
    save_file(plain.state_dict(), str(tmp_path / "plain.safetensors"))
    start = ["--init-from", str(tmp_path / "plain.safetensors"), "--quantize.per-channel"]
    run = ["train", *TRAIN, *start, "--output", str(tmp_path / "run")]
    assert main(run) == 0
    (tmp_path / "run" / "last.safetensors").unlink()
    assert main(["train", "--resume", "--output", str(tmp_path / "run")]) == 0
    assert mst.load_checkpoint(tmp_path / "run" / "last.safetensors").act1.threshold.shape == (4, 1, 1)


def test_train_reports_obstacles_of_conversion_before_it_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "out")]
    assert main(["train", "--model", "test_byobnet", "--quantize.small-stem", *TRAIN[4:], *output]) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "test_byobnet can be converted under lossless coding, but not under rate coding: 8 places, among" in said
    assert "stages.0.0.attn.gate: sigmoid has no" in said


def test_a_network_of_timm_goes_through_all_verbs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    train = [
        "train", "--model", "test_resnet.r160_in1k", "--quantize.small-stem", "--num-levels", "4", "--masking-ratio",
        "0.5", "--mask-sites", "layer1.*", "--train-images", "32", "--train.epochs", "1", "--train.warmup-epochs", "0",
        "--train.batch-size", "32", "--output", str(run),
    ]  # fmt: skip
    assert main(train) == 0
    checkpoint = str(run / "last.safetensors")
    model = mst.load_checkpoint(checkpoint)
    noted = quantization_of(model)
    assert noted is not None
    assert noted.architecture is not None
    assert (noted.architecture.name, noted.architecture.small_stem) == ("test_resnet.r160_in1k", True)
    assert (noted.image_shape, noted.num_classes, noted.num_levels) == ((1, 8, 8), 10, 4)
    assert {name for name, site in find_sites(model).items() if site.masking_ratio} == {
        name for name in find_sites(model) if name.startswith("layer1.")
    }
    for verb in ("evaluate", "simulate", "measure"):
        steps = [] if verb == "evaluate" else ["--time-steps", "2"]
        assert main([verb, checkpoint, *steps, "--max-images", "8", "--output", str(tmp_path / verb)]) == 0
    evaluation = json.loads((tmp_path / "evaluate" / "evaluation.json").read_text())
    assert evaluation["quanta_per_image"] > 0
    assert "quanta per image" in " ".join(capfd.readouterr().out.split())
    measurement = json.loads((tmp_path / "measure" / "measurement.json").read_text())
    assert measurement["operations"]["conv1.0"]["kind"] == "convolution"


def test_weights_without_thresholds_are_calibrated_and_those_with_are_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    plain = build(architecture("resnet18_small", {"width": 4, "in_chans": 1}))
    save_file(plain.state_dict(), str(tmp_path / "plain.safetensors"))
    start = ["train", *TRAIN, "--train.learning-rate", "1e-12"]
    options = ["--init-from", str(tmp_path / "plain.safetensors"), "--calibration-images", "50"]
    assert main([*start, *options, "--quantize.per-channel", "--output", str(tmp_path / "a")]) == 0
    assert "thresholds are set from 50 training images" in " ".join(capfd.readouterr().err.split())
    model = mst.load_checkpoint(tmp_path / "a" / "last.safetensors")
    assert model.act1.threshold.shape == (4, 1, 1)
    assert model.act1.threshold.std() > 0
    again = ["--init-from", str(tmp_path / "a" / "last.safetensors")]
    assert main([*start, *again, "--output", str(tmp_path / "b")]) == 0
    second = mst.load_checkpoint(tmp_path / "b" / "last.safetensors")
    torch.testing.assert_close(second.act1.threshold, model.act1.threshold, rtol=1e-4, atol=1e-6)
    assert main(["simulate", str(tmp_path / "b" / "last.safetensors"), "--time-steps", "2", "--max-images", "8",
                 "--output", str(tmp_path / "s")]) == 0  # fmt: skip
    assert "per channel" in capfd.readouterr().out
    line = fails([*start, *again, "--calibration-images", "9", "--output", str(tmp_path / "c")], capfd)
    assert "have no effect where thresholds are not set from images" in line
    line = fails([*start, "--pretrained", "--output", str(tmp_path / "d")], capfd)
    assert "no weights are published for resnet18_small" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "mst_nano_patch2_window2_8", "--quantize.max-pool", "average"], "have no effect on mst_nano"),
        (["--quantize.max-pool", "average"], "max_pool='average' has no effect: SmallResNet has no nn.MaxPool2d"),
        (["--quantize.also", "Gelu"], "'Gelu' is not an activation of torch.nn"),
        (["--model", "vit_tiny_patch16_224"], "no ReLU-like activation"),
        (["--model", "torchvision:alexnet"], "does not take images of 1 x 8 x 8"),
        (["--model-kwargs.wdth", "3"], "cannot be built with the options"),
        (["--init-from", "/nowhere.pth"], "/nowhere.pth"),
    ],
)
def test_train_with_a_network_that_does_not_work_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = TRAIN if "--model" not in arguments else TRAIN[4:]
    line = fails(["train", *given, *arguments, "--output", str(tmp_path / "out")], capfd)
    assert message in line


def test_sweep_of_sites_at_products_is_refused_before_it_trains(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vit = ["--model", "vit_tiny_patch16_224", "--model-kwargs.img_size", "8", "--model-kwargs.patch_size", "4"]
    small = ["--model-kwargs.embed_dim", "12", "--model-kwargs.depth", "1", "--model-kwargs.num_heads", "2"]
    command = ["sweep", *vit, *small, "--dataset", "digits", "--quantize.placement", "products"]
    assert "does not carry the levels below 0" in fails([*command, "--output", str(tmp_path)], capfd)
