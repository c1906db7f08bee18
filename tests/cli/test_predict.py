"""`mst predict` on files, against `mst.simulate` on the same images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import mst
from mst.cli.main import main
from mst.experiments import CodingOptions, PredictionOptions, predict, prediction
from mst.simulation import readouts_of


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    test = mst.load_dataset("digits", img_size=8).test
    Path("digits").mkdir()
    for number in range(7):
        np.save(f"digits/{number}.npy", np.asarray(test.raw.read(number)[0]))
    return Path("digits")


@pytest.mark.parametrize("coding", [CodingOptions(), CodingOptions("lossless", burst=4, schedule="free")])
def test_predictions_are_those_of_a_simulation(
    coding: CodingOptions, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "IMAGES_OF_PART", 4)  # masks go on from part to part
    options = PredictionOptions(Path("zoo:digits-mst"), time_steps=20, batch_size=2, drawn=3, masking_ratio=0.3, seed=5)
    run = predict([pictures], options, coding)
    model, test = mst.load("digits-mst"), mst.load_dataset("digits", img_size=8).test
    mst.mask_spikes(model, 0.3, mst.models.spec_of(model).default_mask_sites)
    images = torch.stack([test[number][0] for number in range(7)])
    snn = mst.convert(model, coding.coding, images[:1], burst=coding.burst, schedule=coding.schedule)
    result = mst.simulate(snn, images, 20, seed=5, keep_step_logits=True)
    readouts = readouts_of(result)
    for number, each in enumerate(run.predictions):
        assert each.file == pictures / f"{number}.npy"
        answers = readouts[:, number].argmax(dim=1)
        assert [each.answer_at(step) for step in range(1, 21)] == answers.tolist()
        assert each.top[0] == each.answer == int(answers[-1])
        assert each.scores[0] == pytest.approx(float(readouts[-1, number].softmax(0).max()), abs=1e-5)
        if coding.coding == "lossless":
            assert result.settled_at is not None
            assert each.settled_at == int(result.settled_at[number])
            assert each.ann_answer == each.answer
            assert each.ann_difference < 1e-4
        else:
            assert each.settled_at is None
    assert run.spikes_per_neuron == pytest.approx(result.spikes_per_neuron)
    assert run.mean_steps == pytest.approx(result.mean_steps)
    assert len(run.drawn) == 3
    torch.testing.assert_close(run.drawn[2].image, torch.from_numpy(np.load(pictures / "2.npy")), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("rendered_figures")
def test_predict_shows_files_and_names_those_that_cannot_be_read(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.png").write_bytes(b"no picture")
    words = [
        "predict",
        "zoo:digits-mst",
        str(pictures),
        "bad.png",
        "--time-steps",
        "8",
        "--drawn",
        "2",
        "--output",
        "out",
    ]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert "1 of the files cannot be read" in shown.err.splitlines()[-1]
    assert "Not read: bad.png" in shown.out
    content = json.loads(Path("out/predictions.json").read_text())
    assert [each["file"] for each in content["files"]] == [f"digits/{number}.npy" for number in range(7)]
    assert content["unreadable"][0]["file"] == "bad.png"
    first = content["files"][0]
    assert first["answers"][0]["from_step"] == 1
    assert first["answers"][-1] == {"from_step": first["final_from_step"], "class": first["class"]}
    assert first["class_name"] == content["class_names"][first["class"]]
    assert Path("out/predictions.png").stat().st_size > 10_000
    assert json.loads(Path("out/run_record.json").read_text())["results"] == {"num_files": 7, "num_unreadable": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.png"], "no such file or folder: nowhere.png"),
        (["bad.png"], "no file can be read: bad.png: the file cannot be read as an image"),
        (["digits", "--slices", "4"], "slices has no effect on a network that takes pictures"),
        (["digits", "--burst", "4"], "burst has no effect"),
        (["digits", "--top", "0"], "top must be at least 1"),
        (["digits", "--coding", "lossless", "--resting-images", "8"], "resting_images needs training images"),
    ],
)
def test_predict_refuses_in_one_line(
    words: list[str], message: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.png").write_bytes(b"no picture")
    assert main(["predict", "zoo:digits-mst", *words]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mst: error")]
    assert message in line
