"""Agreement with the released system: names, shapes, logits and spikes."""

from __future__ import annotations

import logging
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from yacs.config import CfgNode

import mst
from conftest import GOLDEN, Golden, tiny_config
from mst.checkpoints.released import _infer_mlp_ratio
from mst.models import MaskedSpikingTransformer
from reference import Reference
from released_networks import OTHERS, released_network, released_state

pytestmark = pytest.mark.slow


def test_golden_ann_logits_agree(golden: Golden) -> None:
    model = mst.import_released(golden.state, img_size=28).double()
    with torch.no_grad():
        assert (model(golden.images) - golden.ann_logits).abs().max().item() < 1e-9


@pytest.mark.parametrize("steps_per_chunk", [1, 5, 32])
def test_golden_snn_agrees_at_each_step_and_spike_for_spike(golden: Golden, steps_per_chunk: int) -> None:
    snn = mst.convert(mst.import_released(golden.state, img_size=28, num_levels=16).double())
    result = mst.simulate(snn, golden.images, num_steps=32, steps_per_chunk=steps_per_chunk, keep_step_logits=True)
    assert result.step_logits is not None
    assert (result.step_logits - golden.step_logits).abs().amax(dim=(1, 2)).max().item() < 1e-9
    assert result.spike_counts == golden.spike_counts


def test_golden_configuration_is_inferred_from_names_and_shapes(golden: Golden) -> None:
    config = mst.import_released(golden.state).config  # the image size too
    for name in ("img_size", "patch_size", "in_chans", "embed_dim", "window_size", "num_classes", "mlp_batch_norm"):
        assert getattr(config, name) == golden.config[name]
    assert [list(config.depths), list(config.num_heads)] == [golden.config["depths"], golden.config["num_heads"]]


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_of_this_form_agree_with_the_plain_description(name: str) -> None:
    model, images, described = released_network(name)
    assert (model(images) - Reference(**described, spiking=False)(images)).abs().max().item() < 1e-9
    snn_reference = Reference(**described, spiking=True)
    expected = torch.stack([snn_reference(images) for _ in range(12)])
    result = mst.simulate(mst.convert(model), images, 12, steps_per_chunk=5, keep_step_logits=True)
    assert result.step_logits is not None
    assert (result.step_logits - expected).abs().max().item() < 1e-9
    assert result.spike_counts == dict(snn_reference.spikes)
    silent = [site for site, count in result.spike_counts.items() if count == 0]
    assert len(silent) <= 2  # (nearly) every site has fired


# ------------------------------------------------------------------------ names and shapes at full size


def listed_state(variant: str) -> dict[str, Tensor]:
    """A state dict with the released names, shapes and dtypes, and values that are cheap."""
    state = {}
    for line in (GOLDEN / f"released_state_dict_{variant}.txt").read_text().splitlines():
        name, shape, dtype = line.split("\t")
        size = [] if shape == "scalar" else [int(n) for n in shape.split("x")]
        state[name] = torch.full(size, 2.0 if name.endswith(".up") else 0.5).to(getattr(torch, dtype))
    return state


@pytest.mark.parametrize(("variant", "classes", "mlp_bn"), [("imagenet", 1000, True), ("cifar", 10, False)])
def test_released_state_dict_is_used_completely(variant: str, classes: int, mlp_bn: bool) -> None:
    state = listed_state(variant)
    model = mst.import_released(state, img_size=224, masking_ratio=0.75)
    config = model.config
    assert (config.num_classes, config.mlp_batch_norm, config.depths) == (classes, mlp_bn, (2, 2, 6, 2))
    assert {(n, tuple(t.shape)) for n, t in released_state(model).items()} == {
        (n, tuple(t.shape)) for n, t in state.items()
    }
    assert mst.import_released(state).config.img_size == 224
    model_state = model.state_dict()
    for name, tensor in state.items():
        if not name.endswith(("attn_mask", "relative_position_index")):
            assert torch.equal(model_state[name.replace(".up", ".threshold")], tensor), name


