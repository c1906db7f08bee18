"""The notebooks run, and what is stored of them is what a reader should see."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def stored(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def code_cells(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def words_of(cell: dict[str, Any]) -> str:
    """What a cell has printed, with # for each number: last digits differ from machine to machine."""
    text = "".join("".join(output.get("text", ())) for output in cell["outputs"])
    return " ".join(re.sub(r"\d[\d.,e+-]*", "#", text).split())


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["events", "own_network", "quickstart"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array_(_|wrap):DeprecationWarning")  # of torch's tensors, in matplotlib
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_gives_what_is_stored(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specification = importlib.util.spec_from_file_location("run_notebooks", FOLDER / "run.py")
    assert specification is not None
    assert specification.loader is not None
    run = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *args, **how: None)  # drawing takes longest
    content = stored(path)
    with mpl.rc_context({"backend": "agg"}):
        done = run.executed(content, path.name)
    for stored_cell, cell in zip(code_cells(content), code_cells(done), strict=True):
        kinds = [each["output_type"] for each in stored_cell["outputs"]]
        assert [each["output_type"] for each in cell["outputs"]] == kinds
        assert words_of(cell) == words_of(stored_cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_clean(path: Path) -> None:
    content = stored(path)
    assert path.stat().st_size < 300 * 1024
    assert set(content["metadata"]) == {"kernelspec"}
    assert [cell["execution_count"] for cell in code_cells(content)] == [*range(1, len(code_cells(content)) + 1)]
    outputs = [output for cell in code_cells(content) for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} == {"stdout"}
    assert sum(output["output_type"] == "display_data" for output in outputs) >= 3
    assert all(cell["metadata"] == {} for cell in content["cells"])
    text = re.sub('"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
    assert not re.findall(r"/(?:home|root|work|tmp|usr|Users)/\S*|Traceback|Warning:", text)
