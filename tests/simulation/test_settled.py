"""`predict_settled` against simulations that settle."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mst
from mst.models import MaskedSpikingTransformer
from mst.neurons import SCHEDULES, FiringSchedule
from mst.simulation.settled import least_spikes

IMAGES, LABELS = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double(), torch.tensor([0, 2, 1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_predict_settled_gives_answers_and_a_bound_on_spikes(
    tiny_model: MaskedSpikingTransformer, schedule: Any
) -> None:
    mst.mask_spikes(tiny_model, 0.5, "attention")
    snn = mst.convert(tiny_model, "lossless", IMAGES[:1], schedule=schedule)
    found = mst.predict_settled(snn, (IMAGES, LABELS), batch_size=2, seed=3)
    run = mst.simulate(snn, (IMAGES, LABELS), 200, seed=3, record_operations=False)
    assert run.num_settled == found.num_images == 3
    assert run.accuracy is not None
    torch.testing.assert_close(found.logits, run.logits, rtol=0, atol=1e-12)
    assert (found.accuracy, found.top5_accuracy) == (float(run.accuracy[-1]), 1.0)
    assert list(found.sites) == list(run.sites)
    for name, site in found.sites.items():
        assert site.num_neurons == run.sites[name].num_neurons
        assert site.least_spikes <= run.spike_counts[name]
        assert site.quanta == site.least_spikes or schedule in ("weighted", "free")
    assert 0 < found.least_spikes_per_image <= found.quanta_per_image
    assert found.quanta_per_image == pytest.approx(mst.evaluate(tiny_model, (IMAGES, LABELS), seed=3).quanta_per_image)


def test_predict_settled_starts_from_initial_levels(tiny_model: MaskedSpikingTransformer) -> None:
    rest = mst.convert(tiny_model, "lossless", IMAGES[:1], initial_images=[IMAGES[:1]])
    assert mst.predict_settled(rest, IMAGES[:1]).quanta_per_image == 0
    assert mst.predict_settled(rest, IMAGES[1:2]).quanta_per_image > 0
    assert mst.predict_settled(rest, IMAGES).accuracy is None


def test_least_spikes_by_schedule() -> None:
    quanta = torch.tensor([0.0, 1, 3, 7, 11])
    assert least_spikes(quanta, FiringSchedule()).tolist() == [0, 1, 3, 7, 11]
    assert least_spikes(quanta, FiringSchedule(is_free=True)).tolist() == [0, 1, 2, 2, 3]
    assert least_spikes(quanta, FiringSchedule(weights=(2, 1))).tolist() == [0, 1, 2, 4, 6]
    assert least_spikes(quanta, FiringSchedule(weights=(8, 4, 2, 1, 1))).tolist() == [0, 1, 2, 2, 3]
    assert least_spikes(quanta, FiringSchedule(weights=(5, 1))).tolist() == [0, 1, 1, 2, 3]


def test_predict_settled_refuses_what_does_not_settle(tiny_model: MaskedSpikingTransformer) -> None:
    with pytest.raises(mst.InputError, match="under rate coding no run settles.*mst.simulate"):
        mst.predict_settled(mst.convert(tiny_model, "rate", IMAGES[:1]), IMAGES)
    with pytest.raises(mst.InputError, match="takes what mst.convert returns"):
        mst.predict_settled(tiny_model, IMAGES)  # type: ignore[arg-type]
    with pytest.raises(mst.InputError, match="there are no images"):
        mst.predict_settled(mst.convert(tiny_model, "lossless", IMAGES[:1]), [])
