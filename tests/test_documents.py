"""The Python code shown in README and several pages runs unchanged."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import mst
from mst.cli.main import main
from mst.conversion import CODINGS
from mst.data import DATASETS
from mst.measure import COST_MODELS
from mst.neurons import MASK_RULES
from mst.options import with_changes
from run_records import write_run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIALS = sorted(page.stem for page in (DOCS / "tutorials").glob("*.md") if page.stem != "index")
GENERATED = {"contributing.md", "changelog.md", "security.md"}
"""Pages that docs/hooks.py makes of files beside docs/."""

MARKED_BLOCK = re.compile(r"(?:^([^\n]*)\n\n)?^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""Line before a block, kind of block, code."""


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


def test_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    scope = run("README.md", {"__name__": "readme"})
    assert scope["lossless"].num_settled == 360
    assert scope["lossless"].accuracy[-1] == pytest.approx(0.9917, abs=1e-4)
    assert scope["result"].num_settled == 64
    assert (tmp_path / "own.safetensors").is_file()
    assert len(capsys.readouterr().out) < 1000  # results print in a few words


@pytest.mark.slow
def test_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_small(name: str, changes: dict[str, Any]) -> Any:
        small = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1)}
        short = {"train.epochs": 1, "train.warmup_epochs": 0, "train_images": 128, "model_kwargs": small}
        return with_changes(load_recipe(name, changes), short)

    load_recipe = mst.load_recipe
    monkeypatch.setattr(mst, "load_recipe", load_small)
    monkeypatch.chdir(tmp_path)
    scope = run("docs/index.md", {"__name__": "start"})
    assert scope["energy"].simulation.result.num_settled == 360
    assert scope["result"].num_settled == 4


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


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and commands, in order, except blocks that a line above them says are not run."""
    if name == "onto-a-chip":
        pytest.importorskip("nir")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"__name__": name}
    num_run = 0
    for before, kind, code in MARKED_BLOCK.findall((DOCS / "tutorials" / f"{name}.md").read_text(encoding="utf-8")):
        if before.startswith("*Not run by the tests"):
            continue
        num_run += 1
        if kind == "python":
            exec(compile(code, name, "exec"), scope)
            continue
        for line in code.splitlines():
            verb, *words = shlex.split(line)
            assert verb == "mst"
            assert main(words) == 0, line
    assert num_run > 0


def test_masking_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope = run("docs/masking.md", {"__name__": "masking"})
    assert capsys.readouterr().out.count("dropped") == 6  # q, k and scores of two blocks
    assert scope["after"].spikes_per_image < scope["before"].spikes_per_image


def test_pages_are_in_the_navigation() -> None:
    def pages(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        else:
            for each in part.values() if isinstance(part, dict) else part:
                yield from pages(each)

    navigation = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert len(navigation) == len(set(navigation))
    assert set(navigation) == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} | GENERATED


def test_links_lead_somewhere() -> None:
    """Links of every page to files here, and to headings of pages here."""
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if "://" in target or target.startswith("mailto:"):
                continue
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def _prose(page: Path) -> str:
    return re.sub(
        r"```.*?```|^    [^\n]*$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


def _anchors(page: Path) -> set[str]:
    """The names that headings get, on the site and where Markdown is shown as it is."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = [
        re.sub(r"[^\w\s-]", "", title).strip().lower() for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    ]
    return {re.sub(r"\s", "-", title) for title in headings}


def test_examples_of_extending_are_short() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    assert max(len([line for line in block.splitlines() if line.strip()]) for block in blocks) <= 24
