"""Operations and energy beside the baselines, and the assumptions behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mst.experiments.run_files import Fields

from ..charts import Bars, Chart, Line, steps_axis
from ..markup import Table, bullets, element, folded, joined
from ..runs import Run
from ..section import Block, Section
from ..theme import series_colour
from ..words import count, microjoules, ratio

FUNCTIONS = "functions"
"""Part of a bar: all functions between the sites, by their elementary operations."""

_MOST_SITES = 24
"""Sites in the chart of energy by site; the others are one bar."""


def energy(runs: Sequence[Run]) -> Section | None:
    """Energy per image of each SNN beside its baselines, by kind of operation, by step and by site."""
    measured = [(run, run.measurement) for run in runs if run.measurement is not None]
    if not measured:
        return None
    blocks: list[Block] = [*_verdicts(measured), _table(measured), _by_kind(measured)]
    over_time = _over_time(measured)
    by_site = _by_site(measured)
    blocks += [chart for chart in (over_time, by_site) if chart is not None]
    blocks.append(
        joined(*(folded(f"{run.label}: every operation", _operations(run, m).markup()) for run, m in measured))
    )
    return Section("energy", "Operations and energy", blocks)


def _verdicts(measured: Sequence[tuple[Run, Fields]]) -> list[Block]:
    """The verdict in words, each baseline and each published threshold, where the records hold them."""
    found: list[Block] = []
    baselines: list[list[str]] = []
    thresholds: list[list[str]] = []
    for run, measurement in measured:
        verdict = measurement.part("verdict")
        if verdict is None:
            continue
        text = verdict.text("text")
        if text:
            found.append(element("p", element("strong", f"{run.label}: "), text, class_="verdict"))
        for name, row in verdict.parts("baselines").items():
            energies = (microjoules(row.number(f"{side}_energy_pj")) for side in ("snn", "ann"))
            baselines.append([run.label, name, *energies, ratio(row.number("energy_ratio")), row.text("note") or ""])
        for row in verdict.rows("thresholds"):
            is_below = "below" if row.content.get("is_below") else "not below"
            limit = f"{row.number('spikes_per_neuron') or 0:.3g}"
            words = (row.text("source") or "", row.text("condition") or "")
            thresholds.append([run.label, f"{verdict.number('spikes_per_neuron') or 0:.3g}", is_below, limit, *words])
    if baselines:
        headings = ("Run", "Baseline", "SNN (µJ)", "Baseline (µJ)", "SNN, times it", "Note")
        found.append(Table("Energy per image beside the baselines", headings, baselines, frozenset({1, 5})))
    if thresholds:
        headings = ("Run", "Spikes per neuron", "is", "Published", "Source", "Condition")
        caption = "Spikes per neuron and image beside published thresholds, below which an SNN is said to spend less"
        found.append(
            folded("Published thresholds", Table(caption, headings, thresholds, frozenset({2, 4, 5})).markup())
        )
    return found


def _table(measured: Sequence[tuple[Run, Fields]]) -> Table:
    headings = ("Network", "MACs", "ACs", "Energy (µJ)", "times the ANN's", "with functions (µJ)", "times the ANN's")
    rows = []
    for run, measurement in measured:
        whole = (measurement.part("parts") or measurement).part("whole")
        for side, name in (("ann", "ANN of"), ("snn", "SNN")):
            values = [
                (measurement.part(key) or measurement).number(side) for key in ("num_macs", "num_acs", "energy_pj")
            ]
            both = None if whole is None else whole.number(f"{side}_energy_pj")
            rows.append([
                f"{name} {run.label}", count(values[0]), count(values[1]), microjoules(values[2]),
                ratio(1.0 if side == "ann" else measurement.number("energy_ratio")), microjoules(both),
                "" if whole is None else ratio(1.0 if side == "ann" else whole.number("energy_ratio")),
            ])  # fmt: skip
    return Table(
        "Operations and energy per image. With functions: maps and products, and every function by its elementary "
        "operations",
        headings,
        rows,
    )


def _kinds(measurement: Fields, side: str) -> dict[str, float]:
    """Energy in pJ of maps and products by kind of operation, and of all functions."""
    sums: dict[str, float] = defaultdict(float)
    functions = (measurement.part("parts") or measurement).part("functions")
    priced = None if functions is None else functions.number(f"{side}_energy_pj")
    for row in measurement.parts("operations").values():
        cost = row.part(side)
        kind = (row.text("kind") or "other").replace("_", " ")
        if priced and kind in ("function", "softmax", "layer norm"):
            continue  # they are among the functions
        sums[kind] += (None if cost is None else cost.number("energy_pj")) or 0.0
    if priced:
        sums[FUNCTIONS] = priced
    return sums


def _by_kind(measured: Sequence[tuple[Run, Fields]]) -> Chart:
    categories: list[str] = []
    columns: list[Mapping[str, float]] = []
    for run, measurement in measured:
        for side, name in (("ann", "ANN of"), ("snn", "SNN")):
            categories.append(f"{name} {run.label}")
            columns.append(_kinds(measurement, side))
    kinds = list(dict.fromkeys(kind for column in columns for kind in column))
    bars = [
        Bars(kind, [1e-6 * column.get(kind, 0.0) for column in columns], series_colour(number))
        for number, kind in enumerate(kinds)
    ]
    return Chart(
        "energy-by-kind",
        "Energy per image by kind of operation",
        "Where the energy goes, in the SNN and in the ANN that it was converted from. A spiking network wins where its "
        "whole bar is shorter.",
        "energy per image (µJ)",
        categories=categories,
        bars=bars,
        stacked=True,
        height=130 + 34 * len(categories),
    )


def _over_time(measured: Sequence[tuple[Run, Fields]]) -> Chart | None:
    """Accuracy against energy up to each step, or the energy against time where the accuracy is not known."""
    lines: list[Line] = []
    longest = 1
    for run, measurement in measured:
        spent, ann = measurement.numbers("snn_energy_pj_after_step"), measurement.part("energy_pj")
        of_ann = None if ann is None else ann.number("ann")
        if not spent or not of_ann:
            continue
        longest = max(longest, len(spent))
        lines.append(
            Line(run.label, range(1, len(spent) + 1), [each / of_ann for each in spent], run.colour, width=2.5)
        )
    if not lines:
        return None
    lines.append(Line("the ANN", (1, longest), (1.0, 1.0), "--soft", "dashed", 1.5))
    log_x, ticks = steps_axis(longest)
    return Chart(
        "energy-against-time",
        "Energy up to each time step",
        "Energy of a run stopped after T steps, as a multiple of its ANN's. Above the dashed line the SNN has spent "
        "more than the ANN; a curve that stays level has settled. Operations without functions.",
        "time steps T",
        "energy, times the ANN's",
        lines,
        x_ticks=ticks,
        log_x=log_x,
        height=320,
    )


def _by_site(measured: Sequence[tuple[Run, Fields]]) -> Chart | None:
    """Energy of what each site drives, the largest first."""
    costs: dict[str, dict[str, float]] = {}
    for run, measurement in measured:
        for name, site in measurement.parts("sites").items():
            cost = site.part("snn")
            costs.setdefault(name, {})[run.label] = (None if cost is None else cost.number("energy_pj")) or 0.0
    largest = sorted(costs, key=lambda name: -max(costs[name].values()))
    names, others = largest[:_MOST_SITES], largest[_MOST_SITES:]
    if not names:
        return None
    categories = [*names, *([f"{len(others)} other sites"] if others else [])]

    def column(label: str) -> list[float]:
        rest = [sum(costs[name].get(label, 0.0) for name in others)] if others else []
        return [1e-6 * value for value in [*(costs[name].get(label, 0.0) for name in names), *rest]]

    return Chart(
        "energy-by-site",
        "Energy by the site that drives it",
        "Energy per image of the operations that the spikes of a site drive, the largest first. (analog): operations "
        "whose input is not spikes.",
        "energy per image (µJ)",
        categories=categories,
        bars=[Bars(run.label, column(run.label), run.colour) for run, _ in measured],
        height=110 + len(categories) * max(19, 9 * len(measured) + 6),
    )


def _operations(run: Run, measurement: Fields) -> Table:
    rows = []
    for name, row in measurement.parts("operations").items():
        snn, ann = row.part("snn"), row.part("ann")
        costs = [None if cost is None else cost.number("energy_pj") for cost in (snn, ann)]
        sources = row.texts("driven_by")
        driven = ", ".join(sources) if len(sources) <= 3 else f"{len(sources)} sites"
        rows.append([
            name, (row.text("kind") or "").replace("_", " "), driven or "analog values",
            *(count(None if snn is None else snn.number(key)) for key in ("num_macs", "num_acs")),
            *map(microjoules, costs),
        ])  # fmt: skip
    headings = ("Operation", "Kind", "Driven by", "MACs", "ACs", "SNN (µJ)", "ANN (µJ)")
    return Table(f"{run.label}: operations per image", headings, rows, frozenset({1, 2}))


def assumptions(runs: Sequence[Run]) -> Section | None:
    """Constants and assumptions of every measurement; those that runs share stand once."""
    measured = [(run, run.measurement) for run in runs if run.measurement is not None]
    groups: dict[tuple[str, ...], list[str]] = {}
    for run, measurement in measured:
        groups.setdefault((_constants(measurement), *measurement.texts("assumptions")), []).append(run.label)
    blocks: list[Block] = []
    for (constants, *texts), labels in groups.items():
        title = element("h3", ", ".join(labels)) if len(groups) > 1 else None
        blocks.append(joined(title, element("p", constants), bullets(texts)))
    return Section("assumptions", "Assumptions of the energy", blocks) if blocks else None


def _constants(measurement: Fields) -> str:
    """The prices and where they are from, in a sentence."""
    constants = measurement.part("constants")
    if constants is None:
        return ""
    numbers, words = [], []
    for name, value in constants.content.items():
        if isinstance(value, int | float):
            what = name.removesuffix("_pj").replace("_", " ")
            numbers.append(f"{what.upper() if what in ('mac', 'ac') else what} {value:.4g} pJ")
        elif isinstance(value, str):
            words.append(f"{name.replace('_', ' ')}: {value}")
    return f"Constants: {', '.join(numbers)}" + (f" ({'; '.join(words)})" if words else "") + "."
