"""Runs of a sweep that are cut or continued, and the table of all of them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import mst
from mst.experiments import COLUMNS, SeedRun, SweepCell, SweepResult, sweep_rows
from mst.experiments.sweep_files import read_run

CELL = SweepCell(16, 0.0, "", 0.0, coding="lossless", schedule="free", burst=2)
SETTLED = SeedRun(
    seed=0, num_images=4, num_neurons=10, accuracy=(0.25, 0.75, 0.75), spikes_per_image=(4.0, 6.0, 6.0),
    energy_pj=(8e6, 9e6, 9e6), ann_accuracy=0.75, ann_energy_pj=1e7, ann_quanta_per_neuron=0.5,
    mean_steps=(1.0, 1.5, 1.5), settled=(0.5, 1.0, 1.0), whole_energy_pj=(12e6, 15e6, 15e6), ann_whole_energy_pj=2e7,
)  # fmt: skip
UNSETTLED = replace(SETTLED, settled=(0.5, 0.5, 0.75), mean_steps=(1.0, 1.5, 2.0))


def test_run_that_has_settled_goes_on_without_spikes_and_energy() -> None:
    longer = SETTLED.after(5)
    assert longer is not None
    assert longer.accuracy == (0.25, 0.75, 0.75, 0.75, 0.75)
    assert longer.spikes_per_image == (4.0, 6.0, 6.0, 6.0, 6.0)
    assert longer.energy_pj == (8e6, 9e6, 9e6, 9e6, 9e6)
    assert longer.whole_energy_pj[-1] == 15e6
    assert (longer.mean_steps[-1], longer.settled[-1], longer.num_steps) == (1.5, 1.0, 5)
    assert longer.after(3) == SETTLED.after(3) == SETTLED


def test_run_is_cut_but_not_continued_where_images_would_have_gone_on() -> None:
    assert UNSETTLED.after(4) is None
    cut = UNSETTLED.after(2)
    assert cut is not None
    assert (cut.accuracy, cut.settled) == ((0.25, 0.75), (0.5, 0.5))
    assert replace(SETTLED, settled=()).after(4) is None  # a coding that does not settle


def test_row_after_settling_repeats_the_last_step() -> None:
    result = SweepResult(CELL, (SETTLED.after(8),))  # type: ignore[arg-type]
    early, settled, late = sweep_rows([result], [1, 2, 8])
    assert tuple(late) == COLUMNS
    same = set(COLUMNS) - {"time_steps", "on_energy_front", "on_spikes_front"}
    assert {name: late[name] for name in same} == {name: settled[name] for name in same}
    assert [(row["on_energy_front"], row["on_spikes_front"]) for row in (early, settled, late)] == [
        (True, True), (True, True), (False, False),
    ]  # fmt: skip
    assert (early["settled_percent"], late["settled_percent"]) == (50.0, 100.0)
    assert (late["spikes_per_neuron"], late["firing_rate"]) == (0.6, pytest.approx(0.4))  # over 1.5 steps, not over 8
    assert (late["energy_uj"], late["energy_relative_to_ann"]) == (9.0, 0.9)
    assert (late["energy_with_functions_uj"], late["energy_with_functions_relative_to_ann"]) == (15.0, 0.75)
    assert (late["coding"], late["schedule"], late["burst"], late["max_powers"]) == ("lossless", "free", 2, None)


def test_spikes_are_relative_to_the_unmasked_under_the_same_coding() -> None:
    rate = replace(CELL, coding="rate", schedule=None, burst=1)
    masked, other = (replace(cell, masking_ratio=0.5, mask_sites="all") for cell in (CELL, rate))
    fewer = replace(SETTLED, spikes_per_image=(2.0, 3.0, 3.0))
    results = [SweepResult(CELL, (SETTLED,)), SweepResult(masked, (fewer,)), SweepResult(other, (fewer,))]
    relative = [row["spikes_relative_to_unmasked"] for row in sweep_rows(results, [3])]
    assert relative == [1.0, 0.5, None]  # no unmasked cell under rate coding


def test_cell_of_each_coding_has_files_of_its_own_in_the_folder_of_the_network() -> None:
    rate, powers = SweepCell(16, 0.0, "", 0.0), replace(CELL, max_powers=2)
    assert (rate.name, rate.simulation, rate.label) == ("L16_p0", "", "L = 16, p = 0")
    assert (CELL.name, CELL.simulation) == ("L16_p0", "lossless_free_burst2_")
    assert CELL.label == "L = 16, p = 0; lossless, free, burst 2"
    assert (powers.name, powers.label) == (
        "L16_p0_m2",
        "L = 16, p = 0, at most 2 powers of two; lossless, free, burst 2",
    )


def test_cell_names_placement_and_early_exit_where_they_are_swept() -> None:
    cell = replace(CELL, placement="products", early_exit="margin")
    assert (cell.name, cell.simulation) == ("L16_p0_products", "lossless_free_burst2_exit-margin_")
    assert cell.label == "L = 16, p = 0, sites at products; lossless, free, burst 2, exit by margin"
    rate = SweepCell(16, 0.0, "", 0.0, early_exit="stability")
    assert (rate.simulation, rate.label) == ("exit-stability_", "L = 16, p = 0; rate, exit by stability")


def test_rows_name_the_placement_and_the_exit_of_all_cells() -> None:
    results = [SweepResult(replace(CELL, early_exit=rule), (SETTLED,)) for rule in (None, "margin")]
    rows = sweep_rows(results, [3], {"placement": "products"})
    assert [(row["placement"], row["early_exit"]) for row in rows] == [("products", None), ("products", "margin")]


def write(path: Path, run: SeedRun, cell: SweepCell = CELL) -> Path:
    path.write_text(json.dumps({**asdict(run), "cell": asdict(cell)}))
    return path


def test_stored_run_is_read_cut_and_continued(tmp_path: Path) -> None:
    path = write(tmp_path / "seed0.json", SETTLED)
    assert read_run(path, CELL, mst.StepOptions(3)) == SETTLED
    assert read_run(path, CELL, mst.StepOptions(2)) == SETTLED.after(2)
    assert read_run(path, CELL, mst.StepOptions(9)) == SETTLED.after(9)
    assert read_run(path, replace(CELL, burst=4), mst.StepOptions(3)) is None
    assert read_run(tmp_path / "none.json", CELL, mst.StepOptions(3)) is None
    assert read_run(write(path, UNSETTLED), CELL, mst.StepOptions(4)) is None
    path.write_text('{"accuracy": [0.5]}')
    assert read_run(path, CELL, mst.StepOptions(1)) is None


def test_stored_run_with_a_chosen_rule_of_early_exit_holds_for_its_own_length_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "seed0.json", SETTLED)
    assert read_run(path, CELL, mst.StepOptions(3, "margin")) == SETTLED
    assert read_run(path, CELL, mst.StepOptions(2, "margin")) is None
    fixed = mst.StepOptions(2, "margin", mst.ExitOptions(value=1.0))
    assert read_run(path, CELL, fixed) == SETTLED.after(2)
