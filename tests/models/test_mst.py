from __future__ import annotations

import dataclasses

import pytest
import timm
import torch
from torch import nn

from conftest import randomise, tiny_config
from mst.models import (
    MODEL_NAMES,
    ActivationProduct,
    MaskedSpikingTransformer,
    MSTConfig,
    TokenBatchNorm,
    synchronise_batch_norm,
)
from mst.models.geometry import stage_geometries
from mst.models.mst import merge_windows, partition_windows, shifted_window_mask
from mst.neurons import QCFS, ChannelMask, find_sites
from mst.quantization import create_model

SMALL = [name for name in MODEL_NAMES if "tiny" not in name]


def images_for(model: MaskedSpikingTransformer, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, model.config.in_chans, *model.config.image_shape)


# ------------------------------------------------------------------------------------------ the matrix


@pytest.mark.parametrize("name", SMALL)
def test_variant_runs_and_gives_every_parameter_a_gradient(name: str) -> None:
    model = create_model(name, num_classes=7, in_chans=2)
    for module in model.modules():  # a threshold of 2 would silence the deeper sites of an untrained network
        if isinstance(module, QCFS):
            nn.init.constant_(module.threshold, 0.3)
    logits = model(images_for(model, 4))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert without == []


@pytest.mark.parametrize("name", SMALL)
def test_variant_state_dict_round_trip_gives_the_same_logits(name: str) -> None:
    model = create_model(name, num_classes=3).eval()
    randomise(model)
    other = create_model(name, num_classes=3).eval()
    other.load_state_dict(model.state_dict())
    x = images_for(model)
    assert torch.equal(model(x), other(x))


def test_tiny_variant_has_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        full, cifar = MSTConfig(), MSTConfig(num_classes=10, mlp_batch_norm=False)
        counts = [sum(p.numel() for p in MaskedSpikingTransformer(c).parameters()) for c in (full, cifar)]
    assert [round(count / 1e6, 2) for count in counts] == [28.33, 27.53]


def test_variants_are_registered_with_timm() -> None:
    assert set(timm.list_models("mst_*")) == set(MODEL_NAMES)
    model = timm.create_model("mst_nano_patch2_window2_8", num_classes=5, masking_ratio=0.5)
    assert (model.num_classes, model.config.masking_ratio, model.pretrained_cfg["architecture"]) == (
        5, 0.5, "mst_nano_patch2_window2_8",
    )  # fmt: skip
    with pytest.raises(ValueError, match="no weights are published"):
        timm.create_model("mst_nano_patch2_window2_8", pretrained=True)


def test_timm_interface_features_head_and_new_classifier() -> None:
    model = MaskedSpikingTransformer(tiny_config())
    x = images_for(model)
    tokens = model.forward_features(x)
    assert tokens.shape == (2, 4, 16)
    assert model.forward_head(tokens, pre_logits=True).shape == (2, model.num_features)
    model.reset_classifier(9)
    assert model(x).shape == (2, 9)
    assert model.config.num_classes == 9
    assert model.get_classifier() is model.head
    model.reset_classifier(0)
    assert model(x).shape == (2, 16)


# ---------------------------------------------------------------------------- every field has an effect

CHANGED = {
    "img_size": 16, "patch_size": 1, "in_chans": 2, "align_chans": 3, "num_classes": 4, "embed_dim": 12,
    "depths": (1, 1), "num_heads": (1, 2), "window_size": 4, "mlp_ratio": 3.0, "qkv_bias": False,
    "mlp_batch_norm": False, "absolute_position_embedding": True, "num_levels": 2, "threshold": 0.5,
    "masking_ratio": 0.5, "mask_sites": ("mlp",), "mask_rule": "channel", "drop_path_rate": 0.5,
    "grad_checkpointing": True, "weight_init": "trunc_normal", "activation": "clip",
}  # fmt: skip


