"""The command line as users meet it: a short real run, then wrong command lines and bad input."""

from __future__ import annotations

import json
import logging
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer

import mst
from conftest import Golden
from event_data import LAYOUTS
from failing import fails
from image_data import image_files, write_cifar10, write_cifar100, write_folder
from mst.cli.main import main
from mst.cli.parser import normalise as normalise_words
from mst.cli.parser import option_types_of
from mst.cli.verbs import VERBS
from mst.recipes import recipe_names, recipe_path
from small_runs import FEW_IMAGES, TINY_MST

pytestmark = pytest.mark.slow

SHORT = ["--train.epochs", "2", "--train.warmup-epochs", "1", "--train.learning-rate", "1e-2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", "--output", str(folder), "--masking-ratio", "0.5", *TINY_MST, *FEW_IMAGES, *SHORT]) == 0
    return folder


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mst {mst.__version__}\n"


def test_train_writes_checkpoints_and_a_record(trained: Path) -> None:
    record = json.loads((trained / "run_record.json").read_text())
    assert record["verb"] == "train"
    assert record["settings"]["masking_ratio"] == 0.5
    assert record["settings"]["train"]["epochs"] == 2
    assert len(record["results"]["history"]) == 2
    assert record["seed"] == 0
    assert len(record["data_fingerprint"]) == 64
    assert record["device"]
    options = {name.partition(".")[0] for name in option_types_of(VERBS["train"].load())}
    assert set(record["settings"]) == options
    assert mst.load_checkpoint(trained / "last.safetensors").config.masking_ratio == 0.5


@pytest.mark.usefixtures("rendered_figures")
def test_simulate_writes_curve_sites_and_pictures(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / "last.safetensors")
    arguments = ["--dataset", "digits", "--time-steps", "6", "--output", str(tmp_path), "--max-images", "50"]
    assert main(["simulate", checkpoint, *arguments]) == 0
    result = json.loads((tmp_path / "simulation.json").read_text())
    assert len(result["accuracy"]) == result["num_steps"] == 6
    assert result["num_images"] == 50
    assert (result["dataset"], result["masking_ratio"]) == ("digits", 0.5)
    assert {"firing_rate", "spikes", "threshold"} <= result["sites"]["patch_embed.proj_if"].keys()
    assert sum(site["dropped_spikes"] for site in result["sites"].values()) > 0
    for name in ("accuracy_vs_time.png", "firing_rates.png", "run_record.json"):
        assert (tmp_path / name).stat().st_size > 0


def test_evaluate_and_simulate_agree_on_the_ann(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / "last.safetensors")
    assert main(["evaluate", checkpoint, "--output", str(tmp_path / "e"), "--batch-size", "77"]) == 0
    assert main(["simulate", checkpoint, "--output", str(tmp_path / "s"), "--time-steps", "1"]) == 0
    evaluation = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    simulation = json.loads((tmp_path / "s" / "simulation.json").read_text())
    assert evaluation["ann_accuracy"] == simulation["ann_accuracy"]
    assert evaluation["num_images"] == simulation["num_images"] == 360


@pytest.mark.usefixtures("rendered_figures")
def test_measure_writes_operations_and_energy(trained: Path, tmp_path: Path) -> None:
    checkpoint = str(trained / "last.safetensors")
    arguments = ["--time-steps", "4", "--max-images", "20", "--output", str(tmp_path), "--ac-pj", "1.8", "--budget"]
    assert main(["measure", checkpoint, *arguments]) == 0
    result = json.loads((tmp_path / "measurement.json").read_text())
    for figure in ("energy_pj", "num_macs", "num_acs"):
        assert set(result[figure]) == {"snn", "ann"}
        assert sum(row["snn"][figure] for row in result["operations"].values()) == pytest.approx(result[figure]["snn"])
    expected = result["num_macs"]["snn"] * 4.6 + result["num_acs"]["snn"] * 1.8
    assert result["energy_pj"]["snn"] == pytest.approx(expected)
    assert (tmp_path / "energy.png").stat().st_size > 0
    assert (tmp_path / "budget.png").stat().st_size > 0
    recorded = json.loads((tmp_path / "run_record.json").read_text())["results"]
    assert recorded["verdict"] == result["verdict"]
    assert recorded["alpha_watts"] == pytest.approx(result["spikes_per_image"] / 4 / 1e-3)
    for axis in ("stage", "kind", "name", "site", "operation"):
        parts = sum(each["snn_energy_pj"] for each in result["budget"][f"by_{axis}"].values())
        assert parts == pytest.approx(result["budget"]["total"]["snn_energy_pj"])
    assert result["verdict"]["baselines"]["fp32 ANN"]["energy_ratio"] == pytest.approx(
        result["budget"]["total"]["energy_ratio"]
    )
    assert result["verdict"]["baselines"]["quantised ANN (int8)"]["energy_ratio"] is None  # for changed constants


