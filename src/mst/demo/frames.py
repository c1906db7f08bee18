"""One moment of a run as HTML: answers, scores, spikes and energy after a time step. Texts go with every picture."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mst.experiments import Watched, WatchedCoding
from mst.measure import energy_unit
from mst.report.page.markup import Markup, Table, element, joined, paragraphs
from mst.report.page.theme import THEME

TITLES = {"rate": "Rate coding", "lossless": "Lossless coding"}

MOST_CLASSES = 10
"""Classes whose scores are shown."""

PART_COLOURS = ("--c0", "--c1", "--c4")
"""Colours of the parts of the energy."""

SPIKE_RGB = (225, 110, 40)
"""Colour of a step in which a site fires most; visible on white and on black."""

EVENT_RGB = np.array([[86, 180, 233], [242, 142, 92]])
"""Colours of OFF and ON events."""


def style() -> str:
    """The style sheet, for the head of the page: the colours of `mst report`, light, and dark where Gradio's are."""
    light, dark = ("".join(f"{name}:{values[side]};" for name, values in THEME.items()) for side in (0, 1))
    rules = Path(__file__).with_name("demo.css").read_text(encoding="utf-8")
    return f"<style>.watch,.gradio-container{{{light}}}.dark .watch{{{dark}}}{rules}</style>"


def waiting(text: str) -> Markup:
    """A text in the place of a run."""
    return element("div", element("p", text, class_="waiting"), class_="watch")


def problem(text: str) -> Markup:
    """An error in the place of a run."""
    return element("div", element("p", text, class_="problem", role="alert"), class_="watch")


def picture_markup(image: Tensor, takes_events: bool, text: str) -> Markup:
    """What a network sees.

    Args:
        image: [C, height, width] before normalisation: from 0 to 1, or events per bin and polarity.
        takes_events: True for events.
        text: what the picture shows.
    """
    pixels = _of_events(image) if takes_events else _of_picture(image)
    caption = f"{text} ({' x '.join(map(str, image.shape))})"
    return element("div", _figure(pixels, caption, "seen"), class_="watch")


def frame(watched: Watched, step: int) -> Markup:
    """Both runs after `step` steps; a run that has ended earlier is shown as it ended."""
    ended = step >= watched.last_step
    panels = [_panel(watched, name, step) for name in TITLES]
    return element(
        "div",
        element("p", _in_words(watched, step), class_="words", role="status" if ended else None),
        element("div", *panels, class_="panels"),
        _energy(watched, step),
        _table(watched, step).markup(),
        paragraphs(
            f"Energy is that of this image under the cost model {watched.cost_model}, counted from the spikes of the "
            "run, as mst measure counts it; its figure energy_pj holds maps and products, and softmax and LayerNorm "
            "that are modules. The ANN is the quantised network, dense, priced in 32-bit floating point. Scores are "
            "the softmax of the read-out; they are not calibrated."
        ),
        class_="watch",
    )


def _in_words(watched: Watched, step: int) -> str:
    names, parts = watched.class_names, []
    for name, coding in watched.codings.items():
        parts.append(f"{TITLES[name]}: {names[coding.answer_at(step)]} after {coding.at(step)} steps")
    return f"{'; '.join(parts)}. The ANN's answer: {names[watched.ann.answer]}."


def _panel(watched: Watched, name: str, step: int) -> Markup:
    heading = element("h3", TITLES[name])
    if name not in watched.codings:
        reason = f"This coding cannot carry the network. {watched.refusals[name]}"
        shown = reason if len(reason) < 300 else reason[:300].rsplit(" ", 1)[0] + " ..."
        return element("section", heading, element("p", shown, class_="problem"), class_="panel")
    coding = watched.codings[name]
    now = coding.at(step)
    return element(
        "section",
        heading,
        element(
            "p",
            element("strong", watched.class_names[coding.answer_at(step)], class_="answer"),
            element("span", f"step {now} of {len(coding.sent)}{_ending(coding, step)}", class_="soft ending"),
        ),
        _scores(watched, coding, now),
        _spikes(watched, coding, now),
        class_="panel",
    )


def _ending(coding: WatchedCoding, step: int) -> str:
    """Why a run has ended, if it has."""
    if step < coding.last_step:
        return ""
    if coding.exit_at == coding.last_step:
        return ": left by early exit"
    if coding.settled_at == coding.last_step:
        return ": settled, no neuron can fire again"
    return ": end of the run"


def _scores(watched: Watched, coding: WatchedCoding, now: int) -> Markup:
    """A bar for each class; of many classes, those that are largest at the end."""
    scores = coding.scores[now - 1]
    best = coding.scores[coding.last_step - 1].topk(min(MOST_CLASSES, len(scores))).indices.tolist()
    top, rows = coding.answer_at(now), []
    for number in sorted(best):
        percent = 100 * float(scores[number])
        bar = element("span", element("span", style=f"width:{percent:.1f}%"), class_="bar")
        kind = "top" if number == top else None
        value = element("span", f"{percent:.0f} %", class_="value")
        rows.append(element("li", element("span", watched.class_names[number], class_="name"), bar, value, class_=kind))
    return joined(element("h4", "Class scores"), element("ul", *rows, class_="scores"))


