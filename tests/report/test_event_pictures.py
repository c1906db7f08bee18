"""Events as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from event_data import random_events
from mst.data import Sensor, make_events
from mst.report import event_animation, event_frames, event_scatter
from mst.report.events import MAX_SCATTERED

SENSOR = Sensor(20, 30)


def test_pictures_are_written(tmp_path: Path) -> None:
    events = random_events(MAX_SCATTERED + 500, 20, 30)
    for path in (
        event_frames(events, SENSOR, tmp_path / "f.png", "title"), event_scatter(events, SENSOR, tmp_path / "s.png"),
    ):  # fmt: skip
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_animation_has_its_frames_in_colour_and_repeats(tmp_path: Path) -> None:
    events = make_events([0, 10, 999], [0, 29, 15], [0, 19, 10], [1, 0, 1])
    with Image.open(event_animation(events, SENSOR, tmp_path / "a.gif", num_frames=4)) as image:
        durations = []
        for frame in range(image.n_frames):  # type: ignore[attr-defined]  # equal neighbours are one, shown longer
            image.seek(frame)
            durations.append(image.info["duration"])
        assert sum(durations) == pytest.approx(4 * 1000 / 12, abs=40)
        image.seek(0)
        assert image.info["loop"] == 0
        assert image.size[0] % 30 == 0
        assert image.size[0] >= 320
        scale = image.size[0] // 30
        first = np.asarray(image.convert("RGB")).astype(int)
        red, blue = first[scale // 2, scale // 2], first[-scale // 2, -scale // 2]
        assert red[0] > red[2] + 80
        assert blue[2] > blue[0] + 50
        assert (first[scale // 2, -scale // 2] > 245).all()
        image.seek(image.n_frames - 1)  # type: ignore[attr-defined]
        last = np.asarray(image.convert("RGB")).astype(int)
        assert (last[scale // 2, scale // 2] > 245).all()


@pytest.mark.parametrize("number", [1, 2])
def test_recordings_of_few_events_can_be_drawn(number: int, tmp_path: Path) -> None:
    events = random_events(number, 20, 30)
    event_frames(events, SENSOR, tmp_path / "f.png", num_frames=3)
    event_scatter(events, SENSOR, tmp_path / "s.png")
    event_animation(events, SENSOR, tmp_path / "a.gif")


def test_full_disk_leaves_no_partial_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Image.Image, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        event_animation(random_events(9, 20, 30), SENSOR, tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []
