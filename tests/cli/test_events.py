"""Event data on the command line: from recordings or images to a spiking network that sees slices over time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from event_data import SMALL, bin_bytes, dat_bytes
from failing import fails
from image_data import image_files, write_folder
from mst.cli.datasets import DATASETS_VERBS
from mst.cli.main import main
from mst.data import Sensor, read_events
from small_runs import TINY_MST

pytestmark = pytest.mark.slow

NANO = [*TINY_MST, "--model-kwargs.window-size", "4"]
SHORT = [
    "--train.epochs", "1", "--train.warmup-epochs", "0", "--train.batch-size", "50", "--train.eval-batch-size", "500",
    "--train.device", "cpu",
]  # fmt: skip


def train(output: Path, *options: str) -> Path:
    arguments = ["train", "--dataset", "digits-dvs", "--train-images", "100", "--output", str(output), *SHORT]
    assert main([*arguments, *options]) == 0
    return output / "last.safetensors"


@pytest.fixture(scope="module")
def one_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ["--events.num-bins", "1", "--event-augment.time-window", "0.1", *NANO]
    return train(tmp_path_factory.mktemp("trained") / "one", *options)


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_network_of_one_bin_sees_whole_recordings_and_slices(one_bin: Path, tmp_path: Path) -> None:
    common = [str(one_bin), "--time-steps", "6", "--max-images", "40", "--device", "cpu"]
    for name, options in (("whole", []), ("one", ["--slices", "1"]), ("six", ["--slices", "6"])):
        assert main(["simulate", *common, *options, "--output", str(tmp_path / name)]) == 0
    whole, one, six = (content(tmp_path / name / "simulation.json") for name in ("whole", "one", "six"))
    assert whole["accuracy"] == one["accuracy"]
    assert whole["spikes_per_image"] == one["spikes_per_image"] != six["spikes_per_image"]
    assert (whole["slices"], six["slices"]) == (None, 6)
    for picture in ("event_frames.png", "event_scatter.png", "events.gif", "accuracy_vs_time.png"):
        assert (tmp_path / "six" / picture).is_file()
    assert main(["measure", *common, "--slices", "6", "--output", str(tmp_path / "m")]) == 0
    assert content(tmp_path / "m" / "measurement.json")["slices"] == 6
    operations = content(tmp_path / "m" / "measurement.json")["operations"]
    assert operations["patch_embed.proj"]["by_events"]
    assert operations["patch_embed.proj"]["snn"]["num_macs"] < 6 * operations["patch_embed.proj"]["ann"]["num_macs"]


def test_time_bins_are_aligned_to_three_channels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint = train(tmp_path / "t", "--align-chans", "3", *NANO)
    assert main(["evaluate", str(checkpoint), "--output", str(tmp_path / "e"), "--device", "cpu"]) == 0
    message = "sees 9 time bins as channels (frames) cannot see slices over time; train one with --events.num-bins 1"
    assert message in fails(["simulate", str(checkpoint), "--slices", "4", "--output", str(tmp_path / "s")], capfd)


def test_sensor_need_not_be_square(tmp_path: Path) -> None:
    for option, size in (([], "16,32"), (["--model", "resnet18_small", "--model-kwargs.width", "4"], "12,20")):
        name = option[1] if option else "mst"
        architecture = option or NANO
        checkpoint = train(
            tmp_path / name,
            "--img-size",
            size,
            "--events.num-bins",
            "1",
            "--events.pad-to-square",
            "false",
            *architecture,
        )
        arguments = [str(checkpoint), "--slices", "3", "--time-steps", "3", "--max-images", "9", "--device", "cpu"]
        assert main(["simulate", *arguments, "--output", str(tmp_path / f"{name}-s")]) == 0


def test_recordings_from_images_are_trained_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = write_folder(tmp_path / "images", image_files(classes=2, train=4, test=2))
    recordings = tmp_path / "recordings"
    arguments = ["datasets", "from-images", str(images), "--sensor", "16,20", "--output", str(recordings)]
    assert main(arguments) == 0
    assert "12 recordings with" in capfd.readouterr().out
    files = sorted(recordings.rglob("*.dat"))
    assert len(files) == 12
    assert {path.parent.relative_to(recordings).as_posix() for path in files} == {
        "train/n00001000", "train/n00001001", "test/n00001000", "test/n00001001",
    }  # fmt: skip
    assert read_events(files[0]).sensor == Sensor(16, 20)
    assert content(recordings / "camera.json")["simulated"] is True
    before = [path.read_bytes() for path in files]
    assert main(arguments) == 0
    assert [path.read_bytes() for path in files] == before
    assert main(["datasets", "check", f"events:{recordings}", "--decode"]) == 0
    out = capfd.readouterr().out
    assert "8 training and 4 test recordings of events, 16 x 20 px" in out
    assert "read all recordings: 0 damaged" in out
    trained = ["train", "--dataset", f"events:{recordings}", "--events.num-bins", "1", "--img-size", "16", *NANO]
    assert main([*trained, *SHORT, "--train.batch-size", "4", "--output", str(tmp_path / "run")]) == 0
    checkpoint = str(tmp_path / "run" / "last.safetensors")
    assert main(["simulate", checkpoint, "--time-steps", "4", "--slices", "2", "--device", "cpu",
                 "--output", str(tmp_path / "sim")]) == 0  # fmt: skip


def test_recordings_made_with_other_settings_are_not_mixed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = write_folder(tmp_path / "images", image_files(classes=2, train=2, test=1))
    arguments = ["datasets", "from-images", str(images), "--output", str(tmp_path / "made"), "--sensor"]
    assert main([*arguments, "16,16"]) == 0
    assert "holds recordings made otherwise" in fails([*arguments, "20,20"], capfd)
    next((images / "train").rglob("*.JPEG")).unlink()
    assert "holds recordings made otherwise" in fails([*arguments, "16,16"], capfd)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "holds other files" in fails(
        ["datasets", "from-images", str(images), "--output", str(tmp_path / "full")], capfd
    )
    inside = str(images / "train")
    assert "must lie outside" in fails(["datasets", "from-images", str(images), "--output", inside], capfd)


def test_sweep_takes_the_sensor_and_the_bins_of_a_checkpoint(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "images", image_files(classes=2, train=4, test=2))
    made = ["--sensor", "20,32", "--file-format", "bin", "--output", str(tmp_path / "made")]
    assert main(["datasets", "from-images", str(images), *made]) == 0
    data = ["--dataset", f"events:{tmp_path / 'made'}", "--img-size", "16", "--events.sensor", "20,32"]
    batch = ["--train.batch-size", "4"]
    trained = ["train", *data, "--events.num-bins", "1", *NANO, *SHORT, *batch, "--output", str(tmp_path / "run")]
    assert main(trained) == 0
    checkpoint = str(tmp_path / "run" / "last.safetensors")
    common = ["--checkpoint", checkpoint, "--masking-ratios", "0", "--mask-seeds", "0", "--time-steps", "2"]
    assert main(["sweep", "--method", "evaluate", *common, "--output", str(tmp_path / "e")]) == 0
    tuned = ["sweep", "--method", "fine-tune", *common, "--img-size", "16", *NANO, *SHORT, *batch]
    assert main([*tuned, "--output", str(tmp_path / "f")]) == 0


@pytest.mark.parametrize("file_format", ["aedat3", "npz", "bin"])
def test_recordings_written_in_every_format_are_read_again(file_format: str, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "images", image_files(classes=2, train=2, test=1))
    made = ["--sensor", "16,16", "--file-format", file_format, "--output", str(tmp_path / "made")]
    assert main(["datasets", "from-images", str(images), *made]) == 0
    name = f"events:{tmp_path / 'made'}"
    stated = [] if file_format == "npz" else ["--sensor", "16,16"]
    assert main(["datasets", "check", name, *stated, "--decode"]) == 0


def test_damaged_image_ends_or_is_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = write_folder(tmp_path / "images", image_files(classes=2, train=2, test=1))
    next(images.rglob("*.JPEG")).write_bytes(b"no image")
    arguments = ["datasets", "from-images", str(images), "--sensor", "16,16", "--output", str(tmp_path / "out")]
    assert "cannot be read as an image" in fails(arguments, capfd)
    assert main([*arguments, "--on-bad-image", "skip"]) == 0
    assert "5 recordings" in (out := capfd.readouterr().out)
    assert "1 images could not be read" in out


@pytest.mark.usefixtures("rendered_figures")
def test_datasets_show_draws_a_recording(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.dat").write_bytes(dat_bytes(SMALL, "% Version 2\n% Height 8\n% Width 10\n"))
    assert main(["datasets", "show", str(tmp_path / "a.dat"), "--output", str(tmp_path / "p")]) == 0
    out = capfd.readouterr().out
    assert "a.dat: 5 events in 131.1 ms on 8 x 10 px; 60.0 % brighter; columns 0 to 9, rows 0 to 7" in out
    with Image.open(tmp_path / "p" / "events.gif") as image:
        assert image.n_frames > 1  # type: ignore[attr-defined]
    assert main(["datasets", "show", "digits-dvs", "--index", "2", "--output", str(tmp_path / "d")]) == 0
    assert "digits-dvs, test recording 2, " in capfd.readouterr().out


def test_damaged_recordings_are_named_by_check_and_counted_by_simulate(
    one_bin: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [(t, x % 16, y, p) for t, x, y, p in SMALL]
    for part in ("train", "test"):
        for label in range(10):
            for i in range(2):
                path = tmp_path / "r" / part / str(label) / f"{i}.dat"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(dat_bytes(rows, "% Version 2\n% Height 16\n% Width 16\n"))
    bad = tmp_path / "r" / "test" / "3" / "1.dat"
    bad.write_bytes(bad.read_bytes()[:-5])
    name = f"events:{tmp_path / 'r'}"
    message = fails(["datasets", "check", name, "--decode"], capfd)
    assert "1 of the recordings" in message
    assert f"{bad}, byte 69 (event 4): the file ends inside an event" in message
    arguments = ["simulate", str(one_bin), "--dataset", name, "--time-steps", "2", "--device", "cpu"]
    assert f"{bad}, byte 69" in fails([*arguments, "--output", str(tmp_path / "s")], capfd)
    assert main([*arguments, "--output", str(tmp_path / "s"), "--on-bad-image", "skip"]) == 0
    assert "1 of 20 test images could not be read and are not counted" in " ".join(capfd.readouterr().err.split())
    assert content(tmp_path / "s" / "run_record.json")["results"]["num_images"] == 19


REFUSED = [
    (["datasets", "show", "digits"], "digits holds images, not recordings"),
    (["datasets", "show", "digits-dvs", "--index", "360"], "index must be from 0 to 359"),
    (["datasets", "download", "n-cars"], "'n-cars' cannot be downloaded"),
    (["datasets", "from-images", "nowhere"], "no such folder of images: nowhere"),
    (["train", "--dataset", "digits-dvs", "--augment.horizontal-flip"], "augment (use event_augment) has no effect"),
    (["train", "--dataset", "digits", "--events.num-bins", "1"], "events has no effect: digits holds images"),
    (["train", "--dataset", "digits", "--event-augment.shift", "1"], "event_augment has no effect"),
    (["train", "--dataset", "digits-dvs", "--events.sensor", "20,20"], "sensor's size has no effect on digits-dvs"),
    (["datasets", "show", "digits-dvs", "--sensor", "20,20"], "sensor's size has no effect on digits-dvs"),
    (["train", "--dataset", "digits-dvs", "--events.num-bins", "0"], "frames need at least 1 time bin"),
    (["train", "--dataset", "digits-dvs", "--model-kwargs.align-chans", "3"], "model_kwargs may not hold align_chans"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_options_and_paths_without_effect_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    takes_output = not {"check", "download"} & set(arguments)
    assert message in fails([*arguments, *(["--output", str(tmp_path / "o")] if takes_output else [])], capfd)


@pytest.mark.parametrize(("words", "message"), [
    (["--decode"], "unknown option --decode"),
    (["check", "digits", "--index", "3"], "unknown option --index"),
    (["from-images", "nowhere", "--data-path", "x"], "unknown option --data-path"),
    (["chek", "digits"], "unknown subcommand 'chek'; did you mean check? Subcommands: list, check, show,"),
    (["--check", "digits"], "--check is a subcommand now; write mst datasets check digits"),
    (["--show=a.dat"], "--show is a subcommand now; write mst datasets show a.dat"),
    (["--download"], "--download is a subcommand now; write mst datasets download ..."),
    (["events-from", "photos"], "events-from is a subcommand now; write mst datasets from-images photos"),
    (["--events_from", "photos"], "--events-from is a subcommand now; write mst datasets from-images photos"),
    (["check", "digits", "--show", "x"], "--show is a subcommand now; write mst datasets show x"),
])  # fmt: skip
def test_datasets_refuses_options_of_other_subcommands_and_former_spellings(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(["datasets", *words], capfd, code=2)


@pytest.mark.parametrize("subcommand", DATASETS_VERBS)
def test_datasets_help_explains_each_subcommand(subcommand: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "--help"]) == 0
    assert f"\n  {subcommand} " in capfd.readouterr().out
    assert main(["datasets", subcommand, "--help"]) == 0
    assert f"usage: mst datasets {subcommand}" in capfd.readouterr().out


@pytest.mark.parametrize(("options", "message"), [
    (["--slices", "9", "--time-steps", "8"], "slices must be from 1 to the 8 time steps, got 9"),
    (["--slices", "0", "--time-steps", "8"], "slices must be from 1 to the 8 time steps, got 0"),
    (["--dataset", "digits"], "digits holds images, the network takes frames of events"),
])  # fmt: skip
def test_simulation_that_does_not_fit_the_network_is_refused(
    options: list[str], message: str, one_bin: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(["simulate", str(one_bin), *options, "--output", str(tmp_path / "o")], capfd)


def test_weights_for_pictures_are_not_imported_for_events(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["import", "weights.pth", "--dataset", "digits-dvs", "--output", str(tmp_path / "x.safetensors")]
    assert "mst train --dataset digits-dvs --align-chans 3 --init-from weights.pth" in fails(arguments, capfd)


def test_recording_without_a_sensor_takes_the_one_given(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.bin").write_bytes(bin_bytes(SMALL))
    assert (
        main(["datasets", "show", str(tmp_path / "a.bin"), "--sensor", "34,34", "--output", str(tmp_path / "p")]) == 0
    )
    assert "on 34 x 34 px" in capfd.readouterr().out
    arguments = ["datasets", "show", str(tmp_path / "a.bin"), "--sensor", "5,5", "--output", str(tmp_path / "p")]
    assert "is outside the sensor of 5 x 5 px" in fails(arguments, capfd)