def fingerprint(config: MSTConfig) -> object:
    """Visible effects of a configuration: shapes, values, settings of sites, and the training-mode output."""
    torch.manual_seed(0)
    model = MaskedSpikingTransformer(config)
    shapes = [(n, tuple(t.shape)) for n, t in [*model.named_parameters(), *model.named_buffers()]]
    sites = [(n, s.num_levels, s.mask, s.threshold.item()) for n, s in find_sites(model).items()]
    weights = round(sum(p.double().abs().sum().item() for p in model.parameters()), 6)
    drops = [round(m.drop_prob, 6) for m in model.modules() if hasattr(m, "drop_prob")]
    checkpointing = [m.grad_checkpointing for m in model.modules() if hasattr(m, "grad_checkpointing")]
    geometry = [(m.resolution, m.window, m.shift) for m in model.modules() if hasattr(m, "window")]
    return geometry, shapes, sites, weights, drops, checkpointing


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(MSTConfig)])
def test_config_every_field_is_alive(field: str) -> None:
    base = {"masking_ratio": 0.25} if field in ("mask_sites", "mask_rule") else {}
    before = tiny_config(**base)
    after = tiny_config(**{**base, field: CHANGED[field]})
    assert fingerprint(before) != fingerprint(after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masking_ratio": 1.0}, r"fraction dropped, in \[0, 1\)"),
        ({"masking_ratio": 0.5, "mask_sites": ()}, "has no effect without mask_sites"),
        (
            {"mask_rule": "chanel"},
            "unknown mask rule 'chanel'; did you mean channel.*Choose from random, channel, token",
        ),
        ({"mask_rule": ChannelMask}, "mask_rule must be a name, got"),
        ({"num_heads": (2,)}, "one positive entry per stage"),
        ({"num_heads": (3, 2)}, "8 channels do not divide by 3 heads"),
        ({"num_levels": 0}, "num_levels must be at least 1"),
        ({"num_classes": -1}, "num_classes must not be negative"),
        ({"threshold": 0.0}, "threshold must be above 0"),
        ({"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\)"),
        ({"weight_init": "zeros"}, "weight_init must be"),
        ({"mlp_ratio": 0.001}, "mlp_ratio 0.001 leaves no hidden channel of 8"),
        ({"mlp_ratio": -1.0}, "leaves no hidden channel"),
        ({"embed_dim": "big"}, "embed_dim must be a whole number, got 'big'"),
        ({"threshold": "high"}, "threshold must be a number, got 'high'"),
        ({"mask_sites": "query"}, "mask_sites must be a list of str values, got 'query'"),
        ({"depths": "2,2"}, "depths must be a list of int values"),
        ({"img_size": [8, 8, 8]}, "img_size must be one positive number or"),
        ({"img_size": 0}, "img_size must be one positive number or"),
    ],
)
def test_config_value_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(**options)


def test_mask_sites_that_match_nothing_are_refused_also_without_masks() -> None:
    for ratio in (0.0, 0.5):
        with pytest.raises(ValueError, match="no site matches 'valeu'; did you mean value"):
            MaskedSpikingTransformer(tiny_config(masking_ratio=ratio, mask_sites=("valeu",)))


def test_config_misspelt_option_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown model option 'masking_ration'; did you mean masking_ratio"):
        create_model("mst_nano_patch2_window2_8", masking_ration=0.5)
    with pytest.raises(ValueError, match="unknown model 'mst_nano'; did you mean"):
        create_model("mst_nano")


# ------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("size", [225, 200, 451, 3])
def test_geometry_size_that_does_not_divide_names_the_nearest_that_do(size: int) -> None:
    with pytest.raises(ValueError, match="does not fit patch_size 4, window_size 7 and 4 stage") as caught:
        MSTConfig(img_size=size)
    suggested = [int(word) for word in str(caught.value).rsplit(": ", 1)[1].split(", ")]

    def fits(s: int) -> bool:
        try:
            stage_geometries((s, s), 4, 7, 4)
        except ValueError:
            return False
        return True

    smaller = [s for s in range(1, size) if fits(s)][-1:]
    larger = next(s for s in range(size + 1, 1000) if fits(s))
    assert suggested == [*smaller, larger]


