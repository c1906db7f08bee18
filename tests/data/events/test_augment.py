"""Random changes of recordings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from event_data import random_events
from mst.data import EventAugmentConfig, Sensor
from mst.data.events import augmentation as module
from mst.data.events.augmentation import EventAugmentation

SENSOR = Sensor(12, 16)
EVENTS = random_events(800, 12, 16, seed=3)
OPTIONS = {
    "shift": 2, "time_window": 0.1, "horizontal_flip": True, "polarity_flip": 1.0, "time_reversal": 1.0,
    "event_drop": True, "spatial_jitter": 1.0, "time_jitter_us": 500.0, "noise_events": 40,
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_option_changes_events_and_keeps_them_sound(name: str) -> None:
    augment = EventAugmentation(EventAugmentConfig(**{name: OPTIONS[name]}), SENSOR)  # type: ignore[arg-type]
    before = EVENTS.copy()
    changed = 0
    for seed in range(12):
        torch.manual_seed(seed)
        events, share = augment(EVENTS)
        assert len(events) > 0
        assert events.dtype == EVENTS.dtype
        assert (np.diff(events["t"]) >= 0).all()
        assert events["x"].max() < SENSOR.width
        assert events["y"].max() < SENSOR.height
        assert 0 < share <= 1
        changed += events.tobytes() != EVENTS.tobytes()
    assert changed >= 4
    assert np.array_equal(before, EVENTS)


def test_randomness_follows_from_torch_alone() -> None:
    augment = EventAugmentation(EventAugmentConfig(event_drop=True, noise_events=20, shift=1, time_window=0.2), SENSOR)
    outcomes = []
    for numpy_seed in (1, 2):
        np.random.seed(numpy_seed)  # noqa: NPY002
        after_seed = np.random.get_state()[1].tolist()  # noqa: NPY002
        torch.manual_seed(5)
        outcomes.append(augment(EVENTS)[0].tobytes())
        assert np.random.get_state()[1].tolist() == after_seed  # noqa: NPY002
    assert outcomes[0] == outcomes[1]
    torch.manual_seed(6)
    assert augment(EVENTS)[0].tobytes() != outcomes[0]


def test_time_window_keeps_a_stretch_of_the_given_share() -> None:
    augment = EventAugmentation(EventAugmentConfig(time_window=0.05), SENSOR)
    duration = int(EVENTS["t"][-1] - EVENTS["t"][0]) + 1
    shares = []
    for seed in range(300):
        torch.manual_seed(seed)
        events, share = augment(EVENTS)
        assert int(events["t"][-1] - events["t"][0]) <= share * duration
        first = int(np.searchsorted(EVENTS["t"], events["t"][0]))
        assert np.isin(events["t"], EVENTS["t"][first : first + len(events) + 5]).all()
        shares.append(share)
    assert 0.05 <= min(shares) < 0.07
    assert max(shares) > 0.9
    assert np.median(shares) == pytest.approx(0.05**0.5, rel=0.2)  # log-uniform


def test_jitter_has_no_bias_and_drops_go_by_the_recordings_own_time() -> None:
    wide = Sensor(12, 400)
    events = EVENTS.copy()
    events["x"] += 200
    torch.manual_seed(0)
    jitter = EventAugmentation(EventAugmentConfig(spatial_jitter=4.0), wide)
    moved = np.concatenate([jitter(events)[0]["x"] for _ in range(20)]).astype(float)
    assert moved.mean() == pytest.approx(events["x"].mean(), abs=0.05)
    assert moved.var() == pytest.approx(events["x"].var() + 4.0, rel=0.05)
    drop = EventAugmentation(EventAugmentConfig(event_drop=True), SENSOR)
    late = EVENTS.copy()
    late["t"] += 100_000_000
    kept = []
    for recording in (EVENTS, late):
        torch.manual_seed(1)
        kept.append([len(drop(recording)[0]) for _ in range(60)])
    assert kept[0] == kept[1]


def test_window_without_events_shows_the_whole_recording() -> None:
    events = EVENTS[[0, -1]]
    augment = EventAugmentation(EventAugmentConfig(time_window=0.01), SENSOR)
    torch.manual_seed(0)
    shown = [augment(events) for _ in range(20)]
    assert all(len(kept) == 2 and share == 1.0 for kept, share in shown if len(kept) != 1)


def test_tonic_is_required_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    genuine = builtins.__import__

    def without_tonic(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("tonic"):
            raise ImportError(name)
        return genuine(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_tonic)
    EventAugmentation(EventAugmentConfig(shift=1, time_window=0.5), SENSOR)
    with pytest.raises(ValueError, match=r"horizontal_flip, event_drop: .*; pip install .*\[events\]"):
        EventAugmentation(EventAugmentConfig(horizontal_flip=True, event_drop=True), SENSOR)
    assert module.EventAugmentConfig() == EventAugmentConfig()


@pytest.mark.parametrize(("options", "message"), [
    ({"time_window": 0.0}, r"time_window must be in \(0, 1\]"), ({"polarity_flip": 1.5}, "polarity_flip must be in"),
    ({"shift": -1}, "shift must be from 0"), ({"noise_events": -5}, "noise_events must be from 0"),
])  # fmt: skip
def test_augmentation_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventAugmentConfig(**options)  # type: ignore[arg-type]
