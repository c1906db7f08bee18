"""Predictions for single files: a table, a few lines, and a picture of class scores over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor

from mst.experiments.prediction import DrawnPrediction, Prediction, PredictionRun

from .drawing import CURVE_COLOURS, drawing, label_time_axis, save_figure

MOST_ROWS = 40
"""Files that the table shows."""

MOST_TICKS = 16
"""Time steps that are all marked on an axis; with more it is logarithmic."""

MOST_STEPS = 5
"""Time steps that it shows beside the last."""


def prediction_table(run: PredictionRun) -> Table:
    """A row for each of the first files: answers at some steps, the answer, the next classes."""
    table = Table(title=f"{run.checkpoint}, {run.coding.coding} coding, T = {run.num_steps}")
    table.add_column("file", overflow="fold")
    steps = _steps_shown(run)
    for step in steps:
        table.add_column(f"T={step}", overflow="fold")
    for heading in ("answer", "score", "next classes"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "score" else "left")
    table.add_column("final\nfrom step", justify="right")
    settles = any(each.settled_at is not None for each in run.predictions)
    if settles:
        table.add_column("settled\nat step", justify="right")
    table.add_column("ANN", overflow="fold")
    for each in run.predictions[:MOST_ROWS]:
        names = run.class_names
        following = zip(each.top[1:], each.scores[1:], strict=True)
        others = ", ".join(f"{names[number]} {100 * score:.1f} %" for number, score in following)
        table.add_row(
            each.file.name, *(names[each.answer_at(step)] for step in steps), names[each.answer],
            f"{100 * each.scores[0]:.1f} %", others, f"{each.final_from}",
            *([f"{each.settled_at or 'not yet'}"] if settles else []), names[each.ann_answer],
        )  # fmt: skip
    return table


def prediction_summary(run: PredictionRun) -> list[str]:
    """Lines about what the table leaves out, agreement with the ANN, spikes, and files that could not be read."""
    number, lines = len(run.predictions), []
    if number > MOST_ROWS:
        lines.append(f"{number - MOST_ROWS:,} more files are in predictions.json")
    equal = sum(each.answer == each.ann_answer for each in run.predictions)
    said = f"Answers equal to the quantised ANN's: {equal:,} of {number:,}"
    settled = [each.ann_difference for each in run.predictions if each.settled_at is not None]
    if settled:
        said += f"; settled: {len(settled):,}, whose logits differ from the ANN's by at most {max(settled):.2g}"
    lines += [
        said,
        f"Spikes per neuron and image: {run.spikes_per_neuron:.3g}, in {run.mean_steps:.3g} steps on average",
        "Scores are softmax of the read-out; they are not calibrated probabilities",
        *(f"Not read: {path}: {problem}" for path, problem in run.unreadable),
    ]
    return lines


def _steps_shown(run: PredictionRun) -> list[int]:
    """Powers of two up to the step from which no answer changes any more."""
    last = max(each.final_from for each in run.predictions)
    powers = [1 << k for k in range(last.bit_length()) if 1 << k < run.num_steps]
    return powers[-MOST_STEPS:]


def draw_predictions(run: PredictionRun, path: Path) -> Path:
    """For each drawn file what the network saw, and beside it the scores of its best classes after each step.

    Args:
        run: with at least one drawn prediction.
        path: of the .png.
    """
    with drawing(8.0, 0.7 + 1.65 * len(run.drawn)) as figure:
        rows = figure.subplots(len(run.drawn), 2, squeeze=False, width_ratios=(1.5, 6.5))
        shown = max(_last_change(each) for each in run.drawn)
        for row, drawn in zip(rows, run.drawn, strict=True):
            _draw_image(row[0], drawn)
            _draw_scores(row[1], drawn, run.class_names, shown)
        for row in rows[:-1]:
            row[1].tick_params(labelbottom=False)
            row[1].set_xlabel("")
        figure.supylabel("score (softmax, %)", fontsize=10)
        figure.suptitle(f"{run.checkpoint}: class scores over time, {run.coding.coding} coding")
        return save_figure(figure, path)


def _last_change(drawn: DrawnPrediction) -> int:
    """Steps worth showing: all that change a score by a thousandth."""
    moved = ((drawn.scores - drawn.scores[-1]).abs().amax(dim=1) > 1e-3).nonzero()
    last = int(moved[-1]) + 2 if len(moved) else 1
    return min(len(drawn.scores), last + 1)


def _draw_image(axes: Any, drawn: DrawnPrediction) -> None:
    axes.imshow(_picture(drawn.image).numpy(), cmap="gray", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(_short(drawn.prediction.file.name), fontsize=8)


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 9]}…{name[-8:]}"


def _picture(image: Tensor) -> Tensor:
    """[C, height, width] -> what imshow draws: colours from 0 to 1, or one channel, of recordings all events."""
    if len(image) == 3:
        return image.clamp(0, 1).permute(1, 2, 0)
    return image.sum(dim=0)


def _draw_scores(axes: Any, drawn: DrawnPrediction, names: Sequence[str], shown: int) -> None:
    each: Prediction = drawn.prediction
    steps = range(1, shown + 1)
    for number, answer in enumerate(each.top[: len(CURVE_COLOURS)]):
        curve = (100 * drawn.scores[:shown, answer]).tolist()
        axes.plot(
            steps, curve, color=CURVE_COLOURS[number], label=f"{names[answer]}, {100 * each.scores[number]:.1f} %",
            linewidth=1.8 if number == 0 else 1.2, linestyle=("-", "--", ":", "-.", (0, (1, 3)))[number],
            marker="o" if shown < 8 else None, markersize=3,
        )  # fmt: skip
    if each.settled_at is not None:
        axes.axvline(min(each.settled_at, shown), color="#888888", linewidth=1, linestyle=":")
    title = "answer final from step " + str(each.final_from)
    if each.settled_at is not None:
        title += f", settled at step {each.settled_at} (dotted line)"
    axes.set_title(f"{title}; ANN: {names[each.ann_answer]}", fontsize=8, loc="left")
    if shown <= MOST_TICKS:
        axes.set_xticks(range(1, shown + 1))
        axes.set_xlim(1, max(2, shown))
        axes.set_xlabel("time steps T")
    else:
        label_time_axis(axes, shown)
    axes.set_ylim(-4, 104)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