def test_masking_ratio_other_than_the_stored_one_is_reported(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(trained / "last.safetensors")
    assert main(["evaluate", checkpoint, "--output", str(tmp_path), "--masking-ratio", "0"]) == 0
    assert "was made with masking ratio 0.5; it runs with 0" in " ".join(capfd.readouterr().err.split())
    assert json.loads((tmp_path / "evaluation.json").read_text())["masking_ratio"] == 0.0


def test_import_turns_released_weights_into_a_checkpoint(golden: Golden, tmp_path: Path) -> None:
    torch.save({"model": golden.state}, tmp_path / "released.pth")
    output = tmp_path / "x.safetensors"
    arguments = ["--img-size", "28", "--masking-ratio", "0.75", "--dataset", "fashion-mnist"]
    assert main(["import", str(tmp_path / "released.pth"), "-o", str(output), *arguments]) == 0
    model = mst.load_checkpoint(output)
    assert model.config.masking_ratio == 0.75
    assert torch.equal(model.head.weight, golden.state["head.weight"])
    assert mst.read_checkpoint_info(output).dataset == "fashion-mnist"
    assert json.loads((tmp_path / "x.run_record.json").read_text())["verb"] == "import"


def test_resume_changes_nothing_in_a_finished_run(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(trained, output)
    before = (output / "last.safetensors").read_bytes()
    assert (
        main(["train", "--output", str(output), "--masking-ratio", "0.5", *TINY_MST, *FEW_IMAGES, *SHORT, "--resume"])
        == 0
    )
    assert (output / "last.safetensors").read_bytes() == before


def test_datasets_lists_and_checks(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    out = capfd.readouterr().out
    assert "digits" in out
    assert "fashion-mnist" in out
    assert main(["datasets", "check", "digits"]) == 0
    assert "1,437 training and 360 test images of 1 x 8 x 8 px" in capfd.readouterr().out


def test_configuration_file_with_overrides(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("num_levels: 8\ntrain:\n  epochs: 2\n  batch_size: 32\n")
    arguments = ["train", "--config", str(config), "--train.batch-size", "128", "--output", str(tmp_path / "o")]
    arguments += ["--mask-sites", "query,mlp", "--masking-ratio", "0.25", "--train-images", "200", *TINY_MST]
    assert main(arguments) == 0
    settings = json.loads((tmp_path / "o" / "run_record.json").read_text())["settings"]
    assert (settings["num_levels"], settings["train"]["epochs"], settings["train"]["batch_size"]) == (8, 2, 128)
    assert mst.load_checkpoint(tmp_path / "o" / "last.safetensors").config.mask_sites == ("query", "mlp")


def normalise(words: list[str]) -> list[str]:
    verb, *rest = words
    return [verb, *normalise_words(verb, option_types_of(VERBS[verb].load()), rest)]


def test_options_are_normalised() -> None:
    assert normalise(["train", "--resume", "--train.batch-size=3"]) == [
        "train", "--resume", "true", "--train.batch_size=3",
    ]  # fmt: skip
    for written in (["--mask-sites", "query,mlp"], ["--mask-sites=[query,mlp]"]):
        assert normalise(["train", *written]) == ["train", '--mask_sites=["query", "mlp"]']
    assert normalise(["train", "--resume", "false"]) == ["train", "--resume", "false"]
    assert normalise(["train", "--config", "digits-mst"])[1].endswith("recipes/digits-mst.yaml")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_explains_each_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert "_" not in "".join(word for word in out.split() if word.startswith("--"))


# ----------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--dataset", "digit"], 1, "unknown data set 'digit'; did you mean digits"),
        (["train", "--model", "mst_nano_patch2"], 1, "did you mean mst_nano_patch2_window2_8"),
        (["train", "--model-kwargs.embed_dims", "3"], 1, "unknown model option 'embed_dims'; did you mean embed_dim"),
        (["train", "--model-kwargs.masking_ratio", "0.5"], 1, "model_kwargs may not hold masking_ratio"),
        (["train", "--model-kwargs.embed_dim", "big"], 1, "embed_dim must be a whole number, got 'big'"),
        (["train", "--model-kwargs.img_size", "0"], 1, "img_size must be at least 1"),
        (
            ["train", "--model-kwargs.depths", "2"],
            1,
            "depths (2,) and num_heads (3, 6) need one positive entry per stage",
        ),
        (["train", "--train.device", "abacus"], 1, "device 'abacus' is not available for training here"),
        (["train", "--masking-ratio", "75"], 1, "for 75 % write 0.75"),
        (["train", "--masking-ratio", "1"], 1, "fraction dropped, in [0, 1); got 1.0"),
        (["train", "--model-kwargs.img_size", "9"], 1, "nearest sizes that fit: 8, 16"),
        (["train", "--train.epochs", "0"], 1, "epochs must be at least 1, got 0"),
        (["train", "--train.epoch", "3"], 2, "unknown option --train.epoch; did you mean train.epochs"),
        (["train", "--test-images", "9"], 2, "unknown option --test-images; did you mean train-images or "),
        (["train", "--train.epochs", "many"], 2, "Got value: many"),
        (["train", "--config", "nothing.yaml"], 1, "no configuration file: nothing.yaml"),
        (["train", "--config", "digits"], 1, "no recipe of that name; recipes: action-recognition-mst"),
        (["train", "--resume"], 1, "nothing to resume"),
        (["fly"], 2, "fly"),
        (["simulate", "nothing.safetensors"], 1, "no such checkpoint: nothing.safetensors"),
        (["simulate", "CKPT", "--time-steps", "0"], 1, "time_steps (T) must be at least 1, got 0"),
        (["simulate", "CKPT", "--batch-size", "0"], 1, "batch_size must be at least 1"),
        (["simulate", "CKPT", "--max-images", "0"], 1, "max_images must be at least 1"),
        (["simulate", "CKPT", "--steps-per-chunk", "0"], 1, "steps_per_chunk must be at least 1"),
        (["simulate", "CKPT", "--device", "cuda:99"], 1, "device 'cuda:99' is not available here"),
        (["simulate", "CKPT", "--device", "gpu"], 1, "device 'gpu' is not available here"),
        (["simulate", "CKPT", "--masking-ratio", "-0.1"], 1, "fraction dropped, in [0, 1)"),
        (["simulate", "CKPT", "--dataset", "mnist"], 1, "did you mean fashion-mnist"),
        (["measure", "CKPT", "--mac-pj", "-1"], 1, "energies must be above 0 pJ"),
        (["measure", "CKPT", "--cost-model", "my.yaml"], 1, "there is no cost model my.yaml"),
        (["measure", "CKPT", "--cost-model", "22nm-sparse"], 1, "no energy for operations of the kind"),
        (["import", "nothing.pth", "-o", "x.pth"], 1, "a checkpoint is a .safetensors file"),
        (["import", "nothing.pth", "-o", "CKPT"], 1, "exists already; choose another name"),
        (["import", "nothing.pth", "-o", "x.safetensors"], 1, "no such file: nothing.pth"),
        (["datasets", "check", "x"], 1, "unknown data set 'x'"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_clear_line(
    arguments: list[str], code: int, message: str, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [str(trained / "last.safetensors") if word == "CKPT" else word for word in arguments]
    if words[0] in ("train", "simulate", "measure"):
        words += ["--output", str(tmp_path / "out")]
    assert message in fails(words, capfd, code)


def test_bad_checkpoints_get_one_clear_line(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = (trained / "last.safetensors").read_bytes()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(good[: len(good) // 2])
    out = ["--output", str(tmp_path / "out")]
    assert "not a .safetensors file, or a damaged one" in fails(["simulate", str(bad), *out], capfd)
    save_file({"a": torch.zeros(1)}, bad)
    assert "for foreign weights use `mst import`" in fails(["evaluate", str(bad), *out], capfd)


def test_a_hostile_pickle_gets_one_clear_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"model": Hostile()}, tmp_path / "x.pth")
    line = fails(["import", str(tmp_path / "x.pth"), "-o", str(tmp_path / "y.safetensors")], capfd)
    assert "only tensors and plain values may be unpickled" in line
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "y.safetensors").exists()


def test_data_of_other_classes_or_size_than_the_network_are_refused(
    golden: Golden, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = mst.create_model("mst_nano_patch2_window2_8", num_classes=7, in_chans=1)
    mst.save_checkpoint(model, tmp_path / "seven.safetensors")
    arguments = ["evaluate", str(tmp_path / "seven.safetensors"), "--output", str(tmp_path / "o"), "--dataset"]
    assert "digits has 10 classes" in fails([*arguments, "digits"], capfd)
    three = mst.create_model("mst_nano_patch2_window2_8", num_classes=10, in_chans=3)
    info = mst.CheckpointInfo(preprocessing=mst.Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3))
    mst.save_checkpoint(three, tmp_path / "three.safetensors", info)
    arguments[1] = str(tmp_path / "three.safetensors")
    assert "digits has 1 channel(s), the network takes 3" in fails([*arguments, "digits"], capfd)
    assert "it does not state its data set; give --dataset" in fails(arguments[:-1], capfd)
    larger = mst.create_model("mst_nano_patch2_window2_8", num_classes=10, in_chans=1, img_size=16)
    info = mst.CheckpointInfo(preprocessing=mst.Preprocessing(8, 1, (0.5,), (0.5,)))
    mst.save_checkpoint(larger, tmp_path / "larger.safetensors", info)
    arguments[1] = str(tmp_path / "larger.safetensors")
    assert "digits gives images of 1 x 8 x 8" in fails([*arguments, "digits"], capfd)


def test_output_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    line = fails(["train", "--output", str(tmp_path / "file")], capfd)
    assert "the output folder" in line
    assert "cannot be written" in line
    assert (tmp_path / "file").read_text() == "in the way"


SMALL = [
    "--train.epochs", "1", "--train.warmup-epochs", "0", "--train.batch-size", "4", "--train.num-workers", "0",
    "--train-images", "8", "--model-kwargs.embed-dim", "8", "--model-kwargs.depths", "1,1,1,1",
    "--model-kwargs.num-heads", "1,1,2,2",
]  # fmt: skip


@pytest.mark.parametrize("recipe", recipe_names())
def test_recipe_runs_to_its_end(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = "sweep" if recipe.startswith("sweep-") else "train"
    assert main([verb, "--config", recipe, "--print-config"]) == 0
    assert "masking_ratio" in capsys.readouterr().out
    if verb == "sweep":  # docs/results.md runs these in full
        return
    if recipe.split("-")[0] in ("digits", "fashion"):  # the quickstart and docs/results.md run these in full
        return
    name = recipe.removesuffix("-masked").removesuffix("-mst")
    events = {known: write for known, (write, _) in LAYOUTS.items()}
    data = {"cifar10": partial(write_cifar10, per_batch=4), "cifar100": partial(write_cifar100, count=8), **events}.get(
        name
    )
    if data is not None:
        data(tmp_path / "data")
    else:
        write_folder(tmp_path / "data", image_files(classes=3, train=3, test=1))
    swin = SwinTransformer(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), num_classes=9)
    save_file(swin.state_dict(), str(tmp_path / "swin.safetensors"))
    start = (
        ["--init-from", str(tmp_path / "swin.safetensors"), "--calibration-images", "2"]
        if "init_from" in recipe_path(recipe).read_text()
        else []
    )
    arguments = ["--data-path", str(tmp_path / "data"), "--output", str(tmp_path / "run"), *start, *SMALL]
    assert main(["train", "--config", recipe, *arguments]) == 0
    info = mst.read_checkpoint_info(tmp_path / "run" / "last.safetensors")
    assert info.dataset == name
    assert info.preprocessing is not None
    assert info.preprocessing.img_size == 224
    checkpoint = mst.CheckpointOptions(
        tmp_path / "run" / "last.safetensors", data_path=tmp_path / "data", max_images=1, device="cpu"
    )
    assert mst.run_simulation(checkpoint, mst.StepOptions(2)).result.num_images == 1


def swin_file(folder: Path) -> Path:
    """Weights of a small Swin for digits."""
    torch.manual_seed(0)
    swin = SwinTransformer(
        img_size=8, patch_size=2, window_size=2, in_chans=1, num_classes=7, embed_dim=8, depths=(1, 1), num_heads=(1, 1)
    )
    save_file(swin.state_dict(), str(folder / "swin.safetensors"))
    return folder / "swin.safetensors"


def test_import_of_a_swin_is_calibrated_and_can_be_trained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights, start = str(swin_file(tmp_path)), str(tmp_path / "start.safetensors")
    arguments = ["import", weights, "-o", start, "--img-size", "8", "--masking-ratio", "0.5", "--num-levels", "8"]
    assert "name the data set with --dataset" in fails(arguments, capfd)
    assert main([*arguments, "--dataset", "digits", "--calibration-images", "64"]) == 0
    assert "statistics and thresholds set from 64 training images" in capfd.readouterr().out
    model, info = mst.load_checkpoint(start), mst.read_checkpoint_info(start)
    assert (model.num_classes, model.config.num_levels, model.config.masking_ratio) == (10, 8, 0.5)
    assert info.preprocessing is not None
    assert len({round(s.threshold.item(), 4) for s in mst.neurons.find_sites(model).values()}) > 5
    sizes = [
        "--model-kwargs.embed-dim",
        "8",
        "--model-kwargs.mlp-ratio",
        "4",
        "--model-kwargs.mlp-batch-norm",
        "false",
    ]
    sizes += ["--model-kwargs.num-heads", "1,1"]
    for source in (weights, start):
        output = str(tmp_path / Path(source).stem)
        assert main(["train", "--init-from", source, "--output", output, *sizes, *FEW_IMAGES, *SHORT]) == 0
        assert f"starting from {source}" in capfd.readouterr().err
    line = fails(["train", "--init-from", weights, "--output", str(tmp_path / "x")], capfd)
    assert "the weights do not fit" in line


def test_import_from_timm_offline_names_the_remedy(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("mst.checkpoints.swin.timm.create_model", offline)
    name = "swin_tiny_patch4_window7_224"
    line = fails(["import", "--from-timm", name, "--dataset", "cifar10", "-o", str(tmp_path / "s.safetensors")], capfd)
    assert "could not be downloaded" in line
    assert "name the file with --weights" in line
    assert "is not a Swin of timm" in fails(
        ["import", "--from-timm", "resnet18", "--dataset", "digits", "--img-size", "8"], capfd
    )
    assert "there are no weights; name a file, or a Swin of timm" in fails(["import"], capfd)


def test_own_images_are_checked_trained_on_and_simulated_with_a_damaged_one_skipped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    files = image_files(classes=2, train=8, test=3)
    bad = [next(n for n in files if n.startswith("train")), next(n for n in files if n.startswith("val"))]
    data = f"folder:{write_folder(tmp_path / 'images', {**files, **dict.fromkeys(bad, b'no image')})}"
    assert main(["datasets", "check", data]) == 0
    assert "16 training and 6 test images of 3 x any px, 2 classes" in capfd.readouterr().out
    line = fails(["datasets", "check", data, "--decode"], capfd)
    assert "2 of the images" in line
    assert bad[0] in line
    common = ["--dataset", data, "--output", str(tmp_path / "run"), "--model-kwargs.img-size", "8", *SHORT]
    common += ["--train.batch-size", "4", "--train.num-workers", "1"]
    line = fails(["train", *common], capfd)
    assert "cannot be read as an image" in line
    assert "Traceback" not in line
    for leftover in (tmp_path / "run").iterdir():
        if leftover.is_file():
            leftover.unlink()
    with caplog.at_level(logging.WARNING):
        assert main(["train", *common, "--on-bad-image", "skip", "--train.num-workers", "0"]) == 0
    assert bad[0].rsplit("/", 1)[-1] in caplog.text
    arguments = [
        "simulate",
        str(tmp_path / "run" / "last.safetensors"),
        "--time-steps",
        "2",
        "--output",
        str(tmp_path / "s"),
    ]
    assert "--on-bad-image skip" in fails(arguments, capfd)
    assert main([*arguments, "--on-bad-image", "skip"]) == 0
    assert json.loads((tmp_path / "s" / "simulation.json").read_text())["num_images"] == 5


def test_options_inside_a_group_take_lists_and_switches() -> None:
    words = ["train", "--train.trackers", "tensorboard,wandb", "--train.sync-batch-norm", "--augment.horizontal-flip"]
    assert normalise(words) == [
        "train", '--train.trackers=["tensorboard", "wandb"]', "--train.sync_batch_norm", "true",
        "--augment.horizontal_flip", "true",
    ]  # fmt: skip


def test_import_of_a_swin_can_be_repeated(tmp_path: Path) -> None:
    weights = str(swin_file(tmp_path))
    states = []
    for name in ("a", "b"):
        output = str(tmp_path / f"{name}.safetensors")
        arguments = ["--img-size", "8", "--dataset", "digits", "--masking-ratio", "0.5", "--calibration-images", "32"]
        assert main(["import", weights, "-o", output, *arguments]) == 0
        states.append(mst.load_checkpoint(output).state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
