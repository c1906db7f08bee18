"""Where quantisation costs accuracy, and which bits and time steps are enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.experiments import CodingTrial, LevelTrial
from mst.neurons import QCFS
from mst.progress import Progress
from mst.quantization.site_errors import OutputError

QUIET = mst.DiagnosisOptions(bits=(), simulated_images=0)


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 3))


def images(count: int = 130) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def diagnosed() -> tuple[nn.Module, mst.Diagnosis, list[Progress]]:
    model, seen = mst.quantize(plain(), 7, images(), placement="products").train(), []
    labels = torch.arange(20) % 3
    options = mst.DiagnosisOptions(bits=(2, 8), time_steps=64, simulated_images=5, schedule="plain", burst=1)
    diagnosis = mst.diagnose(model, (images(20), labels), options, calibration=images(), progress=seen.append)
    return model, diagnosis, seen


def test_diagnose_finds_the_error_of_each_site_and_of_the_network(
    diagnosed: tuple[nn.Module, mst.Diagnosis, list[Progress]],
) -> None:
    model, diagnosis, _ = diagnosed
    with torch.no_grad():
        wanted, got = plain().eval()(images(20)), model.eval()(images(20))
    assert diagnosis.reference == "unclipped"
    assert diagnosis.output.error == pytest.approx(float((got - wanted).norm() / wanted.norm()), rel=1e-5)
    assert diagnosis.output.agreement == pytest.approx(float((got.argmax(1) == wanted.argmax(1)).double().mean()))
    labels = torch.arange(20) % 3
    assert diagnosis.reference_accuracy == pytest.approx(float((wanted.argmax(1) == labels).double().mean()))
    assert [site.site for site in diagnosis.sites] == ["3.input_site", "5.input_site"]
    first, second = diagnosis.sites
    assert first.arriving_error == 0
    assert second.passed_error > second.arriving_error > 0
    assert "2 sites" in repr(diagnosis)


def test_diagnose_tries_other_levels_at_all_sites_and_at_the_worst(
    diagnosed: tuple[nn.Module, mst.Diagnosis, list[Progress]],
) -> None:
    _, diagnosis, _ = diagnosed
    names = [(trial.change, trial.num_levels) for trial in diagnosis.trials]
    assert names == [("levels", 3), ("levels", 255), ("one more bit", None), ("per channel", None)]
    few, many, next_bit, _ = (trial.output.error for trial in diagnosis.trials)
    assert few > diagnosis.output.error > next_bit > many
    effects = [remedy.effect for remedy in diagnosis.remedies]
    assert effects == sorted((site.own_effect for site in diagnosis.sites), reverse=True)
    assert sum(remedy.share for remedy in diagnosis.remedies) == pytest.approx(1.0)
    for remedy in diagnosis.remedies:
        assert remedy.with_one_more_bit is not None
        assert remedy.with_one_more_bit < remedy.effect
        assert remedy.per_channel not in (None, remedy.effect)


def test_diagnose_simulates_each_coding(diagnosed: tuple[nn.Module, mst.Diagnosis, list[Progress]]) -> None:
    _, diagnosis, seen = diagnosed
    rate, lossless = diagnosis.codings
    assert "which rate coding does not carry" in rate.refused[0]
    assert (lossless.num_images, lossless.num_settled, lossless.agreement[-1]) == (5, 5, 1.0)
    assert lossless.most_steps is not None
    assert lossless.mean_steps is not None
    assert 1 < lossless.mean_steps <= lossless.most_steps < 64
    assert {report.stage for report in seen} == {"sites", "other levels", "simulating lossless coding"}
    assert all(stage.done == stage.total for stage in {report.stage: report for report in seen}.values())


def test_diagnose_leaves_the_network_as_it_was(diagnosed: tuple[nn.Module, mst.Diagnosis, list[Progress]]) -> None:
    model, _, _ = diagnosed
    again = mst.quantize(plain(), 7, images(), placement="products").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_diagnose_takes_the_clipped_reference_where_a_network_has_learned_to_clip() -> None:
    model = nn.Sequential(nn.Linear(4, 8), QCFS(15, 0.2), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight.mul_(5)  # most of what is above 0 is above 0.2
    diagnosis = mst.diagnose(model, images(), mst.DiagnosisOptions(bits=(4, 6), simulated_images=2, time_steps=20))
    assert diagnosis.reference == "clipped"
    assert diagnosis.sites[0].clipped_above > 0.2
    assert [trial.num_levels for trial in diagnosis.trials] == [15, 63, None]  # without calibration: ranges are kept
    assert diagnosis.trials[0].output == diagnosis.output
    rate, lossless = diagnosis.codings
    assert (rate.num_settled, lossless.num_settled) == (None, 2)
    assert len(rate.agreement) == 20
    assert diagnosis.output.accuracy is None
    chosen = mst.diagnose(model, images(), mst.DiagnosisOptions((), "unclipped", simulated_images=0))
    assert chosen.output.error > 0.5


def test_diagnose_tries_no_levels_that_it_has_no_images_to_set_from() -> None:
    model = mst.quantize(plain(), 7, images(), placement="products")
    diagnosis = mst.diagnose(model, images(8), mst.DiagnosisOptions(simulated_images=0))
    assert (diagnosis.trials, diagnosis.codings) == ((), ())
    assert [remedy.with_one_more_bit for remedy in diagnosis.remedies] == [None, None]


def test_diagnose_does_not_add_up_over_batches_by_chance() -> None:
    model = mst.mask_spikes(mst.quantize(plain(), 7, images(), placement="products"), 0.25)
    whole, parts = (mst.diagnose(model, images(10), QUIET, batch_size=size) for size in (10, 3))
    for one, other in zip(whole.sites, parts.sites, strict=True):
        assert one.own_effect == pytest.approx(other.own_effect, rel=1e-4)
        assert one.passed_error == pytest.approx(other.passed_error, rel=1e-4)


def test_steps_to_an_agreement_are_those_from_which_on_it_holds() -> None:
    trial = CodingTrial("rate", agreement=(0.5, 1.0, 0.5, 1.0, 1.0))
    assert (trial.steps_to(0.9), trial.steps_to(0.5)) == (4, 1)
    assert CodingTrial("rate", agreement=(1.0, 0.5)).steps_to(0.9) is None


def test_enough_levels_are_the_fewest_that_agree(diagnosed: tuple[nn.Module, mst.Diagnosis, list[Progress]]) -> None:
    shares = {15: 0.8, 31: 0.95, 63: 0.9, 255: 1.0}
    trials = [LevelTrial("levels", levels, OutputError(0.1, share, None)) for levels, share in shares.items()]
    diagnosis = replace(diagnosed[1], trials=(*trials, LevelTrial("per channel", None, OutputError(0.1, 1.0, None))))
    assert [diagnosis.enough_levels(share) for share in (0.5, 0.9, 0.99)] == [15, 31, 255]
    assert replace(diagnosis, trials=()).enough_levels(0.5) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": (0,)}, "bits must be from 1 to 16, got 0"),
        ({"bits": (4, 17)}, "bits must be from 1 to 16, got 4, 17"),
        ({"agreement": 0.0}, "above 0 and at most 1, got 0.0"),
        ({"simulated_images": -1}, "simulated_images must be 0"),
        ({"time_steps": 0}, r"time_steps \(T\) must be at least 1"),
        ({"burst": 0}, "burst must be at least 1"),
    ],
)
def test_options_of_a_diagnosis_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mst.DiagnosisOptions(**options)  # type: ignore[arg-type]


def test_diagnose_refuses_what_it_cannot_diagnose() -> None:
    with pytest.raises(InputError, match="there are no images to diagnose with"):
        mst.diagnose(mst.quantize(plain(), 7, images(), placement="products"), images(0), QUIET)
    with pytest.raises(InputError, match="has no QCFS site; quantise it first"):
        mst.diagnose(plain(), images(), QUIET)
    snn = mst.convert(nn.Sequential(QCFS(4), nn.Linear(4, 2)))
    with pytest.raises(InputError, match="takes an ANN, got a spiking network; diagnose the ANN"):
        mst.diagnose(snn.network, images(), QUIET)
