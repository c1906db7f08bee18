"""Single images: class scores as they evolve, and attention."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from mst.experiments import RunTraces, TracedImage

from ..charts import Chart, Line, steps_axis
from ..markup import Markup, element, paragraphs
from ..runs import Run
from ..section import Block, Gallery, Section
from ..theme import series_colour

MOST_IMAGES = 6
"""Images whose scores the page shows."""

_MOST_CLASSES = 5
_MOST_MAPS = 4
_MOST_CELLS = 30_000


def class_scores(runs: Sequence[Run]) -> Section | None:
    """What the prediction is read from, after each step, image by image."""
    traced = [(run, run.traces) for run in runs if run.traces is not None]
    if not traced:
        return None
    blocks: list[Block] = [paragraphs(*_about(traced))]
    indices = list(dict.fromkeys(image.trace.index for _, traces in traced for image in traces.images))
    for index in indices[:MOST_IMAGES]:
        found = [
            (run, traces, image) for run, traces in traced for image in traces.images if image.trace.index == index
        ]
        classes = _classes([image for _, _, image in found])
        blocks.append(_introduction(found))
        blocks.append(Gallery([_scores(run, traces, image, classes) for run, traces, image in found]))
    if len(indices) > MOST_IMAGES:
        blocks.append(
            element("p", f"The files hold traces of {len(indices)} images; {MOST_IMAGES} are shown.", class_="note")
        )
    return Section("scores", "Class scores of single images", blocks)


def _about(traced: Sequence[tuple[Run, RunTraces]]) -> list[str]:
    texts = [
        "These images were simulated again, one by one and step by step, with the masks that they have in the run. The "
        "score of a class is what the prediction is read from: the mean of the logits so far under rate coding, the "
        "logits as they are under lossless coding."
    ]
    known = [(run.label, t.score_difference) for run, t in traced if t.score_difference is not None]
    if known:
        each = ", ".join(f"{difference:.1g} ({label})" for label, difference in known)
        texts.append(f"Check: at the end their scores differ from those of the run in batches by at most {each}.")
    return [*texts, *(f"{run.label}: {text}" for run, traces in traced for text in traces.notes)]


def name_of(traces: RunTraces, number: int | None) -> str:
    """The name of a class, or its number."""
    known = number is not None and number < len(traces.class_names)
    return traces.class_names[number] if known and number is not None else f"class {number}"


def _classes(images: Sequence[TracedImage]) -> list[int]:
    """The classes to draw: those with the largest scores at the end, and the image's own."""
    wanted: list[int] = [image.label for image in images if image.label is not None][:1]
    for scores in [image.trace.scores[-1] for image in images] + [image.ann_scores for image in images]:
        wanted += scores.argsort(descending=True)[:_MOST_CLASSES].tolist()
    counted = list(dict.fromkeys(wanted))
    return sorted(counted[:_MOST_CLASSES])


def _introduction(found: Sequence[tuple[Run, RunTraces, TracedImage]]) -> Markup:
    _, traces, image = found[0]
    label = "" if image.label is None else f": {name_of(traces, image.label)}"
    answers = [f"ANN: {name_of(traces, int(image.ann_scores.argmax()))}"]
    for other, theirs, each in found:
        steps, last = len(each.trace.scores), int(each.trace.scores[-1].argmax())
        answers.append(f"{other.label}: {name_of(theirs, last)} after {steps} steps")
    title = f"Image {image.trace.index}{label}"
    return element(
        "div",
        element("img", src=_png(image), alt=f"{title}, {image.picture.shape[1]} x {image.picture.shape[0]} pixels"),
        element("div", element("h3", title), element("p", "; ".join(answers))),
        class_="image",
    )


def _png(image: TracedImage) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image.picture.numpy()).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _scores(run: Run, traces: RunTraces, image: TracedImage, classes: Sequence[int]) -> Chart:
    scores = image.trace.scores
    steps = range(1, len(scores) + 1)
    lines = []
    for number, chosen in enumerate(classes):
        own, colour = chosen == image.label, series_colour(number)
        values = [round(value, 4) for value in scores[:, chosen].tolist()]
        name = name_of(traces, chosen) + (" (the image's class)" if own else "")
        lines.append(Line(name, steps, values, colour, width=3.5 if own else 1.5))
        lines.append(Line("", (len(scores),), (round(float(image.ann_scores[chosen]), 4),), colour, "points"))
    log_x, ticks = steps_axis(len(scores))
    return Chart(
        f"scores-{run.number}-{image.trace.index}",
        f"{run.label}: scores of image {image.trace.index}",
        "Thick: the class of the image. Diamonds: the logits of the ANN, where lossless coding ends. The answer is "
        "safe once the uppermost curve stays uppermost.",
        "time steps t",
        "score (logits)",
        lines,
        x_ticks=ticks,
        log_x=log_x,
        height=330,
    )


def attention_maps(runs: Sequence[Run]) -> Section | None:
    """The sites of attention for the first image of each run."""
    charts: dict[str, list[Chart]] = {}
    for run in runs:
        for image in () if run.traces is None else run.traces.images[:1]:
            for number, site in enumerate(list(image.trace.attention)[:_MOST_MAPS]):
                charts.setdefault(site, []).append(_map(run, image, site, number))
    if not charts:
        return None
    text = (
        "What the spikes of the attention sites carry for the first traced image: the mean over the steps under rate "
        "coding, the level after the last step under lossless coding. A row is a query, a column a key; tiles are "
        "windows (down) and heads (across)."
    )
    return Section("attention", "Attention", [element("p", text), *map(Gallery, charts.values())])


def _map(run: Run, image: TracedImage, site: str, number: int) -> Chart:
    maps = image.trace.attention[site]
    windows, heads, queries, keys = maps.shape
    across = max(1, min(heads, _MOST_CELLS // max(1, queries * keys)))
    down = max(1, min(windows, _MOST_CELLS // max(1, queries * keys * across)))
    rows: list[list[float | None]] = []
    for window in range(down):
        if window:
            rows.append([None] * (across * (keys + 1) - 1))
        tiles = maps[window, :across]
        for query in range(queries):
            row: list[float | None] = []
            for head in range(across):
                row += ([None] if head else []) + [float(f"{value:.3g}") for value in tiles[head, query].tolist()]
            rows.append(row)
    cut = (
        ""
        if (across, down) == (heads, windows)
        else f" The first {down} of {windows} windows and {across} of {heads} heads."
    )
    return Chart(
        f"attention-{run.number}-{number}",
        f"{run.label}: {site}",
        f"Image {image.trace.index}; windows: {windows}, heads: {heads}, queries: {queries}, keys: {keys}.{cut}",
        "keys, head by head",
        "queries, window by window",
        values=rows,
        x_ticks=[(head * (keys + 1) + (keys - 1) / 2, f"head {head}") for head in range(across)],
        y_ticks=[(window * (queries + 1) + (queries - 1) / 2, f"window {window}") for window in range(down)],
        height=round(min(420, 150 + 320 * len(rows) / len(rows[0]))),
    )