def _spikes(watched: Watched, coding: WatchedCoding, now: int) -> Markup:
    """Sites from above in the order in which they fire, steps from left to right."""
    most = max(float(each.spikes_per_neuron[: each.last_step].max()) for each in watched.codings.values()) or 1.0
    share = (coding.spikes_per_neuron / most).clamp(0, 1).sqrt().numpy()
    share[now:] = 0
    pixels = np.zeros((*share.T.shape, 4), np.uint8)
    pixels[..., :3] = SPIKE_RGB
    pixels[..., 3] = np.round(255 * share.T)
    sent = coding.spikes_after(now)
    text = (
        f"Spikes of {len(coding.sites)} sites in steps 1 to {now}: {sent:,} in all, "
        f"{sent / coding.num_neurons:.3f} per neuron"
    )
    picture = element("img", src=_data_uri(pixels), alt=text, class_="raster")
    steps = len(coding.sent)
    axis = element(
        "div", element("span", "1"), element("span", "time step"), element("span", str(steps)), class_="axis"
    )
    caption = (
        f"A row is a site, input above, output below. Full colour: {most:.2f} spikes per neuron in one step; a quarter "
        "of them has half the colour."
    )
    count = element("strong", f"{sent:,}", class_="count")
    return joined(
        element("h4", "Spikes: ", count),
        element("figure", element("div", picture, class_="grid"), axis, element("figcaption", caption)),
    )


def _energy(watched: Watched, step: int) -> Markup:
    """Three bars on one scale: the ANN, and both runs so far."""
    so_far = {TITLES[name]: each.energy_after(step) for name, each in watched.codings.items()}
    at_end = [sum(each.energy_after(each.last_step).values()) for each in watched.codings.values()]
    ann = sum(watched.ann.energy_pj.values())
    longest = max(ann, *at_end)
    unit, factor = energy_unit(longest)
    parts = list(watched.ann.energy_pj)
    rows = []
    for label, energies in {"ANN": watched.ann.energy_pj, **so_far}.items():
        total = sum(energies.values())
        pieces = [
            element("span", style=f"width:{100 * energies.get(part, 0.0) / longest:.2f}%;background:var({colour})")
            for part, colour in zip(parts, PART_COLOURS, strict=False)
        ]
        times = "" if label == "ANN" else f", {total / ann:.2f}x"
        value = element("span", f"{factor * total:.3g} {unit}{times}", class_="value")
        rows.append(element("li", element("span", label, class_="name"), element("span", *pieces, class_="bar"), value))
    legend = [
        element("span", element("i", style=f"background:var({colour})"), part)
        for part, colour in zip(parts, PART_COLOURS, strict=False)
    ]
    return element(
        "section",
        element("h3", "Energy so far"),
        element("ul", *rows, class_="energies"),
        element("p", *legend, class_="legend"),
        class_="panel",
    )


def _table(watched: Watched, step: int) -> Table:
    """Every figure of this moment as text."""
    codings, ann = watched.codings, watched.ann
    total = sum(ann.energy_pj.values())
    unit, factor = energy_unit(max(total, *(each.table_energy_pj[-1] for each in codings.values())))
    columns = [("ANN", "", "", "", "", "", f"{factor * total:.4g}", "1", f"{factor * ann.table_energy_pj:.4g}")]
    for name, each in codings.items():
        now = each.at(step)
        energy = sum(each.energy_after(step).values())
        columns.append((
            name,
            str(now),
            "" if each.settled_at is None or now < each.settled_at else str(each.settled_at),
            f"{each.spikes_after(step):,}",
            f"{each.spikes_after(step) / each.num_neurons:.3f}",
            f"{int(each.dropped[:now].sum()):,}",
            f"{factor * energy:.4g}",
            f"{energy / total:.3f}",
            f"{factor * each.table_energy_pj[now - 1]:.4g}",
        ))  # fmt: skip
    labels = (
        "time steps", "settled after", "spikes sent", "spikes per neuron", "spikes dropped by masks",
        f"energy of everything counted ({unit})", "times the ANN's",
        f"energy_pj of mst measure: maps, products ({unit})",
    )  # fmt: skip
    answers = [
        watched.class_names[ann.answer],
        *(watched.class_names[each.answer_at(step)] for each in codings.values()),
    ]
    rows = [["answer", *answers]]
    rows += [[label, *(column[place] for column in columns)] for place, label in enumerate(labels, 1)]
    masks = (
        f"masking ratio {watched.masking_ratio:g} at {watched.masked_sites} sites"
        if watched.masked_sites
        else "no masks"
    )
    return Table(f"The same in figures ({masks})", ["", *(column[0] for column in columns)], rows)


def _of_picture(image: Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.round(255 * image.clamp(0, 1).numpy()).astype(np.uint8)
    return pixels[0] if len(pixels) != 3 else np.moveaxis(pixels, 0, 2)


def _of_events(image: Tensor) -> NDArray[np.uint8]:
    """ON and OFF events of all bins in two colours; voxels by their sign."""
    values = image.numpy()
    signed = bool((values < 0).any()) or len(values) % 2
    off, on = (np.maximum(-values, 0).sum(0), np.maximum(values, 0).sum(0)) if signed else (
        values[0::2].sum(0), values[1::2].sum(0)
    )  # fmt: skip
    counts = np.stack([off, on], axis=2) / max(1e-9, float(max(off.max(), on.max())))
    pixels: NDArray[np.uint8] = np.clip(counts @ EVENT_RGB, 0, 255).astype(np.uint8)
    return pixels


def _figure(pixels: NDArray[np.uint8], text: str, kind: str) -> Markup:
    return element("figure", element("img", src=_data_uri(pixels), alt=text), element("figcaption", text), class_=kind)


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
