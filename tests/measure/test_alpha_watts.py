from __future__ import annotations

import pytest

from counted_by_hand import by_hand
from mst.errors import InputError
from mst.measure import ALPHA_WATTS, AlphaWatts


def test_alpha_watts_are_spikes_per_second() -> None:
    result = by_hand("rate")  # 6 spikes in 4 steps of 1 ms
    assert ALPHA_WATTS.price(result) == pytest.approx(6 / 4e-3)
    assert AlphaWatts(seconds_per_step=1e-2).price(result) == pytest.approx(6 / 4e-2)
    assert ALPHA_WATTS.in_words(result).startswith("1.5e+03 alpha W (spikes per second at 1 ms per step")


def test_alpha_watts_do_not_see_what_a_spike_reaches() -> None:
    assert ALPHA_WATTS.price(by_hand("rate", 8)) == ALPHA_WATTS.price(by_hand("rate", 4))  # nor the number of steps
    assert "outputs that a spike reaches" in ALPHA_WATTS.not_counted


def test_alpha_watts_of_steps_without_time_are_refused() -> None:
    with pytest.raises(InputError, match="a step takes more than 0 s, got 0"):
        AlphaWatts(seconds_per_step=0)
