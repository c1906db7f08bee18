"""Frames, voxel grids and slices over time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_data import SMALL, random_events, small_events
from mst.data import EventRepresentation, Sensor, make_events, per_step_frames, represent

ONE = EventRepresentation(num_bins=1, pad_to_square=False)


def test_frames_by_hand() -> None:
    events = make_events([10, 19, 20, 29, 30], [0, 1, 1, 2, 2], [0, 0, 1, 1, 1], [1, 1, 0, 1, 1])
    frames = represent(events, Sensor(2, 3), EventRepresentation(num_bins=2, pad_to_square=False), (2, 3))
    assert frames.shape == (4, 2, 3)  # bins of 10...20 and 21...30 µs; OFF before ON
    assert frames[0].tolist() == [[0, 0, 0], [0, 1, 0]]
    assert frames[1].tolist() == [[1, 1, 0], [0, 0, 0]]
    assert frames[2].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert frames[3].tolist() == [[0, 0, 0], [0, 0, 2]]


@given(
    st.integers(1, 300), st.integers(1, 12), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.integers(0, 9),
    st.integers(1, 24), st.integers(1, 24),
)  # fmt: skip
def test_frames_sum_to_the_event_count(
    number: int, bins: int, height: int, width: int, pad: bool, seed: int, to_height: int, to_width: int
) -> None:
    events = random_events(number, height, width, seed=seed)
    sensor, how = Sensor(height, width), EventRepresentation(num_bins=bins, pad_to_square=pad)
    native = how.native_size(sensor)
    assert int(represent(events, sensor, how, native).sum()) == number
    smaller = min(to_height, native[0]), min(to_width, native[1])
    frames = represent(events, sensor, how, smaller)
    assert frames.shape == (2 * bins, *smaller)
    assert int(frames.sum()) == number
    on = int(represent(events, sensor, how, native)[1::2].sum())
    assert on == int(events["p"].sum())


def test_frames_are_padded_evenly_and_enlarged_by_repeating() -> None:
    events = make_events([0], [1], [0], [1])
    how = EventRepresentation(num_bins=1)
    frames = represent(events, Sensor(1, 3), how, (6, 6))
    assert frames[1].tolist() == [
        [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]  # fmt: skip


def test_frames_agree_with_tonic() -> None:
    functional = pytest.importorskip("tonic.functional")
    events = random_events(500, 10, 14, duration_us=90_000)
    events["t"][[0, -1]] = 0, 90_000 - 1
    ours = represent(events, Sensor(10, 14), EventRepresentation(num_bins=9, pad_to_square=False), (10, 14))
    theirs = functional.to_frame_numpy(events.copy(), (14, 10, 2), n_time_bins=9)
    # Its bins are the duration // 9 long, without the last event's microsecond: an event at a border may differ.
    assert np.abs(ours.reshape(9, 2, 10, 14).astype(int) - theirs).sum() <= 4
    whole = functional.to_frame_numpy(events.copy(), (14, 10, 2), event_count=500)
    assert np.array_equal(represent(events, Sensor(10, 14), ONE, (10, 14)), whole[0])


def test_voxels_by_hand() -> None:
    events = make_events([0, 25, 50, 100], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1])
    how = EventRepresentation(kind="voxels", num_bins=3, pad_to_square=False)
    grid = represent(events, Sensor(1, 1), how, (1, 1))
    assert grid[:, 0, 0].tolist() == [1.5, 0.5 - 1.0, 1.0]  # at bins 0, 0.5, 1 (minus) and 2


@given(st.integers(1, 200), st.integers(2, 9), st.integers(0, 9))
def test_voxels_sum_to_the_polarities(number: int, bins: int, seed: int) -> None:
    events = random_events(number, 9, 7, seed=seed)
    how = EventRepresentation(kind="voxels", num_bins=bins)
    total = represent(events, Sensor(9, 7), how, (9, 9)).sum(dtype=np.float64)
    assert total == pytest.approx(2 * int(events["p"].sum()) - number, abs=1e-3)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 9))
def test_slices_have_the_single_frame_as_their_sum(number: int, steps: int, seed: int) -> None:
    events = random_events(number, 8, 8, seed=seed)
    slices = per_step_frames(events, Sensor(8, 8), ONE, (8, 8), steps)
    assert slices.shape == (steps, 2, 8, 8)
    assert np.array_equal(slices.sum(axis=0), represent(events, Sensor(8, 8), ONE, (8, 8)))


def test_slice_t_holds_the_events_of_its_time() -> None:
    events = make_events(range(0, 80, 10), [0] * 8, [0] * 8, [1] * 8)
    slices = per_step_frames(events, Sensor(1, 1), ONE, (1, 1), 4)
    assert slices[:, 1, 0, 0].tolist() == [2, 2, 2, 2]
    assert per_step_frames(events[:1], Sensor(1, 1), ONE, (1, 1), 4)[:, 1, 0, 0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("options", "message"), [
    ({"kind": "pictures"}, "must be one of frames, voxels"),
    ({"num_bins": 0}, "at least 1 time bin"),
    ({"kind": "voxels", "num_bins": 1}, "at least 2 time bin"),
    ({"num_bins": 2.5}, "at least 1 time bin"),
    ({"sensor": (0, 4)}, "1 to 65,536 pixels"),
    ({"pad_to_square": 1}, "must be true or false"),
])  # fmt: skip
def test_representation_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventRepresentation(**options)  # type: ignore[arg-type]


def test_every_option_of_the_representation_changes_the_image() -> None:
    events, sensor = small_events(), Sensor(8, 10)
    before = represent(events, sensor, EventRepresentation(), (10, 10))
    for options in ({"kind": "voxels"}, {"num_bins": 3}, {"pad_to_square": False}):
        after = represent(events, sensor, EventRepresentation(**options), (10, 10))
        assert after.shape != before.shape or not np.array_equal(after, before)
    assert len(SMALL) == before.sum()


def test_bins_are_equal_to_the_microsecond() -> None:
    events = make_events(range(100, 112), [0] * 12, [0] * 12, [1] * 12)
    for bins in (1, 2, 3, 4, 6, 12):
        counts = per_step_frames(events, Sensor(1, 1), ONE, (1, 1), bins)[:, 1, 0, 0]
        assert counts.tolist() == [12 // bins] * bins
