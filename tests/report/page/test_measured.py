"""Energies of a measurement, with a budget and as an earlier version recorded them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mst.experiments.run_files import Fields, read_fields
from mst.report.page.measured import after_step, by_kind, by_site, energy_ratio, scope, totals
from run_records import write_measurement

BUDGET: dict[str, Any] = {
    "total": {"snn_energy_pj": 6.0, "ann_energy_pj": 8.0},
    "by_kind": {"linear": {"snn_energy_pj": 4.0, "ann_energy_pj": 8.0}, "neurons": {"snn_energy_pj": 2.0}},
    "by_site": {"first": {"snn_energy_pj": 6.0, "ann_energy_pj": 8.0}},
    "snn_energy_pj_by_step": {"linear": [3.0, 1.0], "neurons": [1.0, 1.0]},
}


def test_energies_of_a_budget_hold_everything() -> None:
    measurement = Fields("file", {"budget": BUDGET, "energy_pj": {"snn": 1.0, "ann": 1.0}})
    assert totals(measurement) == (6.0, 8.0)
    assert energy_ratio(measurement) == 0.75
    assert by_kind(measurement) == {"linear": (4.0, 8.0), "neurons": (2.0, 0.0)}
    assert by_site(measurement) == {"first": (6.0, 8.0)}
    assert after_step(measurement) == [4.0, 6.0]
    assert "neurons" in scope(measurement)


def test_energies_of_an_earlier_version_hold_maps_products_and_functions(tmp_path: Path) -> None:
    parts = {"whole": {"snn_energy_pj": 13.0, "ann_energy_pj": 47.0}, "functions": {"snn_energy_pj": 1.0}}
    rows = {"conv": {"kind": "linear", "snn": {"energy_pj": 12.0}}, "softmax": {"kind": "softmax", "snn": {}}}
    write_measurement(tmp_path, parts=parts, operations=rows, whole_energy_pj_after_step=[5.0, 13.0])
    measurement = read_fields(tmp_path / "measurement.json")
    assert totals(measurement) == (13.0, 47.0)
    assert by_kind(measurement) == {"linear": (12.0, 0.0), "function": (1.0, 0.0)}
    assert after_step(measurement) == [5.0, 13.0]
    assert scope(measurement) == "maps, products and functions"


@pytest.mark.parametrize("content", [{}, {"energy_pj": None}])
def test_energies_that_are_not_there_are_none(content: dict[str, Any]) -> None:
    measurement = Fields("file", content)
    assert totals(measurement) is None
    assert energy_ratio(measurement) is None
    assert after_step(measurement) == []
    assert by_kind(measurement) == by_site(measurement) == {}
