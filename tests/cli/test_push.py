"""`mst push`, and hf:USER/NAME in place of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mst
from hub_stand_in import Hub, serving
from mst import CheckpointInfo
from mst.checkpoints import hub as hub_module
from mst.cli.main import main

REPOSITORY = "me/digits-mst"
PUSH = ["push", "zoo:digits-mst", REPOSITORY]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    hub_module.fetch.cache_clear()
    with serving(monkeypatch, str(tmp_path / "cache")) as found:
        monkeypatch.setenv("HF_TOKEN", found.token)
        yield found
    hub_module.fetch.cache_clear()


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub itself
def test_push_publishes_a_card_of_what_was_measured(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    coding = ["--coding", "lossless", "--burst", "4", "--time-steps", "40", "--max-images", "20"]
    assert main(["measure", "zoo:digits-mst", *coding, "--output", "priced"]) == 0
    assert main(["evaluate", "zoo:digits-mst", "--max-images", "20", "--output", "seen"]) == 0
    assert main([*PUSH, "--runs", "priced", "seen", "--license", "mit"]) == 0
    (commit,) = hub.repositories[REPOSITORY].commits
    assert f"hf:{REPOSITORY}@{commit}" in capsys.readouterr().out
    card = hub.repositories[REPOSITORY].commits[commit]["README.md"].decode()
    measured = json.loads(Path("priced/measurement.json").read_text())
    for text in (
        "license: mit",
        f'mst.load("hf:{REPOSITORY}")',
        "| image | 1 x 8 x 8",
        f"{measured['spikes_per_neuron']:.2f} | {measured['energy_ratio']:.2f}x |",
        "1. `mst measure zoo:digits-mst --max-images 20 --time-steps 40 --coding lossless --burst 4",
        f"Run 1: {measured['verdict']['text']}",
        "2. `mst evaluate zoo:digits-mst --max-images 20",
    ):
        assert text in card
    assert main(["evaluate", f"hf:{REPOSITORY}", "--max-images", "20", "--output", "again"]) == 0
    record = json.loads(Path("again/run_record.json").read_text())
    assert record["checkpoint"] == f"hf:{REPOSITORY}@{commit}"
    assert record["settings"]["checkpoint"] == f"hf:{REPOSITORY}@{commit}"
    assert (
        record["results"]["ann_accuracy"]
        == json.loads(Path("seen/run_record.json").read_text())["results"]["ann_accuracy"]
    )


def test_push_knows_the_runs_of_a_file_by_its_digest(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    network = mst.load("zoo:digits-mst")
    mst.save_checkpoint(network, "mine.safetensors", CheckpointInfo(dataset="digits"))
    assert main(["evaluate", "mine.safetensors", "--max-images", "20", "--output", "seen"]) == 0
    Path("mine.safetensors").rename("moved.safetensors")
    assert main(["push", "moved.safetensors", REPOSITORY, "--runs", "seen", "--dry-run"]) == 0
    assert "1. `mst evaluate" in capsys.readouterr().out
    with torch.no_grad():
        next(network.parameters()).add_(1)
    mst.save_checkpoint(network, "mine.safetensors", CheckpointInfo(dataset="digits"))
    assert main(["push", "mine.safetensors", REPOSITORY, "--runs", "seen", "--dry-run"]) == 1
    assert "the file has been written anew since this run" in capsys.readouterr().err


def test_dry_run_publishes_nothing(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PUSH, "--dry-run"]) == 0
    assert "# digits-mst" in capsys.readouterr().out
    Path("card.md").write_text("# Mine [a link](x)")
    assert main([*PUSH, "--card", "card.md", "--dry-run"]) == 0
    assert capsys.readouterr().out == "# Mine [a link](x)\n"
    assert not hub.repositories
    assert not hub.requests


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "nowhere"], "there is no such folder"),
        (["--runs", "other"], "it is a run of another checkpoint, zoo:digits-dvs-mst"),
        (["--runs", "trained"], "it is a run of mst train"),
        (["--card", "nowhere.md"], "no such card"),
        (["--card", "card.md", "--license", "mit"], "go into a card that is written here"),
        (["--license", "My licence"], "a licence is written like apache-2.0"),
    ],
)
def test_push_refuses_before_anything_is_sent(
    hub: Hub, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    for folder, verb in (("other", "evaluate"), ("trained", "train")):
        Path(folder).mkdir()
        Path(folder, "run_record.json").write_text(json.dumps({"verb": verb, "checkpoint": "zoo:digits-dvs-mst"}))
    Path("card.md").write_text("# Mine")
    assert main([*PUSH, *words]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not hub.requests
