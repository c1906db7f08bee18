from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

import mst
from counted_by_hand import ALL_ONES, by_hand
from mst.report import budget_figure, budget_tables
from mst.report.budget import stages_by_kind


def shown(tables: object) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(*tables)  # type: ignore[misc]
    return capture.get()


def test_budget_tables_show_counts_by_every_axis() -> None:
    result = by_hand("rate", 16, masking_ratio=0.5)
    text = shown(budget_tables(mst.estimate_energy(result, ALL_ONES), result))
    titles = ("kind of row", "kind of operation", "part of the network", "site that drives it")
    assert all(f"Energy per image by {title}" in text for title in titles)
    assert "in single steps" in text
    masks = text[text.index("Masks: what the dropped") :]
    assert f"{result.dropped_counts['site']:,}" in masks


def test_budget_tables_name_what_a_model_leaves_out() -> None:
    result = by_hand("rate")
    text = shown(budget_tables(mst.estimate_energy(result), result))
    (line,) = [line for line in text.splitlines() if line.strip().startswith("membrane read")]
    assert line.split() == ["membrane", "read", "left", "out", "left", "out"]
    assert "Masks" not in text


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_budget_figure_draws_stages_and_steps(tmp_path: Path, coding: str) -> None:
    estimate = mst.estimate_energy(by_hand(coding, 8))
    stages = stages_by_kind(estimate)
    assert list(stages) == ["first", "last", "site", "input"]
    assert sum(sum(snn.values()) for snn, _ in stages.values()) == pytest.approx(estimate.everything.snn.energy_pj)
    assert sum(ann for _, ann in stages.values()) == pytest.approx(estimate.everything.ann.energy_pj)
    assert budget_figure(estimate, tmp_path / "budget.png").read_bytes()[:4] == b"\x89PNG"
