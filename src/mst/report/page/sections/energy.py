"""Operations and energy beside the baselines, and the assumptions behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mst.experiments.run_files import Fields

from ..charts import Bars, Chart, Line, steps_axis
from ..markup import Table, bullets, element, folded, joined
from ..measured import after_step, by_kind, by_site, energy_ratio, scope, totals
from ..runs import Run
from ..section import Block, Section
from ..theme import series_colour
from ..words import count, microjoules, ratio

_MOST_SITES = 24
"""Sites in the chart of energy by site; the others are one bar."""


def energy(runs: Sequence[Run]) -> Section | None:
    """Energy per image of each SNN beside its baselines, by kind of operation, by step and by site."""
    measured = [(run, run.measurement) for run in runs if run.measurement is not None]
    if not measured:
        return None
    blocks: list[Block] = [*_verdicts(measured), _table(measured), _by_kind(measured)]
    more = (_over_time(measured), _by_site(measured), _masks(measured))
    blocks += [block for block in more if block is not None]
    blocks.append(
        joined(*(folded(f"{run.label}: every operation", _operations(run, m).markup()) for run, m in measured))
    )
    return Section("energy", "Operations and energy", blocks)


def _verdicts(measured: Sequence[tuple[Run, Fields]]) -> list[Block]:
    """The verdict in words, each baseline and each published threshold, where the records hold them."""
    found: list[Block] = []
    baselines: list[list[str]] = []
    thresholds: list[list[str]] = []
    notes: list[str] = []
    for run, measurement in measured:
        verdict = measurement.part("verdict")
        if verdict is None:
            continue
        text = verdict.text("text")
        if text:
            found.append(element("p", element("strong", f"{run.label}: "), text, class_="verdict"))
        for name, row in verdict.parts("baselines").items():
            energies = (microjoules(row.number(f"{side}_energy_pj")) for side in ("snn", "ann"))
            baselines.append([run.label, name, *energies, ratio(row.number("energy_ratio"))])
            notes += [f"{name}: {row.text('note')}."] if row.text("note") else []
        for row in verdict.rows("thresholds"):
            is_below = "below" if row.content.get("is_below") else "not below"
            limit = f"{row.number('spikes_per_neuron') or 0:.3g}"
            words = (row.text("source") or "", row.text("condition") or "")
            thresholds.append([run.label, f"{verdict.number('spikes_per_neuron') or 0:.3g}", is_below, limit, *words])
    if baselines:
        headings = ("Run", "Baseline", "SNN (µJ)", "Baseline (µJ)", "SNN, times it")
        found.append(Table("Energy per image beside the baselines", headings, baselines, frozenset({1})))
        found.append(folded("What the baselines are", bullets(list(dict.fromkeys(notes)))))
    if thresholds:
        columns = ("Run", "Spikes per neuron", "is", "Published", "Source", "Condition")
        caption = "Spikes per neuron and image beside published thresholds, below which an SNN is said to spend less"
        found.append(folded("Published thresholds", Table(caption, columns, thresholds, frozenset({2, 4, 5})).markup()))
    return found


def _table(measured: Sequence[tuple[Run, Fields]]) -> Table:
    rows = []
    for run, measurement in measured:
        energies = totals(measurement)
        for side, name, place in (("ann", "ANN of", 1), ("snn", "SNN", 0)):
            values = [(measurement.part(key) or measurement).number(side) for key in ("num_macs", "num_acs")]
            energy = None if energies is None else energies[place]
            relative = 1.0 if side == "ann" else energy_ratio(measurement)
            rows.append([f"{name} {run.label}", *map(count, values), microjoules(energy), ratio(relative)])
    held = " / ".join(dict.fromkeys(scope(measurement) for _, measurement in measured))
    caption = f"Operations and energy per image. MACs and ACs: of maps, products and norms. Energy: of {held}"
    return Table(caption, ("Network", "MACs", "ACs", "Energy (µJ)", "times the ANN's"), rows)


def _by_kind(measured: Sequence[tuple[Run, Fields]]) -> Chart:
    columns: dict[str, dict[str, float]] = {}
    for run, measurement in measured:
        for name, place in (("ANN of", 1), ("SNN", 0)):
            energies = by_kind(measurement)
            columns[f"{name} {run.label}"] = {kind: 1e-6 * both[place] for kind, both in energies.items()}
    kinds = [kind for kind in dict.fromkeys(k for each in columns.values() for k in each) if _any(columns, kind)]
    bars = [
        Bars(kind.replace("_", " "), [column.get(kind, 0.0) for column in columns.values()], series_colour(number))
        for number, kind in enumerate(kinds)
    ]
    return Chart(
        "energy-by-kind",
        "Energy per image by kind",
        "Where the energy goes, in the SNN and in the ANN that it was converted from. A spiking network wins where its "
        "whole bar is shorter.",
        "energy per image (µJ)",
        categories=list(columns),
        bars=bars,
        stacked=True,
        height=130 + 34 * len(columns),
    )


def _any(columns: Mapping[str, Mapping[str, float]], kind: str) -> bool:
    return any(column.get(kind) for column in columns.values())


def _over_time(measured: Sequence[tuple[Run, Fields]]) -> Chart | None:
    """Energy up to each step, as a multiple of the ANN's."""
    lines: list[Line] = []
    longest = 1
    for run, measurement in measured:
        spent, energies = after_step(measurement), totals(measurement)
        if spent and energies is not None and energies[1]:
            longest = max(longest, len(spent))
            relative = [each / energies[1] for each in spent]
            lines.append(Line(run.label, range(1, len(spent) + 1), relative, run.colour, width=2.5))
    if not lines:
        return None
    lines.append(Line("the ANN", (1, longest), (1.0, 1.0), "--soft", "dashed", 1.5))
    log_x, ticks = steps_axis(longest)
    return Chart(
        "energy-against-time",
        "Energy up to each time step",
        "Energy of a run stopped after T steps, as a multiple of its ANN's. Above the dashed line the SNN has spent "
        "more than the ANN; a curve that stays level has settled.",
        "time steps T",
        "energy, times the ANN's",
        lines,
        x_ticks=ticks,
        log_x=log_x,
        height=320,
    )


