"""The simulated event camera."""

from __future__ import annotations

import numpy as np
import pytest

from mst.data import CameraConfig, Sensor, SimulatedCamera

QUIET = CameraConfig(16, 16, noise_hz=0.0, threshold_spread=0.0)


def square(side: int = 8) -> np.ndarray:
    picture = np.zeros((side, side), np.uint8)
    picture[2:-2, 2:-2] = 255
    return picture


def test_same_picture_gives_the_same_events() -> None:
    first = SimulatedCamera(CameraConfig(16, 16), (8, 8)).record(square())
    again = SimulatedCamera(CameraConfig(16, 16), (8, 8)).record(square())
    assert first.tobytes() == again.tobytes()
    other = SimulatedCamera(CameraConfig(16, 16, seed=1), (8, 8)).record(square())
    assert first.tobytes() != other.tobytes()


def test_events_lie_on_the_sensor_in_the_order_of_time() -> None:
    config = CameraConfig(12, 20, noise_hz=20.0)
    events = SimulatedCamera(config, (8, 8)).record(square())
    assert (np.diff(events["t"]) >= 0).all()
    assert events["t"][0] >= 0
    assert events["t"][-1] < config.duration_us
    assert events["x"].max() < 20
    assert events["y"].max() < 12
    assert set(events["p"]) == {0, 1}


def test_number_of_events_is_the_way_of_the_intensity_over_the_threshold() -> None:
    """A pixel that returns to its first brightness has sent as many ON as OFF events, within one."""
    camera = SimulatedCamera(QUIET, (8, 8))
    events = camera.record(square())
    balance = np.zeros((16, 16), int)
    np.add.at(balance, (events["y"], events["x"]), 2 * events["p"].astype(int) - 1)
    assert np.abs(balance).max() <= 1
    finer = SimulatedCamera(CameraConfig(16, 16, noise_hz=0.0, threshold_spread=0.0, threshold=0.125), (8, 8))
    assert len(finer.record(square())) == pytest.approx(2 * len(events), rel=0.15)


def test_even_picture_gives_no_events_but_noise() -> None:
    grey = np.full((8, 8), 90, np.uint8)
    assert len(SimulatedCamera(QUIET, (8, 8)).record(grey)) == 0
    noisy = CameraConfig(16, 16, noise_hz=100.0)
    counts = [len(SimulatedCamera(CameraConfig(16, 16, noise_hz=100.0, seed=s), (8, 8)).record(grey)) for s in range(8)]
    assert np.mean(counts) == pytest.approx(100 * 256 * noisy.duration_us * 1e-6, rel=0.02)


def test_blank_picture_still_makes_a_recording() -> None:
    camera = SimulatedCamera(CameraConfig(5, 5, margin=1, noise_hz=0.01), (4, 4))
    counts = [len(camera.record(np.full((4, 4), value, np.uint8))) for value in range(40)]
    assert min(counts) >= 1


def test_brighter_edge_leads_in_the_direction_of_the_movement() -> None:
    """The picture first moves down and to the right: pixels below and right of it brighten, those above darken."""
    events = SimulatedCamera(QUIET, (8, 8)).record(square())
    first = events[events["t"] < 100_000]
    assert first["y"][first["p"] == 1].mean() > first["y"][first["p"] == 0].mean() + 2


def test_times_do_not_depend_on_the_sampling_of_positions() -> None:
    coarse, fine = (
        SimulatedCamera(CameraConfig(16, 16, noise_hz=0.0, positions=positions), (8, 8)).record(square())
        for positions in (16, 160)
    )
    assert len(coarse) == pytest.approx(len(fine), rel=0.03)
    assert np.abs(np.quantile(coarse["t"], [0.1, 0.5, 0.9]) - np.quantile(fine["t"], [0.1, 0.5, 0.9])).max() < 6_000


@pytest.mark.parametrize("size", [(8, 8), (100, 60), (5, 40)])
def test_pictures_of_any_size_fit(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    events = SimulatedCamera(CameraConfig(24, 32), size).record(picture)
    assert len(events) > 100


def test_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"made for pictures of \(8, 8\)"):
        SimulatedCamera(QUIET, (8, 8)).record(square(9))


@pytest.mark.parametrize(("options", "message"), [
    ({"height": 0}, "1 to 65,536"), ({"margin": 8}, "does not leave a pixel"),
    ({"saccade": 0.0}, "saccade must be above 0"),
    ({"threshold": -1.0}, "threshold must be above 0"), ({"noise_hz": -1.0}, "must not be negative"),
    ({"positions": 0}, "positions must be above 0"), ({"dark": 0.0}, "dark must be above 0"),
])  # fmt: skip
def test_camera_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraConfig(**{"height": 16, "width": 16, **options})  # type: ignore[arg-type]


def test_every_option_of_the_camera_changes_the_events() -> None:
    base = {"height": 16, "width": 16}
    before = SimulatedCamera(CameraConfig(**base), (8, 8)).record(square())
    changed = {
        "height": 18, "width": 18, "margin": 3, "saccade": 2.0, "duration_us": 200_000, "positions": 8,
        "threshold": 0.3, "threshold_spread": 0.05, "dark": 0.2, "noise_hz": 5.0, "seed": 2,
    }  # fmt: skip
    for name, value in changed.items():
        after = SimulatedCamera(CameraConfig(**{**base, name: value}), (8, 8)).record(square())
        assert after.tobytes() != before.tobytes(), name
    assert CameraConfig(16, 18).sensor == Sensor(16, 18)
