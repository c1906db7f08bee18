"""Tables and figures that put codings side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

import mst
from conftest import randomise, tiny_config
from mst.experiments import AnnRun, CodingRun, Exit, coding_rows, steps_to_within
from mst.models import MaskedSpikingTransformer
from mst.report import codings_against_cost, codings_markdown, early_exit_curves
from mst.simulation import SimulationResult


@pytest.fixture(scope="module")
def runs() -> list[CodingRun]:
    torch.manual_seed(0)
    model = MaskedSpikingTransformer(tiny_config()).eval()
    randomise(model)
    data = (torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))
    made = []
    for label, snn in (
        ("rate", mst.convert(model)),
        ("lossless, weighted, burst 1", mst.convert(model, "lossless")),
        ("lossless, weighted, burst 2", mst.convert(model, "lossless", burst=2)),
    ):
        result = mst.simulate(snn, data, 30)
        exits = tuple(Exit(rule, loss, 7.25, 0.5) for rule in ("margin", "stability") for loss in (0.5, 0.1))
        frontier = {"margin": [(3.0, 0.25), (9.0, 0.5)], "stability": [(4.0, 0.25)]}
        family = label.rpartition(", burst")[0] or label
        made.append(CodingRun(label, family, result, mst.estimate_energy(result), 0.75, 0.02, exits, frontier))
    return made


ANN = AnnRun(accuracy=0.5, quanta=100.0, seconds_per_image=0.001, num_images=4)


def with_accuracy(result: SimulationResult, accuracy: list[float]) -> SimulationResult:
    return replace(result, num_steps=len(accuracy), accuracy=torch.tensor(accuracy, dtype=torch.float64))


def test_steps_to_within_is_the_first_step_from_which_it_stays_there(runs: list[CodingRun]) -> None:
    rising = with_accuracy(runs[0].result, [0.1, 0.895, 0.5, 0.89, 0.893, 0.901])
    assert steps_to_within(rising, 0.9, 1.0) == 4  # reached at step 2, and lost again
    assert steps_to_within(rising, 0.9, 0.1) == 6
    assert steps_to_within(rising, 0.95, 1.0) is None
    assert steps_to_within(with_accuracy(runs[0].result, [0.9, 0.9]), 0.9, 0.1) == 1
    above = with_accuracy(runs[0].result, [0.85, 0.95])  # more than the ANN by chance is allowed
    assert steps_to_within(above, 0.9, 0.1) == 2


def test_rows_hold_what_was_measured(runs: list[CodingRun]) -> None:
    rows = coding_rows(ANN, runs)
    for row, run in zip(rows, runs, strict=True):
        assert row["spikes"] == pytest.approx(run.result.spikes_per_image)
        assert row["spikes_per_quantum"] == pytest.approx(run.result.spikes_per_image / 100)
        assert row["energy_ratio"] == run.energy.ratio
        assert row["maps_and_products_ratio"] == run.energy.maps_and_products.ratio
        assert row["whole_ratio"] == run.energy.whole.ratio
        assert row["time_ratio"] == pytest.approx(20)
        assert row["mean_steps"] == run.result.mean_steps
        assert len(row["accuracy_at_step"]) == len(row["spikes_at_step"]) == 30
        for near in row["within"].values():
            if near is not None:
                assert near["spikes"] == row["spikes_at_step"][near["steps"] - 1]
                assert near["energy_ratio"] <= row["energy_ratio"] + 1e-9
                assert near["whole_ratio"] <= row["whole_ratio"] + 1e-9
    assert rows[0]["steps"] == 30
    assert rows[1]["steps"] == int(runs[1].result.steps_taken.max()) < 30


def test_markdown_has_three_tables_with_a_row_for_each_run(runs: list[CodingRun]) -> None:
    text = codings_markdown(ANN, coding_rows(ANN, runs), "Title")
    assert text.startswith("## Title\n")
    assert "ANN: 50.00 % of 4 test images; 100 quanta per image." in text
    for run in runs:
        assert text.count(f"| {run.label} |") == 4  # two rules of early exit
        assert f"{run.label} {run.energy.maps_and_products.ratio:.2f}x ({run.energy.whole.ratio:.2f}x)" in text
    assert "with the spikes per image and the energy up to that step (in brackets: of maps, products and all" in text
    near = coding_rows(ANN, runs)[1]["within"]["1"]
    assert f"| {near['spikes']:,.0f} | {near['energy_ratio']:.2f}x ({near['whole_ratio']:.2f}x) |" in text
    without = [replace(run, energy=replace(run.energy, functions=())) for run in runs]
    assert "functions" not in codings_markdown(ANN, coding_rows(ANN, without), "Title")
    assert "| 7.25 | " in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert "Early exit" not in codings_markdown(ANN, coding_rows(ANN, [replace(runs[0], exits=())]), "Title")


def test_figures_are_drawn_with_and_without_curves(runs: list[CodingRun], tmp_path: Path) -> None:
    many = [replace(run, label=f"{run.label} {i}") for i in range(4) for run in runs]
    sizes = []
    for name, shown in (("few", runs), ("many", many), ("one", [replace(runs[0], frontier=None)])):
        for draw in (codings_against_cost, early_exit_curves):
            path = draw(ANN, shown, tmp_path / f"{name}-{draw.__name__}.png", "title")
            sizes.append(imread(path).shape[0])
    assert sizes[2] > sizes[0]  # room for a longer legend
