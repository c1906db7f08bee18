"""Single neurons: rasters of spikes, and membrane potentials."""

from __future__ import annotations

from collections.abc import Sequence

from mst.experiments import RunTraces, TracedImage
from mst.simulation import SiteTrace

from ..charts import Chart, Line
from ..markup import element
from ..runs import Run
from ..section import Block, Gallery, Section
from ..theme import FIRST, NEUTRAL, SECOND, series_colour

MOST_IMAGES, MOST_SITES = 2, 6
"""Images and sites of a run that the page shows."""

_MOST_SPIKES = 4000
"""Spikes in one raster; of more, fewer neurons are drawn."""

_HEIGHT = 380
"""Of a raster, in pixels."""


def rasters(runs: Sequence[Run]) -> Section | None:
    """Spikes of some neurons of the traced sites, site by site, the runs beside each other."""
    charts = [
        Gallery([_raster(run, traces, image, site) for run, traces, image in found])
        for site, found in _by_site(runs, MOST_IMAGES).items()
    ]
    if not charts:
        return None
    text = (
        "A stroke is a neuron that fires in a step, after masking; neurons are evenly spaced over the site. Under rate "
        "coding a neuron repeats its activation for as long as it runs. Under lossless coding it sends changes, and "
        "falls silent when it has sent all; negative spikes, in the second colour, correct what was sent too early."
    )
    return Section("rasters", "Spikes", [element("p", text), *charts])


def membranes(runs: Sequence[Run]) -> Section | None:
    """Membrane potentials of the most active of the recorded neurons, for the first traced image."""
    blocks: list[Block] = []
    for site, found in _by_site(runs, 1).items():
        charts = [_membrane(run, traces, image, site) for run, traces, image in found if _has_potential(image, site)]
        blocks += [Gallery(charts)] if charts else []
    if not blocks:
        return None
    text = (
        "The membrane potential after each step. Under rate coding it is in thresholds: a neuron fires at 1 and loses "
        "1; one whose input is above the threshold fires in every step and still grows, and its activation is clipped. "
        "Under lossless coding it is in quanta: what has arrived, less what has been sent, plus a half; a neuron that "
        "has sent all of its activation rests between 0 and 1, or outside where its activation is clipped."
    )
    return Section("membranes", "Membrane potentials", [element("p", text), *blocks])


def _by_site(runs: Sequence[Run], most_images: int) -> dict[str, list[tuple[Run, RunTraces, TracedImage]]]:
    """Site -> the traces of it, by image and run."""
    found: dict[str, list[tuple[Run, RunTraces, TracedImage]]] = {}
    for place in range(most_images):
        for run in runs:
            if run.traces is None or place >= len(run.traces.images):
                continue
            image = run.traces.images[place]
            for site in list(image.trace.sites)[:MOST_SITES]:
                found.setdefault(site, []).append((run, run.traces, image))
    return found


def _has_potential(image: TracedImage, site: str) -> bool:
    return image.trace.sites[site].potential is not None


def _raster(run: Run, traces: RunTraces, image: TracedImage, site: str) -> Chart:
    trace = image.trace.sites[site]
    per_neuron = (trace.sent != 0).sum(dim=0).cumsum(dim=0)
    shown = max(1, int((per_neuron <= _MOST_SPIKES).sum()))
    sent = trace.sent[:, :shown]
    lines = []
    for label, of_sign, colour in (("positive", sent > 0, FIRST), ("negative", sent < 0, SECOND)):
        steps, neurons = of_sign.nonzero(as_tuple=True)
        if len(steps) or label == "positive":
            name = label if traces.sends_changes else "spikes"
            lines.append(Line(name, (steps + 1).tolist(), neurons.tolist(), colour, "ticks", _stroke(shown)))
    total = int((trace.sent != 0).sum())
    return Chart(
        f"raster-{run.number}-{image.trace.index}-{_place(image, site)}",
        f"{run.label}: {site}, image {image.trace.index}",
        f"{shown} of {trace.num_neurons:,} neurons, {len(trace.sent)} steps"
        + ("." if shown == len(trace.neurons) else f"; {len(trace.neurons)} were recorded.")
        + f" {_active(trace)} of {len(trace.neurons)} recorded neurons fire, in {total:,} places.",
        "time step t",
        "neuron",
        lines,
        x_ticks=_steps(len(trace.sent)),
        x_range=(0.5, len(trace.sent) + 0.5),
        y_range=(shown - 0.5, -0.5),
        height=_HEIGHT,
    )


def _active(trace: SiteTrace) -> int:
    return int((trace.sent != 0).any(dim=0).sum())


def _place(image: TracedImage, site: str) -> int:
    return list(image.trace.sites).index(site)


def _stroke(neurons: int) -> float:
    """Half the length of a stroke so that the strokes of neighbours do not touch, in pixels."""
    return max(1.5, min(8.0, 0.36 * _HEIGHT / neurons))


def _steps(num_steps: int) -> list[tuple[float, str]]:
    """At most ten ticks at whole steps."""
    apart = max(1, -(-num_steps // 10))
    return [(step, str(step)) for step in range(1 if apart == 1 else apart, num_steps + 1, apart)]


def _examples(trace: SiteTrace) -> list[int]:
    """Places of the most, the median and the least active of the recorded neurons that fire; the first if none does."""
    fired = (trace.sent != 0).sum(dim=0)
    order = fired.argsort(descending=True, stable=True)[: int((fired > 0).sum())].tolist()
    return list(dict.fromkeys([order[0], order[len(order) // 2], order[-1]])) if order else [0]


def _membrane(run: Run, traces: RunTraces, image: TracedImage, site: str) -> Chart:
    trace = image.trace.sites[site]
    assert trace.potential is not None
    chosen, steps = _examples(trace), len(trace.sent)
    lines = [
        Line(
            f"neuron {int(trace.neurons[each])}",
            range(1, steps + 1),
            [round(value, 4) for value in trace.potential[:, each].tolist()],
            series_colour(number),
        )
        for number, each in enumerate(chosen)
    ]
    limits = (0.0, 1.0) if traces.sends_changes else (1.0,)
    lines += [Line("", (1, steps), (limit, limit), NEUTRAL, "dashed", 1.2) for limit in limits]
    unit = "quanta" if traces.sends_changes else "thresholds"
    return Chart(
        f"membrane-{run.number}-{_place(image, site)}",
        f"{run.label}: {site}, image {image.trace.index}",
        "Of the neurons recorded that fire, those that do so most, median and least often. Dashed: "
        + ("the band in which a neuron is silent." if traces.sends_changes else "the threshold."),
        "time step t",
        f"membrane potential ({unit})",
        lines,
        x_ticks=_steps(steps),
        height=300,
    )
