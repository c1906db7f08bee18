from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from rich.console import Console

import mst
from conftest import randomise, tiny_config
from mst.experiments import measurement_record, run_record, simulation_record, write_run_record
from mst.files import write_json
from mst.measure import EnergyEstimate
from mst.models import MaskedSpikingTransformer
from mst.report import (
    accuracy_table,
    accuracy_vs_time,
    energy_bars,
    energy_table,
    firing_rates,
    function_table,
    operation_table,
    site_table,
    steps_shown,
)
from mst.report.figures import energy_parts
from mst.simulation import SimulationResult


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    model = MaskedSpikingTransformer(tiny_config()).eval()
    randomise(model)
    return mst.simulate(mst.convert(model), (torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])), 12)


@pytest.fixture(scope="module")
def estimate(result: SimulationResult) -> EnergyEstimate:
    return mst.estimate_energy(result)


def text(table: object) -> str:
    console = Console(width=250, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    console.file.close()
    return console.export_text()


def test_simulation_record_holds_what_others_rely_on(result: SimulationResult, tmp_path: Path) -> None:
    record = json.loads(write_json(tmp_path / "simulation.json", simulation_record(result, 0.5)).read_text())
    assert record["ann_accuracy"] == 0.5
    assert len(record["accuracy"]) == record["num_steps"] == 12
    assert record["num_images"] == 3
    assert 0 < record["firing_rate"] < 1
    for name, site in record["sites"].items():
        assert site["spikes"] == result.spike_counts[name]
        assert site["firing_rate"] == pytest.approx(site["spikes"] / (site["num_neurons"] * 3 * 12))
        assert site["threshold"] > 0


def test_measurement_record_rows_sum_to_its_totals(
    result: SimulationResult, estimate: EnergyEstimate, tmp_path: Path
) -> None:
    record = json.loads(write_json(tmp_path / "measurement.json", measurement_record(estimate, result)).read_text())
    for side in ("snn", "ann"):
        for figure in ("energy_pj", "num_macs", "num_acs"):
            total = sum(row[side][figure] for row in record["operations"].values())
            assert total == pytest.approx(record[figure][side])
            by_site = sum(site[side][figure] for site in record["sites"].values())
            assert by_site == pytest.approx(record[figure][side])
    assert record["energy_ratio"] == pytest.approx(record["energy_pj"]["snn"] / record["energy_pj"]["ann"])
    assert record["constants"]["mac_pj"] == 4.6
    assert any("Not counted" in line for line in record["assumptions"])
    parts, functions = record["parts"], record["functions"]
    for side in ("snn", "ann"):
        total = sum(row[side]["energy_pj"] for row in functions.values())
        assert total == pytest.approx(parts["functions"][f"{side}_energy_pj"])
        assert parts["whole"][f"{side}_energy_pj"] == pytest.approx(
            total + parts["maps_and_products"][f"{side}_energy_pj"]
        )
    assert functions["norm (layer_norm)"]["ann"]["numbers"]["reciprocal_root"] == 4  # one for each token
    assert functions["norm (layer_norm)"]["evaluations"] == 12
    assert record["constants"]["algorithms"]["exp"].startswith("9 multiplications and 10 additions")


def test_write_json_refuses_values_without_a_json_form_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "x.json", {"a": (1, Path("b"))})
    assert json.loads(path.read_text()) == {"a": [1, "b"]}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, "b"]}


def test_run_record_of_another_verb_is_not_overwritten(tmp_path: Path) -> None:
    first = write_run_record(tmp_path, run_record("train", {}, {"a": 1}))
    second = write_run_record(tmp_path, run_record("simulate", {}, {}))
    again = write_run_record(tmp_path, run_record("train", {}, {"a": 2}))
    assert (first.name, second.name, again.name) == ("run_record.json", "simulate_run_record.json", "run_record.json")
    assert json.loads(first.read_text())["results"] == {"a": 2}


def test_run_record_names_the_versions_that_made_it() -> None:
    record = run_record("test", {"x": 1}, {"y": 2}, seed=5)
    assert (record["verb"], record["settings"], record["results"], record["seed"]) == ("test", {"x": 1}, {"y": 2}, 5)
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["versions"]["masked-spiking-transformer"] == mst.__version__
    inside = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if inside.returncode == 0:
        assert record["git_commit"].rstrip("+") == inside.stdout.strip()


def test_steps_shown_are_powers_of_two_and_the_last() -> None:
    assert steps_shown(1) == [1]
    assert steps_shown(12) == [1, 2, 4, 8, 12]
    assert steps_shown(64) == [1, 2, 4, 8, 16, 32, 64]


def test_tables_show_the_figures_with_their_units(result: SimulationResult, estimate: EnergyEstimate) -> None:
    assert result.accuracy is not None
    accuracy = text(accuracy_table({"run": result}, {"run": 0.4321}))
    assert "43.21" in accuracy
    assert f"{100 * result.accuracy[-1]:.2f}" in accuracy
    energy = text(energy_table({"": estimate}))
    assert "µJ" in energy
    assert f"{estimate.ratio:.2f}x" in energy
    assert "with func-" in energy
    assert f"{estimate.whole.ratio:.2f}x" in energy
    assert "with func-" not in text(energy_table({"": replace(estimate, functions=())}))
    operations = text(operation_table(estimate))
    assert all(row.name in operations for row in estimate.operations)
    assert "analog values" in operations
    functions = text(function_table(estimate))
    assert all(row.name in functions for row in estimate.functions)
    for part in (estimate.maps_and_products, estimate.all_functions, estimate.whole):
        assert f"{part.ratio:.2f}x" in functions
    sites = text(site_table(result))
    assert all(name in sites for name in result.sites)


def test_energy_bars_hold_what_the_totals_hold(estimate: EnergyEstimate) -> None:
    bars = dict(energy_parts({"": estimate, "b": estimate}))  # the ANN stands once
    assert list(bars) == [
        "SNN",
        "SNN,\nwith functions",
        "ANN",
        "ANN,\nwith functions",
        "SNN, b",
        "SNN, b,\nwith functions",
    ]
    whole = estimate.whole
    for label, energy in (
        ("SNN", estimate.snn.energy_pj), ("SNN,\nwith functions", whole.snn.energy_pj),
        ("ANN", estimate.ann.energy_pj), ("ANN,\nwith functions", whole.ann.energy_pj),
    ):  # fmt: skip
        assert sum(bars[label].values()) == pytest.approx(energy)
    assert bars["SNN,\nwith functions"]["functions"] == estimate.all_functions.snn.energy_pj > 0
    assert list(dict(energy_parts({"": replace(estimate, functions=())}))) == ["SNN", "ANN"]


def test_figures_are_pictures_that_show_something(
    result: SimulationResult, estimate: EnergyEstimate, tmp_path: Path
) -> None:
    assert result.accuracy is not None
    curve = result.accuracy.tolist()
    paths = [
        accuracy_vs_time({"a": curve, "b": curve[:4]}, {"a": 0.9}, tmp_path / "accuracy.png", "title"),
        accuracy_vs_time({"a": curve[:1]}, {}, tmp_path / "one_step.png"),
        firing_rates(result.firing_rates, result.firing_rate, tmp_path / "rates.png"),
        energy_bars({"": estimate, "b": estimate}, tmp_path / "energy.png"),
    ]
    for path in paths:
        pixels = imread(path)
        assert min(pixels.shape[:2]) > 200
        assert pixels[..., :3].std() > 0.02
