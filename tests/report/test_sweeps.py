"""Table and figures of a sweep, from runs made up by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread

from mst.experiments import SeedRun, SweepCell, SweepResult, sweep_rows
from mst.report import sweep_against_energy, sweep_against_ratio, sweep_against_time, sweep_markdown, sweep_pareto
from mst.report.sweeps import lines_over_ratio

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
    assert lines[4].endswith("| 9 | 0.90x | 15 | 0.75x |")
    old = replace(OF_RATE, whole_energy_pj=(), ann_whole_energy_pj=None)
    assert sweep_markdown(sweep_rows([SweepResult(RATE, (old,))], [3]), "title").count("| 9 | 0.90x |  |  |") == 1
    powers = SweepResult(replace(FREE, max_powers=2), (RUN,))
    assert "| lossless, free, burst 2 | 16 (2 powers) |" in sweep_markdown(sweep_rows([powers], [1]), "title")


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