def test_import_lists_missing_unexpected_and_misshapen_tensors(golden: Golden) -> None:
    state = dict(golden.state)
    del state["layers.1.blocks.0.attn.q_if.up"]
    state["stray.weight"] = torch.zeros(1)
    state["layers.0.blocks.0.mlp.fc2.bias"] = torch.zeros(7)
    with pytest.raises(ValueError, match="3 problems") as caught:
        mst.import_released(state, img_size=28)
    for part in (
        "missing layers.1.blocks.0.attn.q_if.up", "unexpected stray.weight",
        "layers.0.blocks.0.mlp.fc2.bias is [7], the model has [24]",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_import_wrong_image_size_contradicts_the_weights(golden: Golden) -> None:
    with pytest.raises(ValueError, match=r"attn_mask is \[4, 49, 49\], the model has \[16, 49, 49\]"):
        mst.import_released(golden.state, img_size=56)


def test_import_image_size_that_cannot_be_inferred_is_the_smallest_and_reported(
    golden: Golden, caplog: pytest.LogCaptureFixture
) -> None:
    state = {name: tensor for name, tensor in golden.state.items() if not name.endswith("attn_mask")}
    assert mst.import_released(state).config.img_size == 28
    assert "28 px is assumed, the smallest that their windows allow" in caplog.text
    assert mst.import_released(state, img_size=56).config.img_size == 56


def test_import_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not a state dict of an MST: missing patch_embed.proj.weight"):
        mst.import_released({"fc.weight": torch.zeros(1)})


@pytest.mark.parametrize(("dim", "hidden"), [(56, 61), (12, 27), (96, 384)])
def test_import_mlp_ratio_is_one_that_gives_these_shapes(dim: int, hidden: int) -> None:
    assert int(dim * _infer_mlp_ratio([(hidden, dim)])) == hidden


def test_import_keeps_levels_and_masking(golden: Golden) -> None:
    config = mst.import_released(golden.state, num_levels=8, masking_ratio=0.75, mask_sites=("query",)).config
    assert (config.num_levels, config.masking_ratio, config.mask_sites) == (8, 0.75, ("query",))


def test_import_warns_of_a_threshold_that_is_not_positive(golden: Golden, caplog: pytest.LogCaptureFixture) -> None:
    state = {**golden.state, "patch_embed.proj_if.up": torch.tensor([-1.0])}
    with caplog.at_level(logging.WARNING):
        mst.import_released(state)
    assert "patch_embed.proj_if.up is [-1.0]" in caplog.text


# ------------------------------------------------------------------------------------------------ files


def test_import_reads_pth_with_wrappers_and_safetensors(golden: Golden, tmp_path: Path) -> None:
    wrapped = {"model": OrderedDict((f"module.{n}", t) for n, t in golden.state.items()), "epoch": 3}
    torch.save(wrapped, tmp_path / "a.pth")
    save_file({f"model.{n}": t.contiguous() for n, t in golden.state.items()}, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        model = mst.import_released(tmp_path / name)
        assert torch.equal(model.head.weight, golden.state["head.weight"])


@pytest.mark.parametrize("new_format", [True, False])
def test_import_reads_a_file_made_the_released_way(golden: Golden, tmp_path: Path, new_format: bool) -> None:
    """Model, optimiser, schedule and a frozen yacs configuration in one pickle."""
    config = CfgNode({"MODEL": CfgNode({"SWIN": CfgNode({"DEPTHS": [2, 2]})}), "TAG": "default"})
    config.freeze()
    content = {
        "model": golden.state, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": []},
        "lr_scheduler": {"t_initial": 10}, "max_accuracy": 97.3, "scaler": {}, "epoch": 299, "config": config,
    }  # fmt: skip
    torch.save(content, tmp_path / "ckpt.pth", _use_new_zipfile_serialization=new_format)
    model = mst.import_released(tmp_path / "ckpt.pth", masking_ratio=0.75)
    assert model.config.masking_ratio == 0.75
    assert torch.equal(model.head.weight, golden.state["head.weight"])


class Hostile:
    """A pickle that would run code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (_touch, (str(self.target),))


def _touch(path: str) -> None:
    Path(path).touch()


def test_import_pickle_that_tries_to_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"model": Hostile(tmp_path / "ran")}, tmp_path / "hostile.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    for name in ("hostile.pth", "raw.pth"):
        with pytest.raises(
            ValueError, match=r"refused: only tensors and plain values may be unpickled, and it .*\. Nothing was run"
        ):
            mst.import_released(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_import_damaged_pth_is_refused(golden: Golden, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "x.pth"
    torch.save({"model": golden.state}, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else math.floor(len(content) * keep)])
    with pytest.raises(ValueError, match=r"x\.pth"):
        mst.import_released(path)


def test_import_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing\.pth"):
        mst.import_released(tmp_path / "nothing.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: torch.zeros(1)}, "holds no state dict"),
        ({"layers.9999999999.blocks.0.x": torch.zeros(1)}, r"its stages are \[0, 1, 9999999999\]"),
        ({"layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(9)}, "impossible shapes"),
        ({"head.weight": torch.tensor(1.0)}, "impossible shapes"),
        ({"patch_embed.proj.weight": torch.zeros(8, 1, 2, 2, dtype=torch.complex64)}, "not a tensor of plain numbers"),
        ({"norm.weight": torch.full((16,), float("nan"))}, "norm.weight holds values that are NaN or infinite"),
    ],
    ids=["key", "stage", "table", "head", "complex", "nan"],
)
def test_malformed_state_dict_is_refused(tmp_path: Path, change: dict[object, torch.Tensor], message: str) -> None:
    state = MaskedSpikingTransformer(tiny_config()).state_dict()
    renamed = {name.replace(".threshold", ".up"): tensor for name, tensor in state.items()}
    torch.save({"model": {**renamed, **change}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message):
        mst.import_released(tmp_path / "x.pth", 8)
