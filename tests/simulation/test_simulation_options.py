"""Options of a simulation: how they are given, and which data they apply to."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import mst
from conftest import randomise, tiny_config
from mst.models import MaskedSpikingTransformer
from mst.simulation import EarlyExit, SimulationOptions, SimulationResult


@pytest.fixture(scope="module")
def snn() -> mst.SpikingNetwork:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5, mask_sites=("query", "mlp"))).eval()
    randomise(model)
    return mst.convert(model.double())


def images(count: int = 5) -> Tensor:
    return torch.rand(count, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 0.5


def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 0, 1])


def same(a: SimulationResult, b: SimulationResult) -> bool:
    return a.spike_counts == b.spike_counts and torch.allclose(a.logits, b.logits, rtol=0, atol=1e-12)


def test_options_may_be_given_whole_or_by_field(snn: mst.SpikingNetwork) -> None:
    by_field = mst.simulate(snn, images(), 6, seed=3, keep_step_logits=True)
    options = SimulationOptions(6, seed=3)
    assert same(by_field, mst.simulate(snn, images(), options, keep_step_logits=True))
    assert mst.simulate(snn, images(), options).step_logits is None
    assert mst.simulate(snn, images(), options, seed=4).seed == 4
    assert options == SimulationOptions(6, seed=3)


def test_simulate_takes_the_same_images_in_every_form(snn: mst.SpikingNetwork) -> None:
    whole = mst.simulate(snn, (images(), labels()), 6)
    data = TensorDataset(images(), labels())
    done: list[int] = []
    for other in (
        mst.simulate(snn, data, 6),
        mst.simulate(snn, data, 6, batch_size=2, progress=done.append),
        mst.simulate(snn, (images(), labels()), 6, batch_size=2),
        mst.simulate(snn, DataLoader(data, batch_size=3), 6),
        mst.simulate(snn, iter([(images()[:2], labels()[:2]), (images()[2:], labels()[2:])]), 6),
    ):
        assert same(whole, other)
        assert whole.accuracy is not None
        assert other.accuracy is not None
        assert torch.equal(whole.accuracy, other.accuracy)
    assert sum(done) == 5 * 6
    unlabelled = mst.simulate(snn, images(), 6, batch_size=4)
    assert same(whole, unlabelled)
    assert unlabelled.accuracy is None


def test_batch_size_of_a_tensor_is_the_batch_that_is_run(snn: mst.SpikingNetwork) -> None:
    for size, expected in ((None, [5]), (2, [2, 2, 1]), (9, [5])):
        done: list[int] = []
        mst.simulate(snn, images(), 1, batch_size=size, progress=done.append)
        assert done == expected


def test_every_option_changes_what_is_seen(snn: mst.SpikingNetwork) -> None:
    """Every field has an effect; those of lossless coding are tried on a lossless network."""
    lossless = mst.convert(MaskedSpikingTransformer(tiny_config()).double().eval(), "lossless", burst=4)
    slices = images(6).view(2, 3, 1, 8, 8)

    def seen(network: mst.SpikingNetwork, data: Any, **options: Any) -> list[object]:
        done: list[int] = []
        result = mst.simulate(network, data, **{"num_steps": 12, **options}, progress=done.append)
        entries = [len(result.operations), result.step_logits is None, result.num_steps]
        return [done, *entries, result.steps_taken.tolist(), result.logits.tolist()]

    changes: dict[str, tuple[mst.SpikingNetwork, Any, object]] = {
        "num_steps": (snn, images(), 5),
        "steps_per_chunk": (snn, images(), 2),
        "keep_step_logits": (snn, images(), True),
        "record_operations": (snn, images(), False),
        "seed": (snn, images(), 9),
        "early_exit": (snn, images(), EarlyExit("stability", 2)),
        "batch_size": (snn, images(), 2),
        "input_steps": (lossless, images(), 4),
        "drop_settled": (lossless, images(), True),
        "incremental": (lossless, images(), True),
    }
    usual = {network: seen(network, images()) for network in (snn, lossless)}
    for name, (network, data, value) in changes.items():
        assert seen(network, data, **{name: value}) != usual[network], name
    with pytest.raises(ValueError, match="takes images"):  # a time axis that is not declared
        mst.simulate(snn, slices, 12)
    assert mst.simulate(snn, slices, 12, in_slices=True).num_images == 2
    assert {field.name for field in fields(SimulationOptions)} == {*changes, "in_slices", "num_workers"}


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sed": 3}, r"simulate has no option 'sed'; did you mean seed"),
        ({"first_image": 3}, "simulate has no option 'first_image'"),
        ({"num_steps": 0}, r"num_steps \(T\) must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"steps_per_chunk": 0}, "steps_per_chunk must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
        ({"num_workers": 1}, "num_workers has no effect on images that are in memory already; give a data set"),
        ({"input_steps": 5}, "input_steps has no effect under rate coding; it belongs to lossless coding"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(snn: mst.SpikingNetwork, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mst.simulate(snn, images(), **{"num_steps": 10, **options})


def test_options_for_data_of_another_kind_are_refused(snn: mst.SpikingNetwork) -> None:
    with pytest.raises(ValueError, match="batch_size has no effect on data that comes in batches; give a tensor or"):
        mst.simulate(snn, [images()], 3, batch_size=2)
    with pytest.raises(ValueError, match="5 images need 5 labels, got labels of shape"):
        mst.simulate(snn, (images(), labels()[:4]), 3, batch_size=2)
    with pytest.raises(ValueError, match="there are no images to simulate"):
        mst.simulate(snn, TensorDataset(images(0), labels()[:0]), 3)


def test_options_are_plain_values() -> None:
    assert asdict(SimulationOptions(4))["num_steps"] == 4
    with pytest.raises(AttributeError):
        SimulationOptions(4).seed = 3  # type: ignore[misc]
