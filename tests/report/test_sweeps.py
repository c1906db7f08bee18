"""Table and figures of a sweep, from runs made up by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread

from mst.experiments import SeedRun, SweepCell, SweepResult, sweep_rows
from mst.report import (
    sweep_against_energy,
    sweep_against_ratio,
    sweep_against_time,
    sweep_fronts,
    sweep_markdown,
    sweep_pareto,
)
from mst.report.sweeps import lines_over_ratio, row_label

RATE = SweepCell(16, 0.0, "", 0.0)
FREE = replace(RATE, coding="lossless", schedule="free", burst=2)
RUN = SeedRun(
    seed=0, num_images=4, num_neurons=10, accuracy=(0.25, 0.75, 0.75), spikes_per_image=(4.0, 6.0, 6.0),
    energy_pj=(8e6, 9e6, 9e6), ann_accuracy=0.75, ann_energy_pj=1e7, ann_quanta_per_neuron=0.5,
    mean_steps=(1.0, 1.5, 1.5), settled=(0.5, 1.0, 1.0), whole_energy_pj=(12e6, 15e6, 15e6), ann_whole_energy_pj=2e7,
)  # fmt: skip
OF_RATE = replace(RUN, settled=(), mean_steps=(1.0, 2.0, 3.0), spikes_per_image=(4.0, 8.0, 12.0))


def masked(cell: SweepCell) -> SweepCell:
    return replace(cell, masking_ratio=0.5, mask_sites="attention")


RESULTS = [
    SweepResult(RATE, (OF_RATE,)), SweepResult(masked(RATE), (OF_RATE, replace(OF_RATE, seed=1))),
    SweepResult(FREE, (RUN,)), SweepResult(masked(FREE), (RUN,)), SweepResult(replace(FREE, burst=4), (RUN,)),
]  # fmt: skip


def test_table_names_the_coding_and_both_energies_of_each_row() -> None:
    text = sweep_markdown(sweep_rows(RESULTS, [3]), "title")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| rate | 16 | 0 | none | 0 | 3 | 3.0 | 75.00 | 75.00 | 12 |")
    assert lines[4].startswith("| lossless, free, burst 2 | 16 | 0 | none | 0 | 3 | 1.5 |")
    assert lines[4].endswith("| 9 | 0.90x | 15 | 0.75x | spikes |")
    assert lines[5].endswith("| 15 | 0.75x |  |")  # as good, but a later row
    assert lines[2].endswith("| energy |")
    assert "4 test images" in text
    old = replace(OF_RATE, whole_energy_pj=(), ann_whole_energy_pj=None)
    assert (
        sweep_markdown(sweep_rows([SweepResult(RATE, (old,))], [3]), "title").count(
            "| 9 | 0.90x |  |  | energy, spikes |"
        )
        == 1
    )
    powers = SweepResult(replace(FREE, max_powers=2), (RUN,))
    assert "| lossless, free, burst 2 | 16 (2 powers) |" in sweep_markdown(sweep_rows([powers], [1]), "title")


def test_table_names_settings_of_some_cells_and_what_is_unfinished() -> None:
    cells = [replace(FREE, placement="products"), replace(FREE, early_exit="margin")]
    results = [SweepResult(cells[0], (RUN,)), SweepResult(cells[1], (replace(RUN, num_images=3),))]
    text = sweep_markdown(sweep_rows(results, [3]), "title", [RATE.label])
    assert "| lossless, free, burst 2 | 16 (at products) |" in text
    assert "| lossless, free, burst 2, exit by margin | 16 |" in text
    assert "3 or 4 test images" in text
    assert "Not in this table, because it is unfinished: L = 16, p = 0." in text


def test_label_of_a_row_has_what_differs_between_rows() -> None:
    rows = sweep_rows([*RESULTS[2:], SweepResult(replace(FREE, num_levels=4), (RUN,))], [2, 3])
    assert [row_label(row, rows) for row in rows[::2]] == [
        "L = 16, p = 0, lossless, free, burst 2", "L = 16, p = 0.5 at attention, lossless, free, burst 2",
        "L = 16, p = 0, lossless, free, burst 4", "L = 4, p = 0, lossless, free, burst 2",
    ]  # fmt: skip
    assert row_label(rows[0], rows[:2]) == ""


@pytest.mark.usefixtures("rendered_figures")
def test_figure_of_the_fronts_shows_the_marked_rows(tmp_path: Path) -> None:
    rows = sweep_rows(RESULTS[2:3], [1, 2, 3])
    assert [row["on_spikes_front"] for row in rows] == [True, True, False]
    rows[0]["on_spikes_front"] = False
    fewer = imread(sweep_fronts(rows, tmp_path / "a.png", "title"))
    rows[0]["on_spikes_front"] = True
    all_of_them = imread(sweep_fronts(rows, tmp_path / "b.png", "title"))
    middle = fewer.shape[1] // 2
    assert (fewer[:, :middle] == all_of_them[:, :middle]).all()  # the panel of energies
    assert (fewer[:, middle:] != all_of_them[:, middle:]).any()


def test_lines_over_the_ratio_keep_codings_apart() -> None:
    lines = lines_over_ratio(RESULTS)
    assert {label: [r.cell.masking_ratio for r in line] for label, line in lines.items()} == {
        "rate": [0.0, 0.5], "lossless, free, burst 2": [0.0, 0.5], "lossless, free, burst 4": [0.0],
    }  # fmt: skip
    assert list(lines_over_ratio(RESULTS[:2])) == [""]


@pytest.mark.parametrize("draw", [sweep_against_energy, sweep_against_ratio, sweep_against_time, sweep_pareto])
def test_figures_show_codings_and_runs_that_settle_early(draw, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pixels = imread(draw(RESULTS, tmp_path / "figure.png", "title"))
    assert pixels[..., :3].std() > 0.02


def test_figure_of_energies_has_a_second_panel_where_functions_are_known(tmp_path: Path) -> None:
    old = [SweepResult(RATE, (replace(OF_RATE, whole_energy_pj=(), ann_whole_energy_pj=None),))]
    narrow = imread(sweep_against_energy(old, tmp_path / "a.png")).shape[1]
    assert imread(sweep_against_energy(RESULTS[:1], tmp_path / "b.png")).shape[1] > 1.2 * narrow
