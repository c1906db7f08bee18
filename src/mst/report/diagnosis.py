"""Diagnosis of a quantised network: a table, lines of advice, a csv and a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mst.experiments.diagnosis_results import CodingTrial, Diagnosis, LevelTrial, SiteRemedy
from mst.files import write_text
from mst.quantization.site_errors import OutputError, SiteErrors

from .drawing import AC_COLOUR, ANN_COLOUR, SNN_COLOUR, drawing, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REFERENCES = {
    "unclipped": "each site acts as the ReLU that it replaced or, at the operand of a product, as the identity",
    "clipped": "each site limits its input to the range of its levels, and does not round",
}


def diagnosis_table(diagnosis: Diagnosis) -> Table:
    """Every site with its errors, in per cent, and its levels."""
    table = Table(title="Errors of quantisation by site (%, relative)", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("site", overflow="fold")
    for heading in (
        "adds", "effect on\noutput", "arrives", "passed\non", "levels", "used", "effec-\ntive", "clipped\nbelow",
        "clipped\nabove", "lost\nto 0", "threshold",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for site in diagnosis.sites:
        shares = (site.own_error, site.own_effect, site.arriving_error, site.passed_error)
        low, _, high = site.threshold
        table.add_row(
            site.site,
            *(f"{100 * share:.1f}" for share in shares),
            f"{site.lowest_level}...{site.highest_level}",
            f"{site.lowest_used}...{site.highest_used}",
            f"{site.effective_levels:.1f}",
            *(f"{100 * share:.2f}" for share in (site.clipped_below, site.clipped_above)),
            f"{100 * site.lost_to_zero:.1f}",
            f"{low:.3g}" if site.num_thresholds == 1 else f"{low:.3g}...{high:.3g}",
        )
    return table


def diagnosis_summary(diagnosis: Diagnosis, agreement: float) -> list[str]:
    """Lines about the whole network, the sites to change first, and the bits and time steps that are enough.

    Args:
        diagnosis: the result.
        agreement: share of the images whose prediction must be the same before a number is called enough.
    """
    accuracy = _percent(diagnosis.reference_accuracy)
    lines = [
        f"Reference: {_REFERENCES[diagnosis.reference]}" + (f"; accuracy {accuracy}" if accuracy else ""),
        f"This network: {_output(diagnosis.output)} ({diagnosis.num_images} images)",
    ]
    if diagnosis.unused:
        lines.append(f"Not in the forward pass: {', '.join(diagnosis.unused)}")
    if diagnosis.remedies:
        share = sum(remedy.share for remedy in diagnosis.remedies)
        lines.append(
            f"Sites to change first: these {len(diagnosis.remedies)} of {len(diagnosis.sites)} make "
            f"{100 * share:.0f} % of the error of the output (sum of the squared effects of single sites)"
        )
        lines += [f"  - {_remedy(remedy, diagnosis.sites)}" for remedy in diagnosis.remedies]
        then = ", then mst.set_thresholds(model, images)" if diagnosis.reference == "unclipped" else ""
        lines.append(f"  (more levels for a site: mst.set_levels(model, {{SITE: LEVELS}}){then})")
    return lines + _about_levels(diagnosis, agreement) + [_about_coding(each, agreement) for each in diagnosis.codings]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _output(output: OutputError) -> str:
    parts = [f"error of the output {100 * output.error:.1f} %"]
    parts += [] if output.agreement is None else [f"{_percent(output.agreement)} of the reference's predictions"]
    parts += [] if output.accuracy is None else [f"accuracy {_percent(output.accuracy)}"]
    return ", ".join(parts)


def _remedy(remedy: SiteRemedy, sites: Sequence[SiteErrors]) -> str:
    site = next(each for each in sites if each.site == remedy.site)
    words = [f"effect {100 * remedy.effect:.1f} %"]
    if remedy.with_one_more_bit is not None:
        words.append(f"with one more bit {100 * remedy.with_one_more_bit:.1f} %")
    if remedy.per_channel is not None:
        words.append(f"with a threshold for each channel {100 * remedy.per_channel:.1f} %")
    if site.clipping_share > 0.5:
        words.append("more than half of its error is clipping")
    return f"{remedy.site} ({100 * remedy.share:.0f} %): {', '.join(words)}"


def _about_levels(diagnosis: Diagnosis, agreement: float) -> list[str]:
    if not diagnosis.trials:
        return []
    how = "thresholds set from images" if diagnosis.reference == "unclipped" else "the ranges of the sites kept"
    lines = [f"Other levels at all sites ({how}):"]
    lines += [f"  - {_change(trial)}: {_output(trial.output)}" for trial in diagnosis.trials]
    if any(trial.change == "levels" and trial.output.agreement is not None for trial in diagnosis.trials):
        enough = diagnosis.enough_levels(agreement)
        verdict = f"none of these keeps {100 * agreement:g} %"
        if enough is not None:
            verdict = f"{enough.bit_length()} bits (L = {enough}) are enough for {100 * agreement:g} %"
        lines.append(f"  {verdict} of the reference's predictions on these {diagnosis.num_images} images")
    return lines


def _change(trial: LevelTrial) -> str:
    if trial.num_levels is not None:
        return f"{trial.num_levels.bit_length()} bits (L = {trial.num_levels})"
    return {"per channel": "a threshold for each channel"}.get(trial.change, trial.change)


def _about_coding(trial: CodingTrial, agreement: float) -> str:
    coding, _, how = trial.coding.partition(", ")
    name = f"{coding.capitalize()} coding" + (f" ({how})" if how else "")
    if trial.refused:
        others = f", and {len(trial.refused) - 1} more places" if len(trial.refused) > 1 else ""
        return f"{name} cannot carry this network: {trial.refused[0]}{others}"
    words = []
    if trial.num_settled:
        words.append(
            f"{trial.num_settled} of {trial.num_images} images settle, in {trial.mean_steps:.1f} steps on average and "
            f"at most {trial.most_steps}"
        )
    elif trial.num_settled == 0:
        words.append(f"no image of {trial.num_images} settles in the steps simulated")
    if trial.agreement:
        steps, longest = trial.steps_to(agreement), len(trial.agreement)
        found = f"from T = {steps} on" if steps is not None else f"not within T = {longest}"
        words.append(
            f"{100 * agreement:g} % of the quantised network's predictions {found} ({trial.num_images} images; "
            f"{_percent(trial.agreement[-1])} at the end)"
        )
    return f"{name}: {'; '.join(words)}"


def write_diagnosis_csv(path: Path, diagnosis: Diagnosis) -> Path:
    """Write one row for each site, unrounded; thresholds in three columns."""
    text = io.StringIO()
    rows = []
    for site in diagnosis.sites:
        row = asdict(site)
        row["threshold_min"], row["threshold_median"], row["threshold_max"] = row.pop("threshold")
        rows.append(row)
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def diagnosis_figure(diagnosis: Diagnosis, path: Path, title: str = "") -> Path:
    """Four panels with one line for each site, in the order in which they act.

    Errors of the site's output; its effect on the output of the network; levels; values clipped and lost to 0.
    """
    sites, height = diagnosis.sites, 0.2 * len(diagnosis.sites)
    places = range(len(sites))
    with drawing(13.0, 2.0 + height) as figure:
        errors, effects, levels, shares = figure.subplots(1, 4, sharey=True, width_ratios=(4, 2, 2, 2))
        errors.barh(places, _percents(sites, "own_error"), color="#dca58d", height=0.72, label="adds")
        errors.plot(_percents(sites, "arriving_error"), places, color=AC_COLOUR, linewidth=1.2, label="arrives")
        passed = _percents(sites, "passed_error")
        errors.plot(passed, places, color=ANN_COLOUR, linewidth=1.2, marker=".", markersize=4, label="passed on")
        errors.set_xlabel("error of the site's output (%)")
        named = {remedy.site for remedy in diagnosis.remedies}
        colours = [SNN_COLOUR if site.site in named else "#dca58d" for site in sites]
        effects.barh(places, _percents(sites, "own_effect"), color=colours, height=0.72)
        effects.set_xlabel("effect of this site alone on the\noutput (%); dark: change first")
        _draw_levels(levels, sites)
        shares.barh(places, _percents(sites, "lost_to_zero"), color="#b9d3e0", height=0.72, label="lost to 0")
        clipped = [100 * (site.clipped_below + site.clipped_above) for site in sites]
        shares.barh(places, clipped, color=ANN_COLOUR, height=0.3, label="clipped")
        shares.set_xlabel("share of the values (%)")
        errors.set_yticks(places, [site.site for site in sites], fontsize=7)
        errors.set_ylim(len(sites) - 0.4, -0.6)
        for axes in (errors, effects, levels, shares):
            axes.grid(visible=False, axis="y")
            axes.set_xlim(left=0)
        for axes in (errors, levels, shares):
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, handlelength=1.4)
        figure.suptitle(title or "Errors of quantisation by site", fontsize=11)
        return save_figure(figure, path)


def _percents(sites: Sequence[SiteErrors], name: str) -> list[float]:
    return [100 * getattr(site, name) for site in sites]


def _draw_levels(axes: Axes, sites: Sequence[SiteErrors]) -> None:
    """Levels that a site has, and the number of equally frequent ones that it makes of them."""
    number = [site.highest_level - site.lowest_level + 1 for site in sites]
    axes.barh(range(len(sites)), number, color="#e8e8e8", height=0.72, label="levels")
    effective = [site.effective_levels for site in sites]
    axes.barh(range(len(sites)), effective, color=AC_COLOUR, height=0.4, label="effective")
    axes.set_xlabel("levels")