def _by_site(measured: Sequence[tuple[Run, Fields]]) -> Chart | None:
    """Energy of what each site drives, the largest first."""
    costs = {run.label: {name: each[0] for name, each in by_site(m).items()} for run, m in measured}
    sites = dict.fromkeys(name for of_run in costs.values() for name in of_run)
    largest = sorted(sites, key=lambda name: -max(of_run.get(name, 0.0) for of_run in costs.values()))
    names, others = largest[:_MOST_SITES], largest[_MOST_SITES:]
    if not names:
        return None
    categories = [*names, *([f"{len(others)} other sites"] if others else [])]

    def column(label: str) -> list[float]:
        rest = [sum(costs[label].get(name, 0.0) for name in others)] if others else []
        return [1e-6 * value for value in [*(costs[label].get(name, 0.0) for name in names), *rest]]

    return Chart(
        "energy-by-site",
        "Energy by the site that drives it",
        "Energy per image of what the spikes of a site drive in the SNN, the largest first. (analog): operations whose "
        "input is not spikes.",
        "energy per image (µJ)",
        categories=categories,
        bars=[Bars(run.label, column(run.label), run.colour) for run, _ in measured],
        height=110 + len(categories) * max(19, 9 * len(measured) + 6),
    )


def _masks(measured: Sequence[tuple[Run, Fields]]) -> Table | None:
    """What masks save at each site, where the record has a budget."""
    rows = [
        [
            f"{run.label}, {row.text('site')}", count(row.number("sent")), count(row.number("dropped")),
            *(microjoules(row.number(name)) for name in ("saved_pj", "drawn_pj")),
        ]
        for run, measurement in measured
        for row in (measurement.part("budget") or measurement).rows("masks")
    ]  # fmt: skip
    headings = ("Site", "Spikes sent", "Spikes dropped", "Saved (µJ)", "Spent on drawing masks (µJ)")
    return Table("Per image, what masks save at each site", headings, rows) if rows else None


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
        stated = (_constants(measurement), *_left_out(measurement), *measurement.texts("assumptions"))
        groups.setdefault(stated, []).append(run.label)
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


def _left_out(measurement: Fields) -> list[str]:
    """What the cost model leaves out, and what it holds beyond its source."""
    verdict, constants = measurement.part("verdict"), measurement.part("constants")
    left_out = {} if constants is None else constants.content.get("leaves_out")
    texts = [] if verdict is None else [f"Prices {text}." for text in verdict.texts("depends_on")]
    named = left_out.items() if isinstance(left_out, Mapping) else ()
    return texts + [f"Left out by the cost model: {name} ({reason})." for name, reason in named]
