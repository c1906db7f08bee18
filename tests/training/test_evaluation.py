from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import mst
from conftest import randomise
from mst.models import MaskedSpikingTransformer
from mst.neurons import QCFS
from training_runs import data, fresh


def masked() -> MaskedSpikingTransformer:
    model = fresh(depths=(2, 1), masking_ratio=0.5).eval()
    randomise(model)
    return model.double()


def test_evaluate_result_is_the_same_for_every_form_of_the_data() -> None:
    model, dataset = masked(), data(24)
    images, labels = dataset.tensors
    whole = mst.evaluate(model, (images, labels), seed=2)
    forms = (
        [(images[:5], labels[:5]), (images[5:], labels[5:])],
        ((images[i : i + 7], labels[i : i + 7]) for i in range(0, 24, 7)),
        DataLoader(dataset, batch_size=10),
        dataset,
    )
    for form in forms:
        result = mst.evaluate(model, form, batch_size=9, seed=2)  # type: ignore[arg-type]
        assert (result.accuracy, result.num_images) == (whole.accuracy, 24)
        torch.testing.assert_close(result.logits, whole.logits, rtol=1e-12, atol=1e-12)
    assert not torch.equal(whole.logits, mst.evaluate(model, (images, labels), seed=3).logits)


@pytest.mark.parametrize("form", ["tensors", "data set"])
def test_evaluate_batch_size_limits_what_the_network_sees_at_once(form: str) -> None:
    sizes: list[int] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    dataset = data(24)
    mst.evaluate(model, dataset.tensors if form == "tensors" else dataset, batch_size=10)  # type: ignore[arg-type]
    assert sizes == [10, 10, 4]


def test_evaluate_workers_prepare_the_images_of_a_data_set() -> None:
    model, dataset = masked(), data(12)
    alone = mst.evaluate(model, dataset, batch_size=4)  # type: ignore[arg-type]
    assert torch.equal(mst.evaluate(model, dataset, batch_size=4, num_workers=2).logits, alone.logits)  # type: ignore[arg-type]


def test_evaluate_draws_a_different_mask_at_every_site_of_a_custom_model() -> None:
    model = nn.Sequential(QCFS(4, 1.0, 0.5), QCFS(4, 1.0, 0.5)).eval()
    result = mst.evaluate(model, (torch.ones(50, 40), torch.zeros(50, dtype=torch.long)))
    assert (result.logits > 0).double().mean().item() == pytest.approx(0.25, abs=0.04)


def test_evaluate_restores_the_mode_and_refuses_bad_labels() -> None:
    model = fresh().train()
    images, labels = data(6).tensors
    result = mst.evaluate(model, [(images, labels)])
    assert model.training
    assert result.top5_accuracy == 1.0
    with pytest.raises(ValueError, match="labels run from 1 to 3, but the network has 3 classes"):
        mst.evaluate(model, [(images, labels + 1)])
    with pytest.raises(ValueError, match="no images to evaluate"):
        mst.evaluate(model, [])
    assert model.training


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        ([torch.zeros(3, 1, 8, 8)], {}, r"a batch is \(images, labels\), got Tensor \[3, 1, 8, 8\]"),
        ((torch.zeros(4, 1, 8, 8), torch.zeros(3)), {}, r"4 images need 4 labels, got labels of shape \(3,\)"),
        (data(6), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ((torch.zeros(0, 1, 8, 8), torch.zeros(0)), {}, "no images to evaluate"),
    ],
)
def test_evaluate_wrong_data_is_refused(wrong: object, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mst.evaluate(fresh(), wrong, **options)  # type: ignore[arg-type]


def test_evaluate_takes_a_network_without_parameters() -> None:
    logits = torch.eye(4)
    assert mst.evaluate(nn.Identity(), (logits, torch.tensor([0, 1, 2, 0]))).accuracy == 0.75


def test_evaluation_repr_is_short() -> None:
    text = repr(mst.evaluate(nn.Identity(), (torch.eye(4), torch.arange(4))))
    assert text == "Evaluation(4 images, 100.00 %, top-5 100.00 %, 0 quanta per neuron)"


def test_quanta_of_an_evaluation_are_means_over_images() -> None:
    """Each image sends 2 + 4 quanta of two neurons."""
    images = torch.tensor([[0.5, 1.0]]).expand(5, 2)
    result = mst.evaluate(nn.Sequential(QCFS(4, 1.0), nn.Softmax(dim=1)), (images, torch.ones(5).long()))
    assert (result.quanta_per_image, result.quanta_per_neuron) == (6.0, 3.0)