def test_geometry_of_the_papers_network() -> None:
    stages = stage_geometries((224, 224), 4, 7, 4)
    assert [(s.resolution[0], s.window, s.shift) for s in stages] == [(56, 7, 3), (28, 7, 3), (14, 7, 3), (7, 7, 0)]


def test_geometry_window_shrinks_to_a_smaller_stage() -> None:
    assert [(s.window, s.shift) for s in stage_geometries((16, 16), 2, 4, 3)] == [(4, 2), (4, 0), (2, 0)]


def test_model_takes_rectangular_images() -> None:
    model = MaskedSpikingTransformer(tiny_config(img_size=(8, 16)))
    assert model(torch.rand(2, 1, 8, 16)).shape == (2, 3)


def test_model_image_of_another_size_is_refused() -> None:
    model = MaskedSpikingTransformer(tiny_config())
    with pytest.raises(ValueError, match=r"takes images \[B, 1, 8, 8\], got \(2, 1, 8, 9\)"):
        model(torch.rand(2, 1, 8, 9))


def test_windows_partition_and_merge_are_inverse() -> None:
    x = torch.rand(3, 6, 4, 5)
    windows = partition_windows(x, 2)
    assert windows.shape == (18, 4, 5)
    assert torch.equal(windows[0], x[0, :2, :2].reshape(4, 5))
    assert torch.equal(merge_windows(windows, 2, (6, 4)), x)


# --------------------------------------------------------------------------------------------- masking


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_to_tokens_that_the_shift_brought_together_is_exactly_0(dtype: torch.dtype) -> None:
    """A weight like exp(-100) is a denormal number, with which a CPU computes a hundred times as slowly."""
    mask = shifted_window_mask((4, 4), window=2, shift=1).to(dtype)
    weights = torch.softmax(50 * torch.randn_like(mask) + mask, dim=-1)
    assert bool((mask < 0).any())
    assert bool((weights[mask < 0] == 0).all())


def test_masking_acts_on_the_chosen_sites_only() -> None:
    model = MaskedSpikingTransformer(tiny_config(masking_ratio=0.5, mask_sites=("key", "mlp")))
    masked = {name.rsplit(".", 1)[1] for name, site in find_sites(model).items() if site.masking_ratio > 0}
    assert masked == {"k_if", "shortcut2_if"}


# ---------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("training", [True, False])
def test_token_batch_norm_equals_batch_norm_with_transposes(training: bool) -> None:
    ours, plain = TokenBatchNorm(5).train(training), nn.BatchNorm1d(5).train(training)
    randomise(ours)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(3, 4, 5, requires_grad=True)
    torch.testing.assert_close(ours(x), plain(x.transpose(1, 2)).transpose(1, 2))
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())


def test_activation_product_scaled_and_transposed() -> None:
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(ActivationProduct(True, 0.25)(a, b), 0.25 * (a @ b.transpose(-1, -2)))
    torch.testing.assert_close(ActivationProduct()(a, b.transpose(-1, -2)), a @ b.transpose(-1, -2))


def test_grad_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = MaskedSpikingTransformer(tiny_config(threshold=0.3)).double()
        model.set_grad_checkpointing(checkpointing)
        torch.manual_seed(1)
        model(torch.rand(4, 1, 8, 8, dtype=torch.float64)).square().sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters()}
        results.append((grads, {n: b for n, b in model.named_buffers() if "running" in n or "tracked" in n}))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


def test_synchronised_batch_norm_is_the_usual_one_in_a_single_process() -> None:
    models = [MaskedSpikingTransformer(tiny_config()) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    synchronise_batch_norm(models[1])
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(models[0](images), models[1](images))
    with pytest.raises(ValueError, match="no BatchNorm that could be synchronised"):
        synchronise_batch_norm(torch.nn.Linear(2, 2))
