"""Events -> figures: frames over time, a scatter in space and time, an animation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mst.data import EventRepresentation, Events, Sensor, per_step_frames
from mst.experiments import OpenedRecording
from mst.files import write_atomically

from .drawing import drawing, save_figure

ON_COLOUR, OFF_COLOUR = "#c1440e", "#2a6f97"
"""Of events where a pixel became brighter, and darker."""

_NATIVE = EventRepresentation(num_bins=1, pad_to_square=False)
MAX_SCATTERED = 20_000
"""Events in a scatter, evenly spaced; more would hide each other."""

FRAMES_PER_SECOND = 12
_LEAST_SIDE = 320  # pixels of an animation's longer side


def draw_recording(recording: OpenedRecording, output: Path) -> list[Path]:
    """Draw a recording as frames, in space and time, and as an animation.

    Args:
        recording: its events.
        output: folder for event_frames.png, event_scatter.png and events.gif.

    Returns:
        The files.
    """
    events, sensor, title = recording.events, recording.sensor, recording.title
    return [
        event_frames(events, sensor, output / "event_frames.png", title),
        event_scatter(events, sensor, output / "event_scatter.png", title),
        event_animation(events, sensor, output / "events.gif"),
    ]


def event_frames(events: Events, sensor: Sensor, path: str | Path, title: str = "", num_frames: int = 9) -> Path:
    """Frames of equal duration in a row or grid, red where pixels became brighter and blue where darker.

    Args:
        events: [N], in the order of time.
        sensor: that recorded them.
        path: of the .png.
        title: above the figure.
        num_frames: number of frames.
    """
    pictures = _coloured(events, sensor, num_frames)
    edges = np.linspace(0, int(events["t"][-1] - events["t"][0]) + 1, num_frames + 1) / 1000
    columns = min(num_frames, 5)
    rows = -(-num_frames // columns)
    height = 2.2 * sensor.height / sensor.width + 0.35
    with drawing(2.2 * columns, height * rows + 0.5, grid=False) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= num_frames:
                axes.set_axis_off()
            else:
                axes.imshow(pictures[place], interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set(visible=True, color="#cccccc")
                axes.set_title(f"{edges[place]:.0f}-{edges[place + 1]:.0f} ms", fontsize=8)
        figure.suptitle(_with_counts(title, events), fontsize=10)
        return save_figure(figure, Path(path))


def event_scatter(events: Events, sensor: Sensor, path: str | Path, title: str = "") -> Path:
    """Every event as a point in space and time; at most `MAX_SCATTERED` of them, evenly spaced.

    Args:
        events: [N], in the order of time.
        sensor: that recorded them.
        path: of the .png.
        title: above the figure.
    """
    shown = events[:: -(-len(events) // MAX_SCATTERED)]
    t_ms = (shown["t"] - events["t"][0]) / 1000
    area = min(8.0, max(1.5, 10_000 / len(shown)))  # points², few must be visible, many must not hide each other
    with drawing(6.4, 5.2) as figure:
        axes = figure.add_subplot(projection="3d")
        for polarity, colour, label in ((1, ON_COLOUR, "brighter"), (0, OFF_COLOUR, "darker")):
            of = shown["p"] == polarity
            axes.scatter(t_ms[of], shown["x"][of], shown["y"][of], s=area, c=colour, linewidths=0, label=label)
        axes.set_xlabel("time (ms)")
        axes.set_ylabel("column (px)")
        axes.set_zlabel("row (px)")
        axes.set_ylim(0, sensor.width)
        axes.set_zlim(sensor.height, 0)
        axes.set_box_aspect((1.6, 1.0, sensor.height / sensor.width), zoom=0.9)
        axes.legend(loc="upper left", markerscale=3)
        part = "" if len(shown) == len(events) else f"; {len(shown):,} shown"
        axes.set_title(_with_counts(title, events) + part, fontsize=10)
        return save_figure(figure, Path(path))


def event_animation(events: Events, sensor: Sensor, path: str | Path, num_frames: int = 36) -> Path:
    """A short animation that repeats: frames of equal duration, one after another.

    Args:
        events: [N], in the order of time.
        sensor: that recorded them.
        path: of the .gif.
        num_frames: number of frames, shown at 12 per second however long the recording is.
    """
    scale = max(1, -(-_LEAST_SIDE // max(sensor.height, sensor.width)))
    pictures = _coloured(events, sensor, num_frames).repeat(scale, axis=1).repeat(scale, axis=2)
    images = [Image.fromarray(picture) for picture in pictures]

    def write(temporary: str) -> None:
        images[0].save(
            temporary, "GIF", save_all=True, append_images=images[1:], duration=1000 // FRAMES_PER_SECOND, loop=0
        )

    write_atomically(Path(path), write)
    return Path(path)


def _coloured(events: Events, sensor: Sensor, num_frames: int) -> NDArray[np.uint8]:
    """uint8 [frames, height, width, 3] on white; the deeper the colour, the more events, up to the 99th percentile."""
    counts = per_step_frames(events, sensor, _NATIVE, (sensor.height, sensor.width), num_frames).astype(np.float64)
    most = max(1.0, float(np.percentile(counts[counts > 0], 99)))
    share = np.clip(counts / most, 0.0, 1.0)
    share[counts > 0] = 0.25 + 0.75 * share[counts > 0]  # a single event must be visible
    missing = np.zeros((*share.shape[:1], *share.shape[2:], 3))
    for polarity, colour in ((1, ON_COLOUR), (0, OFF_COLOUR)):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        missing += share[:, polarity, :, :, None] * (1 - rgb)
    image: NDArray[np.uint8] = (255 * (1 - np.clip(missing, 0.0, 1.0))).round().astype(np.uint8)
    return image


def _with_counts(title: str, events: Events) -> str:
    duration = (int(events["t"][-1]) - int(events["t"][0])) / 1000
    counts = f"{len(events):,} events in {duration:,.1f} ms, {100 * float(events['p'].mean()):.0f} % brighter"
    return f"{title}: {counts}" if title else counts
