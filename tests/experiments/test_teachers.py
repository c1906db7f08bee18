"""Float training, then training with sites at products, taught by the float network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mst
from mst.errors import InputError
from mst.experiments.options import NetworkOptions, QuantizeOptions
from mst.experiments.teachers import build_teacher
from mst.neurons import find_sites

pytestmark = pytest.mark.slow

VIT = NetworkOptions(
    "vit_tiny_patch16_224",
    {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 1},
    quantize=QuantizeOptions(placement="none"),
)
OPTIONS = mst.TrainingOptions(
    VIT,
    mst.DataOptions("digits", train_images=64),
    mst.TrainConfig(epochs=1, warmup_epochs=0, trackers=(), eval_batch_size=360),
)


@pytest.fixture(scope="module")
def in_float(tmp_path_factory: pytest.TempPathFactory) -> mst.TrainingRun:
    return mst.run_training(OPTIONS, tmp_path_factory.mktemp("float"))


def distilled(source: str) -> mst.TrainingOptions:
    network = replace(VIT, init_from=source, num_levels=15, quantize=QuantizeOptions(placement="products"))
    return replace(OPTIONS, network=network, train=replace(OPTIONS.train, distillation=0.5))


def test_float_training_is_the_start_and_the_teacher_of_a_quantised_one(
    in_float: mst.TrainingRun, tmp_path: Path
) -> None:
    checkpoint = in_float.result.last_checkpoint
    loaded = mst.load_checkpoint(checkpoint)
    assert not find_sites(loaded)
    assert mst.evaluate(loaded, mst.load_dataset("digits").test).accuracy == in_float.result.history[-1].accuracy
    assert mst.open_checkpoint(checkpoint).facts()["masking_ratio"] == 0
    options = distilled(str(checkpoint))
    run = mst.run_training(options, tmp_path)
    assert {site.num_levels - site.min_level for site in find_sites(run.network).values()} == {15}
    splits = mst.load_dataset(options.data)
    teacher = build_teacher(options, splits)
    assert teacher is not None
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, teacher.state_dict()[name])


def test_teacher_may_be_a_network_of_the_zoo() -> None:
    options = replace(OPTIONS, train=replace(OPTIONS.train, distillation=0.5), teacher="zoo:digits-mst")
    options = replace(options, data=mst.DataOptions("digits", img_size=8))
    teacher = build_teacher(options, mst.load_dataset(options.data))
    assert teacher is not None
    assert find_sites(teacher)  # as it was trained, not a network of the options' name without sites


def test_float_network_is_quantised_to_the_levels_asked_for_and_can_be_built_again(
    in_float: mst.TrainingRun, tmp_path: Path
) -> None:
    network = mst.load_checkpoint(in_float.result.last_checkpoint)
    images = torch.randn(16, 1, 8, 8)
    quantized = mst.quantize(network, 63, images, placement="products").eval()
    assert {site.num_levels - site.min_level for site in find_sites(quantized).values()} == {63}
    mst.save_checkpoint(quantized, tmp_path / "quantised.safetensors")
    assert torch.equal(mst.load_checkpoint(tmp_path / "quantised.safetensors")(images), quantized(images))


def test_teacher_is_built_from_weights_without_a_description(in_float: mst.TrainingRun, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(load_file(in_float.result.last_checkpoint), path)
    options = distilled(str(path))
    teacher = build_teacher(options, mst.load_dataset(options.data))
    assert teacher is not None
    image = torch.randn(2, 1, 8, 8)
    assert torch.equal(teacher.eval()(image), mst.load_checkpoint(in_float.result.last_checkpoint)(image))


def test_teacher_that_cannot_teach_is_refused(in_float: mst.TrainingRun) -> None:
    source = str(in_float.result.last_checkpoint)
    splits = mst.load_dataset(OPTIONS.data)
    assert build_teacher(OPTIONS, splits) is None
    with pytest.raises(InputError, match="teacher has no effect without distillation"):
        build_teacher(replace(OPTIONS, teacher=source), splits)
    unnamed = replace(OPTIONS, train=replace(OPTIONS.train, distillation=0.5))
    with pytest.raises(InputError, match="name a trained network with --teacher or --init-from"):
        build_teacher(unnamed, splits)
    other = replace(splits, preprocessing=replace(splits.preprocessing, mean=(0.5,)))
    with pytest.raises(InputError, match="trained with other preprocessing"):
        build_teacher(distilled(source), other)


def test_float_training_refuses_options_of_sites() -> None:
    splits = mst.load_dataset(OPTIONS.data)
    for change, message in (
        ({"num_levels": 7}, "num_levels has no effect with placement none"),
        ({"masking_ratio": 0.5}, "has no QCFS site"),
        ({"quantize": QuantizeOptions(placement="none", also=("GELU",))}, "also would have no effect"),
    ):
        with pytest.raises(InputError, match=message):
            mst.experiments.networks.build_network(replace(VIT, **change), splits)  # type: ignore[arg-type]
