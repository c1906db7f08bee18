"""A diagnosis in words, as a table and as files."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console
from torch import nn

import mst
from mst.experiments import CodingTrial, LevelTrial
from mst.neurons import QCFS
from mst.quantization.site_errors import OutputError
from mst.report import diagnosis_figure, diagnosis_summary, diagnosis_table, write_diagnosis_csv


@pytest.fixture(scope="module")
def diagnosis() -> mst.Diagnosis:
    torch.manual_seed(0)
    x = torch.randn(130, 4)
    plain = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))
    model = mst.quantize(plain, 7, x, placement="products")
    model[0].spare = QCFS(4)  # type: ignore[assignment]
    options = mst.DiagnosisOptions(bits=(), simulated_images=3)
    diagnosis = mst.diagnose(model, (x, torch.arange(130) % 3), options, calibration=x)
    trials = [LevelTrial("levels", 2**b - 1, OutputError(1 / b, 0.3 + b / 10, 0.5)) for b in (3, 4, 8)]
    return replace(diagnosis, trials=(*trials, *diagnosis.trials[-2:]))


def test_summary_says_what_to_change_and_what_is_enough(diagnosis: mst.Diagnosis) -> None:
    said = "\n".join(diagnosis_summary(diagnosis, 0.7))
    assert "or, at the operand of a product, as the identity; accuracy" in said
    assert f"This network: error of the output {100 * diagnosis.output.error:.1f} %" in said
    assert "Not in the forward pass: 0.spare" in said
    assert "these 2 of 2 make 100 % of the error of the output" in said
    assert "with one more bit" in said
    assert "mst.set_levels(model, {SITE: LEVELS}), then mst.set_thresholds(model, images))" in said
    trained = "\n".join(diagnosis_summary(replace(diagnosis, reference="clipped"), 0.7))
    assert "set_thresholds" not in trained  # which would undo what training has chosen
    assert "with a threshold for each channel" in said
    assert "4 bits (L = 15) are enough for 70 % of the reference's predictions on these 130 images" in said
    assert "Rate coding cannot carry this network: 4.input_site: levels down to" in said
    assert "Lossless coding (free, burst 4): 3 of 3 images settle, in" in said
    assert "(3 images; 100.0 % at the end)" in said


def test_summary_says_what_is_not_enough(diagnosis: mst.Diagnosis) -> None:
    late = CodingTrial("lossless", (), 4, (0.25, 0.5), 0)
    said = diagnosis_summary(replace(diagnosis, trials=diagnosis.trials[:1], codings=(late,)), 1.0)
    assert said[-2] == "  none of these keeps 100 % of the reference's predictions on these 130 images"
    assert said[-1].startswith("Lossless coding: no image of 4 settles in the steps simulated; 100 % of the")
    assert "not within T = 2 (4 images; 50.0 % at the end)" in said[-1]


def test_table_and_csv_have_a_row_for_each_site(diagnosis: mst.Diagnosis, tmp_path: Path) -> None:
    console = Console(width=200, record=True, quiet=True)
    with console.capture() as shown:
        console.quiet = False
        console.print(diagnosis_table(diagnosis))
    with write_diagnosis_csv(tmp_path / "x.csv", diagnosis).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(diagnosis.sites)
    for row, site in zip(rows, diagnosis.sites, strict=True):
        assert float(row["own_effect"]) == site.own_effect
        assert float(row["threshold_max"]) == site.threshold[2]
        (line,) = (line for line in shown.get().splitlines() if site.site in line)
        assert f"{100 * site.own_error:.1f}" in line
        assert f"{site.lowest_level}...{site.highest_level}" in line


def test_figure_grows_with_the_sites(diagnosis: mst.Diagnosis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = imread(diagnosis_figure(diagnosis, tmp_path / "a.png"))
    assert one.min() < 0.5
    heights = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: heights.append(figure.get_size_inches()[1]))
    for number in (1, 30):
        diagnosis_figure(replace(diagnosis, sites=diagnosis.sites * number), tmp_path / "b.png", "title")
    assert heights[1] > heights[0] + 10
