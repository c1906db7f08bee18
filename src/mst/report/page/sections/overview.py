"""The runs in one table, and the accuracy against time steps."""

from __future__ import annotations

from collections.abc import Sequence

from ..charts import Chart, Line, steps_axis
from ..markup import Markup, Table, element, facts, folded, joined
from ..measured import energy_ratio
from ..runs import Run
from ..section import Block, Section
from ..words import count, per_cent, ratio

_FACTS = {
    "checkpoint": "Network",
    "dataset": "Data set",
    "data_fingerprint": "Fingerprint of the data",
    "num_images": "Images",
    "masking_ratio": "Masking ratio p",
    "num_steps": "Time steps T",
    "seed": "Seed of the masks",
    "dtype": "Computed in",
    "sum_dtype": "Sums over time in",
    "early_exit": "Early exit",
    "device": "Device",
}
"""Entry of the results or the record -> its name on the page."""


def what_was_run(runs: Sequence[Run]) -> Section:
    """Network, data, coding, T, seed and versions of each run."""
    known = [_facts_of(run) for run in runs]
    names = list(dict.fromkeys(name for each in known for name in each))
    values = {name: list(dict.fromkeys(each[name] for each in known if name in each)) for name in names}
    shared = [(name, found[0]) for name, found in values.items() if len(found) == 1]
    blocks: list[Block] = [facts(shared)]
    rows = [[name, *(each.get(name, "") for each in known)] for name in names if len(values[name]) > 1]
    if rows:
        words = frozenset(range(1, len(runs) + 1))
        blocks.append(Table("What differs between the runs", ("", *(run.label for run in runs)), rows, words))
    return Section("what", "What was run", blocks)


def _facts_of(run: Run) -> dict[str, str]:
    results, record = run.results, run.record
    known = {"Command": "mst " + " and mst ".join(files.verb for files in run.files), "Coding": run.coding}
    for name, title in _FACTS.items():
        source = results if results.has(name) else record
        value = source.content.get(name)
        known[title] = "" if value is None or isinstance(value, dict | list) else _brief(value)
    exit_rule = results.content.get("early_exit")
    if isinstance(exit_rule, dict):
        known["Early exit"] = ", ".join(f"{name} {value}" for name, value in exit_rule.items())
    versions = record.part("versions")
    if versions is not None:
        shown = {name: version for name, version in versions.content.items() if version != "not installed"}
        known["Versions"] = ", ".join(f"{name} {version}" for name, version in shown.items())
    known["Commit"] = _brief(record.text("git_commit") or "")
    known["Machine"] = ", ".join(filter(None, (record.text("machine"), record.text("neurons_on_cpu"))))
    known["Finished"] = record.text("finished") or ""
    return {name: value for name, value in known.items() if value}


