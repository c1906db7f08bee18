from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from conftest import randomise, tiny_config
from mst.checkpoints import import_swin, load_initial_weights, map_swin, read_swin, save_checkpoint
from mst.models import MaskedSpikingTransformer
from mst.neurons import find_sites, qcfs
from mst.quantization import calibrate, fit_threshold

SIZES = {
    "img_size": 16, "patch_size": 2, "in_chans": 1, "num_classes": 5, "embed_dim": 8, "depths": (2, 1, 1),
    "num_heads": (2, 2, 4), "window_size": 2, "mlp_ratio": 2.0,
}  # fmt: skip


def swin() -> SwinTransformer:
    model = SwinTransformer(**SIZES).eval()
    randomise(model)
    return model


def official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layout of the official code: merging at the end of the stage before, and its own buffers."""
    renamed = {}
    for name, tensor in state.items():
        for stage in (1, 2):
            name = name.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample.")
            name = name.replace("..", ".")
        renamed[name.replace("head.fc", "head")] = tensor
    return {**renamed, "layers.0.blocks.1.attn_mask": torch.zeros(16, 4, 4)}


@pytest.mark.parametrize("layout", ["timm", "official"])
def test_every_tensor_of_a_swin_goes_where_it_belongs(layout: str) -> None:
    source = swin()
    state = source.state_dict()
    model = import_swin(state if layout == "timm" else official(state), 16)
    assert (model.config.depths, model.config.window_size, model.num_classes) == ((2, 1, 1), 2, 5)
    pairs = {"patch_embed.proj": "patch_embed.proj", "patch_embed.norm": "patch_embed.norm", "norm": "norm"}
    pairs["head"] = "head.fc"
    for stage, depth in enumerate((2, 1, 1)):
        for block in range(depth):
            for leaf in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
                pairs[f"layers.{stage}.blocks.{block}.{leaf}"] = f"layers.{stage}.blocks.{block}.{leaf}"
    for stage in (0, 1):
        for leaf in ("norm", "reduction"):
            pairs[f"layers.{stage}.downsample.{leaf}"] = f"layers.{stage + 1}.downsample.{leaf}"
    copied = 0
    for ours, theirs in pairs.items():
        one, two = model.get_submodule(ours), source.get_submodule(theirs)
        assert torch.equal(one.weight, two.weight), ours
        copied += 1
        if two.bias is not None:
            assert torch.equal(one.bias, two.bias), ours
            copied += 1
    for stage, depth in enumerate((2, 1, 1)):
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}.attn.relative_position_bias_table"
            assert torch.equal(model.get_parameter(name), source.get_parameter(name))
            copied += 1
    assert copied == len(list(source.parameters())) == len(map_swin(state))


def test_merging_and_attention_of_both_compute_the_same() -> None:
    """The order of merged tokens, position tables and q, k, v within their map is checked by outputs, not names."""
    source, model = swin().double(), None
    model = import_swin({k: v.double() for k, v in swin().state_dict().items()}, 16)
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    theirs = source.layers[1].downsample.reduction(_concatenated(source, x))
    ours = model.layers[0].downsample
    ours.norm, ours.reduction_if = torch.nn.Identity(), torch.nn.Identity()
    torch.testing.assert_close(ours(x.flatten(1, 2)), theirs.flatten(1, 2), rtol=0, atol=1e-12)
    attention = model.layers[0].blocks[0].attn
    for name in ("q_if", "k_if", "v_if", "attn_if", "attn_v_if", "proj_if"):
        setattr(attention, name, torch.nn.Identity())
    windows = torch.randn(6, 4, 8, dtype=torch.float64)
    theirs = source.layers[0].blocks[0].attn(windows)
    torch.testing.assert_close(attention(windows, None), theirs, rtol=0, atol=1e-12)


def _concatenated(source: SwinTransformer, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    merging = source.layers[1].downsample
    handle = merging.norm.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    merging(x)
    handle.remove()
    return seen[0]


def test_swin_weights_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    state = swin().state_dict()
    save_file(state, str(tmp_path / "a.safetensors"))
    torch.save({"model": {f"module.{k}": v for k, v in official(state).items()}}, tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        assert len(map_swin(read_swin(tmp_path / name))) == len(map_swin(state))
    with pytest.raises(ValueError, match="resnet18 is not a Swin of timm; choose from swin_base"):
        read_swin(None, "resnet18")
    save_file({"weight": torch.zeros(1)}, str(tmp_path / "c.safetensors"))
    with pytest.raises(ValueError, match="holds no Swin Transformer"):
        read_swin(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="not a Swin Transformer of the first version: unexpected .*logit_scale"):
        map_swin({**state, "layers.0.blocks.0.attn.logit_scale": torch.zeros(1)})


def test_swin_of_other_sizes_lists_what_does_not_fit() -> None:
    state = swin().state_dict()
    del state["layers.0.blocks.1.norm1.bias"]
    with pytest.raises(ValueError, match=r"1 problems\): missing layers.0.blocks.1.norm1.bias"):
        import_swin(state, 16)


def test_initial_weights_come_from_every_source(tmp_path: Path) -> None:
    def target(**options: object) -> MaskedSpikingTransformer:
        return MaskedSpikingTransformer(tiny_config(**{**SIZES, **options}))

    state = swin().state_dict()
    save_file(state, str(tmp_path / "swin.safetensors"))
    model = target(num_classes=7)
    start = load_initial_weights(model, str(tmp_path / "swin.safetensors"))
    assert (start.kind, start.head_kept, model.head.weight.shape[0]) == ("swin", False, 7)
    assert torch.equal(model.layers[1].blocks[0].attn.qkv.weight, state["layers.1.blocks.0.attn.qkv.weight"])

    source = target()
    randomise(source)
    save_checkpoint(source, tmp_path / "own.safetensors")
    torch.save(
        {"model": {k.replace(".threshold", ".up"): v for k, v in source.state_dict().items()}}, tmp_path / "r.pth"
    )
    for name, kind in (("own.safetensors", "mst"), ("r.pth", "released")):
        model = target()
        start = load_initial_weights(model, str(tmp_path / name))
        assert (start.kind, start.head_kept) == (kind, True)
        torch.testing.assert_close(model.state_dict(), source.state_dict(), rtol=0, atol=0)
        other = target(num_classes=2)
        assert not load_initial_weights(other, str(tmp_path / name)).head_kept
    with pytest.raises(ValueError, match=r"the weights do not fit .*problems\): .*has \[8, 1, 4, 4\]"):
        load_initial_weights(target(patch_size=4), str(tmp_path / "own.safetensors"))


# ---------------------------------------------------------------------------------------- calibration


@pytest.mark.parametrize("num_levels", [2, 4, 16])
def test_fitted_threshold_is_the_best_on_a_fine_grid(num_levels: int) -> None:
    x = torch.randn(5000, dtype=torch.float64)
    fitted = fit_threshold(x, num_levels)
    assert fitted is not None

    def error(threshold: float) -> float:
        y = qcfs(x, torch.tensor([threshold], dtype=torch.float64), num_levels)
        return float((y - x.clamp_min(0)).square().sum())

    assert error(fitted) <= 1.01 * min(error(0.02 * i) for i in range(1, 250))
    assert fitted < float(x.max())


def test_fitted_threshold_sees_every_channel() -> None:
    """A stride through [images, tokens, channels] would meet the same few channels again and again."""
    x = torch.rand(64, 196, 96)
    x[..., 1::2] *= 8.0
    assert float(fit_threshold(x.flatten(), 16)) > 4.0


def test_fit_threshold_without_a_positive_value_is_nan() -> None:
    assert fit_threshold(torch.tensor([-1.0, 0.0]), 4).isnan()
    with pytest.raises(ValueError, match=r"values must be \[n\] or \[n, C\], got \(1, 2, 3\)"):
        fit_threshold(torch.zeros(1, 2, 3), 4)


def test_fit_threshold_of_each_channel_is_that_of_the_channel_alone() -> None:
    x = torch.randn(500, 3) * torch.tensor([0.5, 1.0, 4.0])
    x[:, 1] = -1.0
    fitted = fit_threshold(x, 8)
    assert fitted[1].isnan()
    for channel in (0, 2):
        torch.testing.assert_close(fitted[channel], fit_threshold(x[:, channel], 8)[0])
    assert fitted[2] > 4 * fitted[0]


def test_calibration_sets_statistics_and_thresholds_from_the_images() -> None:
    model = MaskedSpikingTransformer(tiny_config(threshold=50.0)).eval()
    randomise(model)
    before = {name: p.clone() for name, p in model.named_parameters() if not name.endswith("threshold")}
    images = 3 + 2 * torch.randn(64, 1, 8, 8)
    calibrate(model, [images])
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def look(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[name] = inputs[0], output

    for name, site in find_sites(model).items():
        site.register_forward_hook(partial(look, name))
    model(images)
    assert len(seen) == len(find_sites(model))
    for name, (x, y) in seen.items():
        relu = x.clamp_min(0)
        best = qcfs(x, fit_threshold(x.flatten(), 4).to(x.dtype), 4)
        assert (y - relu).square().sum() <= 1.02 * (best - relu).square().sum(), name
        assert (y - relu).square().sum() < 0.1 * relu.square().sum(), name  # four levels
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)
    projected = model.patch_embed.proj(images).flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(model.patch_embed.norm.running_mean, projected.mean(dim=0), rtol=1e-4, atol=1e-4)
    assert model.patch_embed.norm.momentum == 0.1
    assert not model.training


def test_calibration_averages_statistics_over_batches() -> None:
    model = MaskedSpikingTransformer(tiny_config()).eval()
    images = torch.randn(32, 1, 8, 8)
    calibrate(model, [images[:16], images[16:]])
    projected = model.patch_embed.proj(images).flatten(2).transpose(1, 2)
    means = projected.flatten(0, 1).mean(dim=0)
    torch.testing.assert_close(model.patch_embed.norm.running_mean, means, rtol=1e-4, atol=1e-5)


def test_calibration_without_images_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    model = MaskedSpikingTransformer(tiny_config())
    with pytest.raises(ValueError, match="no images to calibrate with"):
        calibrate(model, [])
    with torch.no_grad():
        model.patch_embed.norm.weight.zero_()
        model.patch_embed.norm.bias.fill_(-1.0)
    calibrate(model, [torch.randn(4, 1, 8, 8)])
    assert "patch_embed.proj_if receives no value above 0" in caplog.text
    assert model.patch_embed.proj_if.threshold.item() == 2.0
