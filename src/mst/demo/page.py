"""The page: what a user chooses on it, and what it shows. Gradio is imported when a page is made."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from mst.errors import ExplainedError, InputError
from mst.experiments import WatchableNetwork, Watched, WatchOptions
from mst.simulation import EarlyExit
from mst.zoo import cards

from .frames import frame, picture_markup, problem, waiting
from .inputs import drawing_as_picture, example_pictures, read_picture, takes_drawings

EXAMPLE, DRAW, UPLOAD = "Example", "Draw", "Upload"
AS_TRAINED, OFF, ON = "as trained", "off", "on"
NEVER, MARGIN, STABILITY = "never", "margin", "stability"
PACES = {"slow": 0.4, "normal": 0.12, "at once": 0.0}
"""Name -> seconds between two steps on the page."""

CANVAS = 280
"""Pixels of the canvas, each way."""

INTRODUCTION = """\
# Watch a spiking network decide

One image, one network, two codings: **rate coding** carries an activation as the mean of its spikes over time,
**lossless coding** sends signed spikes for what has changed until the answer equals the quantised network's (the ANN).
"""

START = "Choose an image and press Run. Both runs are computed first, then shown step by step."


class Session:
    """The networks that a server has opened, one for all its visitors. Runs take turns: a network's counters belong
    to one run at a time.

    Args:
        checkpoint: reference of the network that is open at the start.
    """

    def __init__(self, checkpoint: str) -> None:
        self.first = checkpoint
        self._networks: dict[str, WatchableNetwork] = {}
        self._lock = threading.Lock()
        self.network(checkpoint)

    @property
    def choices(self) -> list[str]:
        """References that the page offers: no others are opened."""
        return list(dict.fromkeys([self.first, *(f"zoo:{name}" for name in cards())]))

    def network(self, reference: str) -> WatchableNetwork:
        """The network, opened at its first use.

        Raises:
            MissingFileError, InputError: it cannot be opened.
        """
        with self._lock:
            if reference not in self._networks:
                self._networks[reference] = WatchableNetwork(reference)
            return self._networks[reference]

    def input(self, reference: str, source: str, example: str | None, drawing: Any, upload: str | None) -> Tensor:
        """float32 [C, height, width]: what the network sees of an example, of a drawing or of an uploaded file.

        Raises:
            InputError: nothing was chosen, drawn or uploaded, or it cannot be read.
        """
        network = self.network(reference)
        if source == DRAW:
            if drawing is None or drawing.get("composite") is None:
                raise InputError("nothing has been drawn", remedy="draw with the pointer, or choose an example")
            picture = drawing_as_picture(network, np.asarray(drawing["composite"].convert("L")))
            return read_picture(network, picture)
        if source == UPLOAD:
            if upload is None:
                raise InputError("no file has been uploaded", remedy="upload one, or choose an example")
            return network.read(upload)
        pictures = example_pictures(network)
        if example not in pictures:
            raise InputError("there is no such example for this network", remedy="draw or upload an image")
        return read_picture(network, pictures[example])

    def watch(self, reference: str, image: Tensor, options: WatchOptions) -> Watched:
        """One image under both codings.

        Raises:
            InputError: as `WatchableNetwork.watch`.
        """
        network = self.network(reference)
        with self._lock:
            return network.watch(image, options)


def options_of(
    time_steps: float, masks: str, ratio: float, exit_rule: str, exit_value: float, seed: float
) -> WatchOptions:
    """The options that a user has chosen on the page.

    Raises:
        InputError: values that do not go together.
    """
    rule: EarlyExit | None = None
    if exit_rule == MARGIN:
        rule = EarlyExit("margin", exit_value)
    elif exit_rule == STABILITY:
        rule = EarlyExit("stability", round(exit_value))
    masking_ratio = {AS_TRAINED: None, OFF: 0.0, ON: ratio}[masks]
    return WatchOptions(round(time_steps), masking_ratio, rule, round(seed))


def about(session: Session, reference: str) -> str:
    """A line about a network."""
    network = session.network(reference)
    name = reference.removeprefix("zoo:")
    known = reference.startswith("zoo:") and name in cards()
    card = f"{cards()[name].summary}. ANN accuracy {100 * cards()[name].accuracy:.2f} %. " if known else ""
    shape = " x ".join(map(str, network.image_shape))
    masks = f"masking ratio {network.masking_ratio:g}" if network.masking_ratio else "no masks"
    return f"{card}Sees {shape} {'event counts' if network.takes_events else 'pixels'}; {masks}."


def upload_hint(network: WatchableNetwork) -> str:
    """How an uploaded file becomes an input of this network."""
    if network.takes_events:
        return "Prepared as the network's test recordings were."
    return "Prepared as the network's test images were. Fashion-MNIST and digits are light on black."


def make_page(session: Session) -> Any:
    """The page, as `gradio.Blocks`."""
    import gradio as gr

    with gr.Blocks(title="mst demo", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(INTRODUCTION)
        source, shown = gr.State(EXAMPLE), gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                chosen = _inputs(gr, session, source)
                settings, pace = _settings(gr)
            with gr.Column(scale=2, min_width=340):
                with gr.Row():
                    run, stop = gr.Button("Run", variant="primary", elem_id="run"), gr.Button("Stop", elem_id="stop")
                moment = gr.Slider(
                    1, 32, 1, step=1, label="Look at time step", interactive=True, visible=False, elem_id="moment"
                )
                output = gr.HTML(waiting(START), elem_id="output", apply_default_css=False)

        def start(
            reference: str, source: str, example: str | None, drawing: Any, upload: str | None, pace: str, *chosen: Any
        ) -> Iterator[tuple[Any, ...]]:
            yield waiting("Computing both runs ..."), None, gr.update(visible=False)
            try:
                image = session.input(reference, source, example, drawing, upload)
                watched = session.watch(reference, image, options_of(*chosen))
            except (ExplainedError, OSError) as error:
                yield problem(str(error)), None, gr.update(visible=False)
                return
            slider = gr.update(maximum=watched.last_step, visible=watched.last_step > 1)
            for step in watched.steps:
                if PACES[pace] or step == watched.last_step:
                    yield frame(watched, step), watched, slider | {"value": step}
                    time.sleep(PACES[pace] if step < watched.last_step else 0)

        def look(watched: Watched | None, step: float) -> Any:
            return gr.skip() if watched is None else frame(watched, round(step))

        outputs = [output, shown, moment]
        running = run.click(
            start,
            [*chosen, pace, *settings],
            outputs,
            show_progress="hidden",
            concurrency_limit=8,
            api_visibility="private",
        )
        stop.click(lambda: None, None, None, cancels=[running], queue=False, api_visibility="private")
        moment.input(look, [shown, moment], output, show_progress="hidden", api_visibility="private")
    return page


def _inputs(gr: Any, session: Session, source: Any) -> list[Any]:
    """The network and its input."""
    first = session.network(session.first)
    examples = list(example_pictures(first))
    reference = gr.Dropdown(session.choices, value=session.first, label="Network", elem_id="network")
    line = gr.Markdown(about(session, session.first))
    with gr.Tabs(selected=EXAMPLE if examples else UPLOAD):
        with gr.Tab(EXAMPLE, id=EXAMPLE) as example_tab:
            example = gr.Radio(examples, value=examples[0] if examples else None, label="A test image of this class")
        with gr.Tab(DRAW, id=DRAW, visible=takes_drawings(first)) as draw_tab:
            drawing = gr.Sketchpad(
                type="pil", canvas_size=(CANVAS, CANVAS), fixed_canvas=True, layers=False, transforms=(),
                brush=gr.Brush(colors=["#000000"], default_size=26, color_mode="fixed"), label="Draw dark on white",
            )  # fmt: skip
            gr.Markdown("The drawing is cut out, centred, scaled and inverted, as the training images were made.")
        with gr.Tab(UPLOAD, id=UPLOAD) as upload_tab:
            upload = gr.File(label="A picture, an array (.npy) or a recording", type="filepath")
            hint = gr.Markdown(upload_hint(first))
    start = _preview(session, session.first, EXAMPLE, examples[0] if examples else None, None, None)
    preview = gr.HTML(start, elem_id="preview", apply_default_css=False)
    fields = [reference, source, example, drawing, upload]

    def change(name: str) -> tuple[Any, ...]:
        network = session.network(name)
        names = list(example_pictures(network))
        first = names[0] if names else None
        choices, drawable = gr.update(choices=names, value=first), gr.update(visible=takes_drawings(network))
        return about(session, name), choices, drawable, upload_hint(network)

    def refresh(*values: Any) -> str:
        return _preview(session, *values)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    reference.input(change, reference, [line, example, draw_tab, hint], **quiet).then(refresh, fields, preview, **quiet)
    for tab, name in ((example_tab, EXAMPLE), (draw_tab, DRAW), (upload_tab, UPLOAD)):
        tab.select(lambda name=name: name, None, source, **quiet).then(refresh, fields, preview, **quiet)
    for field in (example, drawing, upload):
        field.change(refresh, fields, preview, **quiet)
    return fields


def _preview(session: Session, reference: str, source: str, example: Any, drawing: Any, upload: Any) -> str:
    try:
        image = session.input(reference, source, example, drawing, upload)
    except (ExplainedError, OSError) as error:
        return waiting(f"No image yet: {error}")
    takes_events = session.network(reference).takes_events
    what = (
        "Events as the network sees them: ON orange, OFF blue, both white" if takes_events else "What the network sees"
    )
    return picture_markup(image, takes_events, what)


def _settings(gr: Any) -> tuple[list[Any], Any]:
    """Length, masks, early exit, seed; and the pace of the page."""
    steps = gr.Slider(1, 128, 32, step=1, label="Maximum time steps")
    with gr.Accordion("Masks, early exit, pace", open=False):
        masks = gr.Radio([AS_TRAINED, OFF, ON], value=AS_TRAINED, label="Masks that drop spikes")
        ratio = gr.Slider(0.05, 0.95, 0.75, step=0.05, label="Masking ratio, for masks on")
        seed = gr.Number(0, precision=0, label="Seed of the masks")
        rule = gr.Radio([NEVER, MARGIN, STABILITY], value=NEVER, label="Early exit")
        value = gr.Slider(
            1, 16, 3, step=0.5, label="Value of the rule",
            info="margin: logits between the best two classes. stability: steps with the same answer.",
        )  # fmt: skip
        pace = gr.Radio(list(PACES), value="normal", label="Pace of the display")
    return [steps, masks, ratio, rule, value, seed], pace
