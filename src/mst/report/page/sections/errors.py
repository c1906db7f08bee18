"""A diagnosis: errors of quantisation by site, and the bits and time steps that are enough."""

from __future__ import annotations

from collections.abc import Sequence

from mst.experiments.run_files import Fields

from ..charts import Bars, Chart
from ..markup import Table, bullets, element, folded
from ..runs import Run
from ..section import Block, Section
from ..theme import FIRST, SECOND

_REFERENCES = {
    "unclipped": "each site acts as the ReLU that it replaced or, at the operand of a product, as the identity",
    "clipped": "each site limits its input to the range of its levels, and does not round",
}


def site_errors(runs: Sequence[Run]) -> Section | None:
    """Every diagnosis among the runs."""
    blocks: list[Block] = []
    for run in runs:
        if run.diagnosis is not None:
            blocks += _diagnosis(run, run.diagnosis)
    return Section("errors", "Errors of quantisation by site", blocks) if blocks else None


def _diagnosis(run: Run, diagnosis: Fields) -> list[Block]:
    sites = diagnosis.rows("sites")
    reference = diagnosis.text("reference") or ""
    images = diagnosis.text("num_images")
    chart = Chart(
        f"errors-{run.number}",
        f"{run.label}: errors by site",
        "Adds: error of the site's output if this site alone quantises. Effect: error of the network's output if this "
        "site alone quantises. A site with a long effect is one to change first; one that adds much with a short "
        "effect does not matter.",
        "relative error (%)",
        categories=[site.text("site") or "" for site in sites],
        bars=[
            Bars("adds", [100 * (site.number("own_error") or 0.0) for site in sites], FIRST),
            Bars("effect on output", [100 * (site.number("own_effect") or 0.0) for site in sites], SECOND),
        ],
        height=110 + 25 * len(sites),
    )
    known = _REFERENCES.get(reference)
    blocks: list[Block] = [
        element(
            "p", f"Against the network without quantisation, on {images} images" + (f": {known}." if known else ".")
        )
    ]
    if sites:
        blocks += [chart, folded("Levels and errors by site", _table(run, sites).markup())]
    trials = [text for trial in diagnosis.rows("trials") if (text := _trial(trial))]
    codings = [text for coding in diagnosis.rows("codings") if (text := _coding(coding))]
    if trials:
        blocks.append(element("div", element("h3", "Other levels"), bullets(trials)))
    if codings:
        blocks.append(element("div", element("h3", "Time steps"), bullets(codings)))
    return blocks


_COLUMNS = {
    "own_error": "Adds (%)", "own_effect": "Effect on output (%)", "arriving_error": "Arrives (%)",
    "passed_error": "Passed on (%)", "clipped_below": "Clipped below (%)", "clipped_above": "Clipped above (%)",
    "lost_to_zero": "Lost to 0 (%)",
}  # fmt: skip


def _table(run: Run, sites: Sequence[Fields]) -> Table:
    rows = []
    for site in sites:
        shares = (site.number(name) for name in _COLUMNS)
        levels = (f"{site.text(f'lowest_{kind}')}...{site.text(f'highest_{kind}')}" for kind in ("level", "used"))
        rows.append([site.text("site") or "", *levels, *("" if n is None else f"{100 * n:.2f}" for n in shares)])
    return Table(f"{run.label}: sites", ("Site", "Levels", "Used", *_COLUMNS.values()), rows)


def _trial(trial: Fields) -> str:
    output = trial.part("output")
    agreement, error = (None if output is None else output.number(name) for name in ("agreement", "error"))
    change = f"L = {trial.text('num_levels')}" if trial.has("num_levels") else trial.text("change") or ""
    same = "" if agreement is None else f", same prediction for {100 * agreement:.1f} % of the images"
    return f"{change}: error of the output {100 * error:.1f} %{same}" if error is not None else ""


def _coding(coding: Fields) -> str:
    name, refused = coding.text("coding") or "", coding.texts("refused")
    if refused:
        return f"{name}: cannot carry the network ({'; '.join(refused)})"
    agreement = coding.numbers("agreement")
    if not agreement:
        return ""
    settled = coding.number("num_settled")
    last = f"; {settled:.0f} of {coding.text('num_images')} images settled" if settled is not None else ""
    steps = len(agreement)
    return f"{name}: {100 * agreement[-1]:.0f} % of the quantised network's predictions after {steps} steps{last}"
