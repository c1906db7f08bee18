"""The Python code shown in README and several pages runs unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mst
from mst.conversion import CODINGS
from mst.data import DATASETS
from mst.measure import COST_MODELS
from mst.neurons import MASK_RULES
from mst.options import with_changes
from run_records import write_run

ROOT = Path(__file__).parents[1]


def run(document: str, scope: dict[str, Any]) -> dict[str, Any]:
    """Run the code blocks of a document one after another."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), scope)
    return scope


@pytest.fixture
def registries() -> Iterator[None]:
    """Remove everything that a document registers."""
    tables: tuple[dict[str, Any], ...] = (CODINGS, MASK_RULES, DATASETS, COST_MODELS)
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        for name in table.keys() - old.keys():
            del table[name]


@pytest.mark.slow
def test_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load_small(name: str, changes: dict[str, Any]) -> Any:
        small = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)}
        short = {"train.epochs": 3, "train.warmup_epochs": 1, "train_images": 128, "model_kwargs": small}
        return with_changes(load_recipe(name, changes), short)

    load_recipe = mst.load_recipe
    monkeypatch.setattr(mst, "load_recipe", load_small)
    monkeypatch.chdir(tmp_path)
    scope = run("README.md", {"__name__": "readme"})
    assert scope["energy"].simulation.result.num_settled == 360
    assert (tmp_path / "runs" / "own.safetensors").is_file()
    assert len(capsys.readouterr().out) < 2000  # results print in a few words


def test_extending_runs(
    registries: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = run("docs/extending.md", {"__name__": "extending"})
    assert "leaky" in capsys.readouterr().out
    assert scope["result"].coding == "leaky"
    masked = {site.mask.name for site in scope["again"].modules() if getattr(site, "mask", None) is not None}
    assert masked == {"image"}
    assert len(scope["splits"].train) == 80
    assert scope["estimate"].snn.energy_pj > 0


def test_diagnose_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope = run("docs/diagnose.md", {"__name__": "diagnose"})
    assert len(scope["diagnosis"].sites) == 2
    assert capsys.readouterr().out.count(".input_site") == 2
    assert scope["diagnosis"].codings[-1].num_settled == 8


def test_zoo_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope = run("docs/zoo.md", {"__name__": "zoo"})
    assert re.match(r"99\.17 % after \d", capsys.readouterr().out)
    assert scope["result"].num_images == 360


def test_report_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    for name in ("rate", "lossless"):
        write_run(tmp_path / "runs" / name, name)
    scope = run("docs/report.md", {"__name__": "report"})
    assert len(list((tmp_path / "figures").iterdir())) == 2 * len(scope["page"].charts)
    assert (tmp_path / "report.html").is_file()


def test_export_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nir")
    monkeypatch.chdir(tmp_path)
    scope = run("docs/export.md", {"__name__": "export"})
    said = capsys.readouterr().out
    assert re.match(r"0 of \d+ neuron-steps differ, \d{3,} spikes", said)
    assert "sinabs: faithful; alone it reads: several spikes" in said
    assert "tensor(True)" in said
    assert scope["check"].fits


def test_pages_of_data_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    data = run("docs/data.md", {"__name__": "data"})
    assert len(data["fewer"].train) == 500
    assert data["check"].damaged == ()
    events = run("docs/events.md", {"__name__": "events"})
    assert {path.name for path in tmp_path.iterdir()} >= {
        "event_frames.png",
        "event_scatter.png",
        "events.gif",
        "one.dat",
    }
    assert events["frames"].shape == (18, 16, 16)
    assert events["slices"].shape == (64, 2, 16, 16)
    assert events["slices"].sum() == len(events["events"])
    assert events["again"].events.tobytes() == events["events"].tobytes()
    assert (events["result"].num_steps, events["result"].logits.shape) == (16, (1, 10))
    assert "SimulationResult(" in capsys.readouterr().out


def test_examples_of_extending_are_short() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    assert max(len([line for line in block.splitlines() if line.strip()]) for block in blocks) <= 24
