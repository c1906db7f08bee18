"""A sweep: accuracy and spikes against the masking ratio, and the table of all cells."""

from __future__ import annotations

from collections.abc import Sequence

from mst.experiments.run_files import Fields

from ..charts import Chart, Line
from ..markup import Table, folded
from ..runs import Run
from ..section import Block, Gallery, Section
from ..theme import series_colour

_AXES = ("num_levels", "mask_sites", "spike_penalty", "max_powers", "coding", "schedule", "burst", "time_steps")
"""Columns that tell the lines of a figure apart."""

_NAMES = {
    "num_levels": "L = {}", "mask_sites": "masked at {}", "spike_penalty": "penalty {}", "max_powers": "{} powers",
    "coding": "{}", "schedule": "{}", "burst": "burst {}", "time_steps": "T = {}",
}  # fmt: skip

_COLUMNS = {
    "coding": "Coding", "schedule": "Schedule", "burst": "Burst", "num_levels": "L", "mask_sites": "Masked sites",
    "masking_ratio": "p", "spike_penalty": "Spike penalty", "max_powers": "Powers", "time_steps": "T",
    "num_seeds": "Mask seeds", "ann_accuracy_percent": "ANN (%)", "snn_accuracy_percent": "SNN (%)",
    "snn_accuracy_spread": "± (points)", "spikes_per_image": "Spikes per image",
    "spikes_per_neuron": "Spikes per neuron", "mean_steps": "Mean T",
    "energy_uj": "Energy (µJ)", "energy_relative_to_ann": "times its ANN's",
    "energy_with_functions_relative_to_ann": "with functions, times its ANN's",
}  # fmt: skip
"""Column of the sweep's table -> its heading."""


def sweeps(runs: Sequence[Run]) -> Section | None:
    """Every sweep among the runs."""
    blocks: list[Block] = []
    for run in runs:
        results = run.record.part("results")
        rows = () if run.files[0].verb != "sweep" or results is None else results.rows("rows")
        if rows:
            blocks += _sweep(run, rows)
    return Section("sweep", "Sweep", blocks) if blocks else None


def _sweep(run: Run, rows: Sequence[Fields]) -> list[Block]:
    blocks: list[Block] = []
    last = max(row.number("time_steps") or 0 for row in rows)
    at_the_end = [row for row in rows if row.number("time_steps") == last]
    ratios = {row.number("masking_ratio") for row in rows}
    if len(ratios) > 1:
        blocks.append(Gallery(_against_ratio(run, at_the_end)))
    blocks.append(_against_cost(run, rows))
    used = [name for name in _COLUMNS if any(row.has(name) and row.content[name] != "" for row in rows)]
    cells = [[str(number), *(_cell(row.content.get(name)) for name in used)] for number, row in enumerate(rows, 1)]
    headings = ["", *(_COLUMNS[name] for name in used)]
    words = frozenset(n for n, name in enumerate(used, 1) if name in ("coding", "schedule", "mask_sites"))
    table = Table(f"{run.label}: all cells; ±: standard deviation over mask seeds", headings, cells, words)
    blocks.append(table if len(rows) <= 12 else folded(f"All {len(rows)} rows", table.markup()))
    return blocks


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return "" if value is None else str(value)


def _label(row: Fields, varying: Sequence[str]) -> str:
    """What tells the line of a row apart."""
    values = {name: row.content.get(name) for name in varying}
    return ", ".join(_NAMES[name].format(value) for name, value in values.items() if value not in (None, ""))


def _varying(rows: Sequence[Fields], names: Sequence[str]) -> list[str]:
    return [name for name in names if len({str(row.content.get(name)) for row in rows}) > 1]


def _lines_over_ratio(rows: Sequence[Fields]) -> dict[str, list[Fields]]:
    """Label -> rows that differ in their ratio alone, by ratio; an unmasked row belongs to every line of its kind."""
    varying = _varying(rows, [name for name in _AXES if name != "mask_sites"])
    places = list(dict.fromkeys(place for row in rows if (place := row.text("mask_sites"))))
    found: dict[str, list[Fields]] = {}
    for row in sorted(rows, key=lambda row: row.number("masking_ratio") or 0.0):
        own = row.text("mask_sites")
        for place in [own] if own else places:
            where = [f"masked at {place}"] if len(places) > 1 else []
            label = ", ".join(filter(None, [_label(row, varying), *where]))
            found.setdefault(label or "SNN", []).append(row)
    return found


def _against_ratio(run: Run, rows: Sequence[Fields]) -> list[Chart]:
    """Accuracy, and spikes relative to those without masks, against the ratio, at the last step."""
    steps = rows[0].text("time_steps")
    accuracy: list[Line] = []
    spikes: list[Line] = []
    for number, (label, line) in enumerate(_lines_over_ratio(rows).items()):
        colour = series_colour(number)
        ratios = [row.number("masking_ratio") or 0.0 for row in line]
        snn, ann, sent = ([row.number(name) or 0.0 for row in line] for name in (
            "snn_accuracy_percent", "ann_accuracy_percent", "spikes_per_image"
        ))  # fmt: skip
        of_ann = "ANN" if label == "SNN" else f"ANN, {label}"
        accuracy += [Line(label, ratios, snn, colour), Line(of_ann, ratios, ann, colour, "dashed", 1.5)]
        spikes.append(Line(label, ratios, [each / (sent[0] or 1.0) for each in sent], colour))
    name = f"masking-{run.number}"
    return [
        Chart(
            f"{name}-accuracy", f"{run.label}: accuracy against the masking ratio",
            "Dashed: the ANN with the same masks. A level curve means that the dropped spikes were not needed.",
            "masking ratio p (fraction dropped)", f"test accuracy (%), SNN at T = {steps}", accuracy,
        ),
        Chart(
            f"{name}-spikes", f"{run.label}: spikes against the masking ratio",
            "Spikes that are left, relative to the first ratio. Masks at a few sites cannot take away more than those "
            "sites send.",
            "masking ratio p (fraction dropped)", f"spikes per image at T = {steps}, relative", spikes,
            y_range=(0, 1.05),
        ),
    ]  # fmt: skip


def _against_cost(run: Run, rows: Sequence[Fields]) -> Chart:
    """Accuracy against energy, a line for each network over the time steps."""
    axes = _varying(rows, [*(name for name in _AXES if name != "time_steps"), "masking_ratio"])
    cells: dict[str, list[Fields]] = {}
    for row in rows:
        ratio = [f"p = {row.number('masking_ratio') or 0:g}"] if "masking_ratio" in axes else []
        label = ", ".join([*ratio, *filter(None, [_label(row, [name for name in axes if name in _NAMES])])])
        cells.setdefault(label or "SNN", []).append(row)
    lines = [
        Line(
            label,
            [row.number("energy_relative_to_ann") or 0.0 for row in line],
            [row.number("snn_accuracy_percent") or 0.0 for row in line],
            series_colour(number),
            "points" if len(line) == 1 else "solid",
        )
        for number, (label, line) in enumerate(cells.items())
    ]
    return Chart(
        f"sweep-{run.number}-energy",
        f"{run.label}: accuracy against energy",
        "Each network at the time steps of the table. The best ones are at the upper left; left of 1 the SNN spends "
        "less than its ANN.",
        "energy, times its ANN's",
        "test accuracy (%)",
        lines,
    )
