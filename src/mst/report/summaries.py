"""Results of runs in words."""

from __future__ import annotations

from mst.experiments import MeasurementRun, SimulationRun, masking_ratio_of
from mst.measure import ALPHA_WATTS, EnergyEstimate
from mst.operations import ELEMENTARY
from mst.simulation import ExitCalibration

from .tables import steps_in_words


def run_label(run: SimulationRun) -> str:
    """Name of a run in tables and figures: its masking ratio."""
    return f"p = {masking_ratio_of(run.opened.model):g}"


def run_title(run: SimulationRun, with_steps: bool = False) -> str:
    """Title of a figure: the data set, and the images and the coding or the time steps."""
    name, result, slices = run.opened.data.info.name, run.result, run.steps.slices
    shown = "" if slices is None else f", {slices} slices over time"
    if with_steps:
        return f"{name}, {steps_in_words(result.num_steps, result.mean_steps)}{shown}"
    return f"{name}, {result.num_images} test images, {run.coding.coding} coding{shown}"


def simulation_summary(run: SimulationRun) -> list[str]:
    """Lines about early exit, settling, and the spikes sent against the fewest possible."""
    result = run.result
    lines = [] if run.calibration is None else [_about_calibration(run.calibration)]
    if result.settled_at is not None and result.early_exit is None:
        lines += _about_settling(run)
    if result.early_exit is not None:
        lines.append(f"Steps per image with early exit ({result.early_exit}): {result.mean_steps:.2f}")
    least = run.quanta_per_image
    lines.append(
        f"Spikes per image: {result.spikes_per_image:,.0f}, {result.spikes_per_image / max(1.0, least):.2f} times the "
        f"{least:,.0f} quanta of the ANN's activations"
    )
    return lines


def energy_summary(run: MeasurementRun) -> list[str]:
    """The lines of the simulation, the constants, and every assumption."""
    estimate = run.estimate
    return [
        *simulation_summary(run.simulation),
        *_about_functions(estimate),
        *_verdict(run),
        f"Constants: {estimate.cost_model}",
        *_left_out(estimate),
        "Assumptions:",
        *(f"  - {assumption}" for assumption in estimate.assumptions),
    ]


def _about_functions(estimate: EnergyEstimate) -> list[str]:
    """Lines about what the ratios hold, and about the price of each elementary operation that occurs."""
    if not estimate.functions:
        return []
    whole, model = estimate.whole, estimate.cost_model
    kinds = [kind for kind in ELEMENTARY if kind in whole.ann.operations.counts and model.knows(kind)]
    return [
        f"Energy as a multiple of the ANN's: maps and products {estimate.maps_and_products.ratio:.2f}x, with functions "
        f"{whole.ratio:.2f}x. The table of operations ({estimate.ratio:.2f}x) holds softmax and LayerNorm that are "
        "modules at 3 MACs per element, and no other function",
        "Elementary operations of functions:",
        *(f"  - {model.of_function_in_words(kind)}" for kind in kinds),
    ]


def _left_out(estimate: EnergyEstimate) -> list[str]:
    """A line with the kinds of operations that occur and that the cost model leaves out, by reason."""
    reasons: dict[str, list[str]] = {}
    occurring = {kind for row in estimate.budget for each in (row.counted.snn, row.counted.ann) for kind in each}
    for kind, reason in estimate.cost_model.leaves_out.items():
        if kind in occurring:
            reasons.setdefault(reason, []).append(kind.replace("_", " "))
    words = [f"{', '.join(kinds)} ({reason})" for reason, kinds in reasons.items()]
    return [f"Counted, but left out by this model: {'; '.join(words)}"] if words else []


def _verdict(run: MeasurementRun) -> list[str]:
    """The verdict, and what it depends on; or why there is none."""
    estimate, verdict = run.estimate, run.verdict
    if verdict is None:
        return [
            f"No verdict: the cost model {estimate.cost_model.name} has no energy for {', '.join(estimate.unpriced)}. "
            "Add the constants, or name these kinds in leaves_out, each with the reason"
        ]
    notes = {f"its {each.name}: {each.note}" for each in verdict.baselines if each.ratio is None}
    return [
        f"Power by the paper's measure: {ALPHA_WATTS.in_words(run.simulation.result)}",
        f"Verdict ({estimate.cost_model.name}; everything counted below, on both sides). {verdict}",
        *(f"  - no comparison with {note}" for note in sorted(notes)),
        *(f"  - it depends on {each}" for each in verdict.depends_on),
    ]


def _about_calibration(calibration: ExitCalibration) -> str:
    chosen, full = calibration.chosen, calibration.full
    promise = (
        f"at most {100 * calibration.accuracy_loss:g} points of accuracy with {100 * calibration.confidence:g} % "
        f"confidence over the draw of {calibration.num_images} validation images"
    )
    if calibration.p_value is None:
        return f"Early exit: no rule is shown to cost {promise}; every image takes all its steps"
    return (
        f"Early exit: {chosen.early_exit}. It costs {promise} (p = {calibration.p_value:.2g}). On these images: mean T "
        f"{chosen.mean_steps:.1f} instead of {full.mean_steps:.1f}, accuracy {100 * chosen.accuracy:.2f} % instead of "
        f"{100 * full.accuracy:.2f} %"
    )


def _about_settling(run: SimulationRun) -> list[str]:
    result, lines = run.result, []
    assert result.settled_at is not None
    settled = result.settled_at[result.settled_at > 0]
    if len(settled):
        lines.append(
            f"{len(settled)} of {result.num_images} images have settled: their logits are the ANN's, after "
            f"{settled.double().mean():.1f} steps on average and at most {settled.max()}"
        )
        lines.append(f"Their answers and their ANN's: {_agreement(run)}")
    if len(settled) < result.num_images:
        lines.append(
            f"{result.num_images - len(settled)} of {result.num_images} images have not settled in {result.num_steps} "
            f"steps; give them more with --time-steps (the proof allows up to {run.longest_settling}, most need far "
            "fewer), or a larger --burst"
        )
    return lines


def _agreement(run: SimulationRun) -> str:
    result = run.result
    assert result.settled_at is not None
    settled = result.settled_at > 0
    ours, theirs = result.logits[settled], run.evaluation.logits.to(result.logits)[settled]
    same = int((ours.argmax(1) == theirs.argmax(1)).sum())
    return f"{same} of {len(ours)} equal; a logit differs by at most {float((ours - theirs).abs().max()):.1e}"
