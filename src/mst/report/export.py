"""Words about an export: what was verified, what fits onto a chip, what rounded weights cost."""

from __future__ import annotations

from rich.table import Table

from mst.experiments import ExportRun
from mst.interchange import TARGETS, ChipCheck, Verification


def export_summary(run: ExportRun) -> list[str]:
    """Lines about the file and what was found."""
    lines = [] if run.graph is None else [f"{run.file}: {run.graph}"]
    if not run.any_batch:
        lines.append("it takes one image at a time: the network computes with the number of images")
    if run.plain is not None and run.rounded is not None:
        before, after = run.plain, run.rounded
        spikes = f", {after.spikes_per_image:,.0f} spikes per image (before: {before.spikes_per_image:,.0f})"
        lines.append(
            f"weights of {run.options.weight_bits} bits, {after.num_images} images: {100 * after.accuracy:.2f} % "
            f"(before: {100 * before.accuracy:.2f} %){'' if run.graph is None else spikes}"
        )
    if run.verification is not None:
        lines += _verified(run.verification, str(run.options.verify), run.options.in_double)
    for each, dtype in ((run.comparison, "float32"), (run.exact, "float64")):
        if each is not None:
            lines.append(
                f"onnxruntime beside torch, {dtype}, {each.num_images} images: the same class for {each.same_answers}; "
                f"logits within 1e-5 for {each.within}; largest difference {each.largest_difference:.2g}"
            )
    return lines


def _verified(found: Verification, name: str, in_double: bool) -> list[str]:
    target = TARGETS[name]
    share = f"{100 * found.differing / found.compared:.3g} %"
    lines = [
        f"{name} ({target.label}) beside mst, {found.num_images} images, T = {found.num_steps}, "
        f"{'float64' if in_double else 'float32'}: {found.differing:,} of {found.compared:,} neuron-steps differ "
        f"({share}), {found.spikes:,} spikes; the same class for {found.same_answers}"
    ]
    if found.differing:
        lines.append(f"{name}: {target.reason}" if target.label == "approximate" else _ROUNDING)
    return lines


_ROUNDING = (
    "sums are rounded in another order there, and a neuron within rounding of its threshold fires a step earlier or "
    "later; --double true shows the rest"
)


def differing_table(found: Verification) -> Table:
    """Sites whose spikes differ."""
    table = Table(title="Spikes that differ, by site")
    for name in ("site", "spikes", "differing", "of"):
        table.add_column(name, justify="left" if name == "site" else "right")
    for name, site in found.sites.items():
        if site.differing:
            table.add_row(name, f"{site.spikes:,}", f"{site.differing:,}", f"{site.compared:,}")
    return table


def chip_table(check: ChipCheck) -> Table:
    """What is closest to its limit, or above it."""
    table = Table(title=f"{check.chip}: {'fits' if check.fits else 'does not fit'}")
    for name in ("where", "what", "needed", "limit", ""):
        table.add_column(name, justify="right" if name in ("needed", "limit") else "left")
    whole = [need for need in check.needs if not need.where]
    for need in (*whole, *(each for each in check.too_large if each.where)):
        over = "" if need.fits else f"{need.needed / need.limit:.2f} times the limit"
        table.add_row(need.where or "all", need.what, f"{need.needed:,g} {need.unit}", f"{need.limit:,g}", over)
    for where, what in check.refusals:
        table.add_row(where, what, "", "", "not possible")
    return table
