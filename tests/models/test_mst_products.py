"""A Masked Spiking Transformer with sites at its products."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mst
from conftest import tiny_config
from mst.checkpoints import load_initial_weights
from mst.errors import InputError
from mst.models import MaskedSpikingTransformer, spec_of
from mst.neurons import find_sites, select_sites
from mst.quantization import calibrate, quantization_of

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def trained() -> MaskedSpikingTransformer:
    """An MST whose thresholds and statistics are those of its images."""
    torch.manual_seed(1)
    model = MaskedSpikingTransformer(tiny_config(depths=(1, 1))).double().eval()
    calibrate(model, [IMAGES])
    return model.eval()


@pytest.fixture(scope="module")
def products() -> MaskedSpikingTransformer:
    return mst.quantize(trained(), 15, IMAGES, placement="products")


def test_every_product_of_an_mst_gets_sites_at_its_operands(products: MaskedSpikingTransformer) -> None:
    blocks = ("layers.0.blocks.0", "layers.1.blocks.0")
    of_block = [
        "attn.qkv.input_site", "attn.query_key.left_site", "attn.query_key.right_site",
        "attn.attention_value.left_site", "attn.attention_value.right_site", "attn.proj.input_site",
        "mlp.fc1.input_site", "mlp.fc2.input_site",
    ]  # fmt: skip
    sites = find_sites(products)
    assert sorted(sites) == sorted(
        [*(f"{block}.{name}" for block in blocks for name in of_block), "layers.0.downsample.reduction.input_site",
         "head.input_site"]
    )  # fmt: skip
    weights = sites["layers.0.blocks.0.attn.attention_value.left_site"]  # behind the softmax
    assert (weights.role, weights.min_level) == ("weights", 0)
    assert sites["layers.0.downsample.reduction.input_site"].min_level < 0  # the residual stream has either sign
    assert {site.role for site in select_sites(products, "attention").values()} == {"query", "key"}


def test_settled_mst_with_masked_sites_at_products_equals_its_ann(products: MaskedSpikingTransformer) -> None:
    mst.mask_spikes(products, 0.5, "attention")
    try:
        snn = mst.convert(products, "lossless", IMAGES, burst=2)
        result = mst.simulate(snn, IMAGES[:6], 100)
        expected = mst.evaluate(products, (IMAGES[:6], torch.zeros(6, dtype=torch.int64)), seed=0).logits
    finally:
        mst.mask_spikes(products, 0.0)
    assert result.num_settled == 6
    assert torch.allclose(result.logits, expected, rtol=0, atol=1e-12)
    dropped = {name for name, number in result.dropped_counts.items() if number}
    assert dropped == set(select_sites(products, "attention"))


def test_no_product_of_an_mst_is_counted_twice_or_reads_analog_values(products: MaskedSpikingTransformer) -> None:
    snn = mst.convert(products, "lossless", IMAGES, burst=2)
    result = mst.simulate(snn, IMAGES[:2], 60)
    with torch.no_grad():
        assert torch.allclose(result.logits, products(IMAGES[:2]), rtol=0, atol=1e-12)
    assert (result.logits[0] - result.logits[1]).abs().max() > 1e-3  # the answer depends on the image
    estimate = mst.estimate_energy(result)
    before = mst.estimate_energy(mst.simulate(mst.convert(trained(), "lossless", IMAGES), IMAGES[:2], 60))
    rows = {row.name: row for row in estimate.operations}
    assert {name: row.ann.num_macs for name, row in rows.items()} == {
        row.name: row.ann.num_macs for row in before.operations
    }
    analog = {name for name, row in rows.items() if row.kind in ("linear", "convolution", "product") if not row.sources}
    assert analog == {"patch_embed.proj"}
    assert [row.name for row in estimate.functions if "softmax" in row.name] == [
        f"layers.{i}.blocks.0.attn.softmax (softmax)" for i in (0, 1)
    ]


def test_mst_with_sites_at_products_answers_as_without_levels_where_these_are_fine() -> None:
    model = trained()
    plain = mst.quantize(model, placement="none", example=IMAGES)
    fine = mst.quantize(model, 2**14, IMAGES, placement="products")
    with torch.no_grad():
        assert not find_sites(plain)
        assert torch.allclose(fine(IMAGES), plain(IMAGES), atol=2e-2)
        assert not torch.allclose(model(IMAGES), plain(IMAGES), atol=2e-2)  # it has 4 levels
    assert len(find_sites(model)) > 18  # the given network is as it was


def test_mst_with_sites_at_products_is_saved_loaded_and_quantised_from_its_float_form(
    products: MaskedSpikingTransformer, tmp_path: Path
) -> None:
    mst.mask_spikes(products, 0.25, "query")
    mst.save_checkpoint(products, tmp_path / "q.safetensors")
    again = mst.load_checkpoint(tmp_path / "q.safetensors").double()
    with torch.no_grad():
        assert torch.equal(mst.mask_spikes(again, 0.0)(IMAGES), mst.mask_spikes(products, 0.0)(IMAGES))
    plain = mst.quantize(trained(), placement="none", example=IMAGES)
    mst.save_checkpoint(plain, tmp_path / "f.safetensors")
    loaded = mst.load_checkpoint(tmp_path / "f.safetensors").double()
    with torch.no_grad():
        assert torch.equal(mst.quantize(loaded, 15, IMAGES, placement="products")(IMAGES), products(IMAGES))
    spec = spec_of(again)
    assert spec is not None
    assert (spec.architecture_name, spec.num_levels, spec.default_mask_sites) == ("timm", 15, ("attention",))


def test_mst_with_sites_at_products_starts_from_one_with_sites_at_activations(tmp_path: Path) -> None:
    mst.save_checkpoint(trained(), tmp_path / "mst.safetensors")
    sizes = {
        name: getattr(trained().config, name) for name in ("embed_dim", "depths", "num_heads", "mlp_ratio")
    } | {"in_chans": 1, "num_classes": 3, "img_size": 8}  # fmt: skip
    fresh = mst.create_model(
        "mst_nano_patch2_window2_8", placement="products", example=IMAGES.float(), **sizes
    ).double()
    start = load_initial_weights(fresh, str(tmp_path / "mst.safetensors"))
    assert (start.needs_calibration, start.head_kept) == (True, True)
    mst.set_thresholds(fresh, IMAGES)
    expected = mst.quantize(trained(), 16, IMAGES, placement="products")
    with torch.no_grad():
        assert torch.equal(fresh.eval()(IMAGES), expected(IMAGES))
    mst.save_checkpoint(fresh, tmp_path / "products.safetensors")
    assert not load_initial_weights(fresh, str(tmp_path / "products.safetensors")).needs_calibration


def test_mst_with_sites_at_products_trains_every_parameter() -> None:
    model = mst.quantize(trained().float(), 15, IMAGES.float(), placement="products").train()
    model(IMAGES.float()).square().sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert any(name.endswith("q_if.threshold") for name in model.no_weight_decay())
    assert any(name.endswith("qkv.input_site.threshold") for name in model.no_weight_decay())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny_config(activation="clip", masking_ratio=0.5), "no effect on an MST without sites"),
        (lambda: tiny_config(activation="relu"), "activation must be 'qcfs' or 'clip', got 'relu'"),
        (lambda: mst.create_model("mst_nano_patch2_window2_8", small_stem=True), "small_stem has no effect"),
        (lambda: mst.create_model("mst_nano_patch2_window2_8", image_site=True), "give placement='products'"),
        (lambda: mst.quantize(trained(), 4, IMAGES), "has QCFS sites already"),
    ],
)  # fmt: skip
def test_mst_refuses_options_without_effect(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()


def test_product_that_is_called_twice_is_refused() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.product = mst.ActivationProduct()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.product(self.product(x, x), x)
            return y

    with pytest.raises(InputError, match="called 2 times in one pass; give each call an ActivationProduct of its own"):
        mst.quantize(Twice().eval(), 15, torch.rand(2, 3, 3), placement="products")


def test_spec_of_an_mst_follows_what_quantize_has_noted(products: MaskedSpikingTransformer) -> None:
    assert quantization_of(products) is not None
    assert quantization_of(trained()) is None
    assert products.config.activation == "clip"
