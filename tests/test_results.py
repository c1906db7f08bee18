"""Tables, figures and csv files of the documentation are those of the run records in results/."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mst.zoo import card

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "results"))

import run  # noqa: E402
import write  # noqa: E402
from writing import TABLES, filled, markers, read_records  # noqa: E402
from writing.pages import PAGES, UnknownTableError  # noqa: E402
from writing.records import file_of, runs_of  # noqa: E402


def test_pages_and_csv_files_are_those_of_the_records() -> None:
    changed = [path.name for path, text in write.texts().items() if path.read_text(encoding="utf-8") != text]
    assert changed == [], "make results writes them again"
    assert len(markers((ROOT / "docs/results.md").read_text(encoding="utf-8"))) > 5


def test_figures_are_those_of_the_records() -> None:
    assert write.stale_figures() == [], "make results draws them again"


def test_figure_that_differs_from_its_record_is_mended() -> None:
    page = (ROOT / "docs/zoo.md").read_text(encoding="utf-8")
    changed = page.replace("0.27x", "0.26x")
    assert changed != page
    assert filled(changed, read_records()) == page


@pytest.mark.parametrize(("name", "fault"), [("none", "no function writes"), ("zoo", "needs 'zoo/digits-mst'")])
def test_table_without_function_or_record_is_refused(name: str, fault: str) -> None:
    with pytest.raises(UnknownTableError, match=fault):
        filled(f"<!-- table: {name} -->\n<!-- end -->", {})


def test_every_run_has_a_record_and_every_table_a_page() -> None:
    assert {each.name for each in run.read_runs()} == set(read_records())
    shown = [name for page in PAGES for name in markers((ROOT / page).read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(TABLES)


def test_pages_hold_no_broken_marker() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert len(re.findall("<!-- table:", text)) == len(re.findall("<!-- end -->", text)) == len(markers(text))


def test_records_are_of_the_listed_commands_and_hold_no_path() -> None:
    commands = {each.name: list(each.commands) for each in run.read_runs()}
    for name, record in read_records().items():
        assert record["commands"] == commands[name]
        assert record["versions"]["torch"]
        assert record["git_commit"]
        assert not re.search(r'"(/|[A-Z]:\\)', (ROOT / f"results/{name}.json").read_text(encoding="utf-8"))


def test_cards_of_the_zoo_state_what_the_records_hold() -> None:
    for name, record in read_records().items():
        if name.startswith("zoo/"):
            stated = card(name.removeprefix("zoo/"))
            assert file_of(record, "evaluation.json")["ann_accuracy"] == pytest.approx(stated.accuracy, abs=1e-4)
            spikes = {(run["coding"], round(run["spikes_per_neuron"], 1)) for run in runs_of(record)}
            assert {
                (run.options.get("coding", "rate"), round(run.spikes_per_neuron, 1)) for run in stated.runs
            } == spikes


def test_records_are_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "results").rglob("*.json")) < 750_000


def test_record_keeps_what_was_written_and_printed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("p,rule\n0.5,q\n")
    printed = "note\n\n### MST\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    (tmp_path / "a.json").write_text(
        '{"settings": {"data_path": "/x"}, "git_commit": "c", "versions": {}, "y": 0.123456789}'
    )
    kept = run.record(run.Run("t/n", ("mst x",), ("*.csv", "*.json")), tmp_path, printed)
    assert kept["files"] == {"rows.csv": [{"p": 0.5, "rule": "q"}], "a.json": {"y": 0.123457}}
    assert kept["tables"] == [{"title": "MST", "columns": ["a", "b"], "rows": [["1", "2"]]}]
    assert kept["git_commit"] == "c"