def _brief(value: object) -> str:
    """A number as one types it, the beginning of a digest."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    is_digest = len(text) >= _DIGEST and set(text) <= set("0123456789abcdef+")
    return f"{text[:12]}..." if is_digest else text


_DIGEST = 40
"""Characters from which on a hexadecimal number is one of a commit or of data."""


def summary(runs: Sequence[Run]) -> Section | None:
    """The main results, a row for each run."""
    runs = [run for run in runs if run.spiking is not None]
    if not runs:
        return None
    headings = (
        "Run", "Coding", "T", "Mean T", "ANN (%)", "SNN (%)", "Spikes per image", "Spikes per neuron and step",
        "Energy, times its ANN's",
    )  # fmt: skip
    rows = [_summary_row(run) for run in runs]
    note = (
        "Accuracy on the test images after the last step. Mean T: steps that an image needed until it had settled or "
        "left. Energy: of the operations that the section on energy lists."
    )
    return Section("summary", "Results", [Table("Main results", headings, rows, frozenset({1})), _note(note)])


def _summary_row(run: Run) -> list[str]:
    results = run.spiking
    assert results is not None
    steps, mean = results.number("num_steps"), results.number("mean_steps")
    series = results.numbers("accuracy")
    return [
        run.label, run.coding, count(steps), "" if mean is None else f"{mean:.4g}",
        per_cent(results.number("ann_accuracy")), per_cent(series[-1] if series else results.number("snn_accuracy")),
        count(results.number("spikes_per_image")), _rate(results.number("firing_rate")),
        ratio(energy_ratio(run.measurement)) if run.measurement else "",
    ]  # fmt: skip


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def accuracy(runs: Sequence[Run]) -> Section | None:
    """Accuracy against T of every run that has it, and of its ANN."""
    known = [(run, values) for run in runs if run.spiking and (values := run.spiking.numbers("accuracy"))]
    if not known:
        return None
    lines: list[Line] = []
    longest = max(len(values) for _, values in known)
    levels: dict[float, list[Run]] = {}
    for run, values in known:
        lines.append(Line(run.label, range(1, len(values) + 1), [100 * each for each in values], run.colour, width=2.5))
        ann = run.spiking.number("ann_accuracy") if run.spiking else None
        if ann is not None:
            levels.setdefault(ann, []).append(run)
    for ann, same in levels.items():
        name = "ANN" if len(levels) == 1 else f"ANN of {', '.join(run.label for run in same)}"
        colour = "--soft" if len(levels) == 1 else same[0].colour
        lines.append(Line(f"{name}, {per_cent(ann)} %", (1, longest), (100 * ann, 100 * ann), colour, "dashed", 1.5))
    log_x, ticks = steps_axis(longest)
    lowest = min(min(values) for _, values in known)
    chart = Chart(
        "accuracy-against-time",
        "Accuracy against time steps",
        "Accuracy of a run stopped after T steps. Dashed: the ANN on the same images. A good coding reaches the dashed "
        "line early and stays on it.",
        "time steps T",
        "test accuracy (%)",
        lines,
        x_ticks=ticks,
        log_x=log_x,
        y_range=(max(0.0, 100 * lowest - 4), 102),
    )
    return Section("accuracy", "Accuracy", [chart, _steps_needed(known)])


_LOSSES = (0.0, 0.5, 1.0, 2.0)
"""Points of accuracy below the ANN's."""


def _steps_needed(known: Sequence[tuple[Run, Sequence[float]]]) -> Table:
    """The smallest T from which on a run stays within some points of its ANN."""
    rows = []
    for run, values in known:
        ann = run.spiking.number("ann_accuracy") if run.spiking else None
        cells = [run.label]
        for loss in _LOSSES:
            low = [t for t, each in enumerate(values, 1) if ann is None or 100 * each < 100 * ann - loss - 1e-9]
            first = low[-1] + 1 if low else 1
            cells.append("never" if first > len(values) else str(first))
        rows.append(cells)
    headings = ("Run", "at or above it", *(f"within {loss:g} points" for loss in _LOSSES[1:]))
    return Table("Smallest T from which the accuracy stays near that of the ANN", headings, rows)


def repeat(runs: Sequence[Run], commands: Sequence[str]) -> Section:
    """The command of every file, and all of its settings."""
    blocks: list[Block] = [
        element("p", "Options that are not shown have their defaults. All settings, defaults included, are below.")
    ]
    files = [(run, each) for run in runs for each in run.files]
    for (run, each), command in zip(files, commands, strict=True):
        settings = each.record.part("settings")
        rows = () if settings is None else tuple((name, _shown(value)) for name, value in settings.content.items())
        several = len(files) > 1
        blocks.append(
            joined(
                element("h3", f"{run.label}: mst {each.verb}" if several else f"mst {each.verb}"),
                element("pre", element("code", command), tabindex="0", aria_label="Command"),
                folded("All settings", Table("Settings", ("Option", "Value"), rows, frozenset({1})).markup()),
            )
        )
    return Section("repeat", "How to repeat it", blocks)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return "none" if value is None else str(value)


def other_results(runs: Sequence[Run]) -> Section | None:
    """Results of verbs that have no section of their own, as they are in the record."""
    blocks: list[Block] = []
    for run in runs:
        results = run.record.part("results")
        if run.files[0].results is None and results is not None and run.files[0].verb != "sweep":
            rows = [(name, _shown(value)) for name, value in results.content.items() if not isinstance(value, list)]
            blocks.append(Table(f"{run.label}: results of mst {run.record.text('verb')}", ("Result", "Value"), rows))
    return Section("other", "Other results", blocks) if blocks else None


def _note(text: str) -> Markup:
    return element("p", text, class_="note")
