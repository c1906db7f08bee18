"""Sites at products: stock networks, signed levels, and attention taken apart."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.neurons import QCFS, find_sites, qcfs
from mst.quantization.calibration import acting_as_relu
from mst.quantization.fitting import fit_levels
from mst.quantization.products import Attention

LEVELS = 31


def images(count: int = 4, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A block of a Transformer as many write it; `how` says how it multiplies."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.norm, self.qkv, self.proj = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        if self.how == "fused":
            mixed = F.scaled_dot_product_attention(query, key, value)
        elif self.how == "operators":
            mixed = (query * 0.5 @ key.transpose(-2, -1)).softmax(-1) @ value
        else:
            scores = torch.matmul(query, key.mT) / 2
            mixed = torch.bmm(F.softmax(scores, -1).flatten(0, 1), value.flatten(0, 1)).unflatten(0, value.shape[:2])
        mixed = mixed.transpose(1, 2).flatten(2)
        bias = torch.cat([self.proj.bias[:4], self.proj.bias[4:]])
        x = x + F.linear(mixed, self.proj.weight, bias)
        return x + self.mlp(x)


class Transformer(nn.Module):
    def __init__(self, how: str = "fused", depth: int = 2) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 4, 8))
        self.blocks = nn.Sequential(*(Block(how) for _ in range(depth)))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x * 2 - 0.1).flatten(2).transpose(1, 2) + self.position
        return self.head(self.blocks(tokens).mean(1))


WAYS = ("fused", "operators", "functions")


@pytest.mark.parametrize("how", WAYS)
def test_stock_transformer_settles_to_its_ann_with_spikes_at_every_product(how: str) -> None:
    model, x = Transformer(how).double().eval(), images()
    quantized = mst.quantize(model, LEVELS, x, placement="products").eval()
    sites = find_sites(quantized)
    assert "patch.input_site" not in sites  # it reads the image itself
    assert {"head.input_site", "blocks.0.qkv.input_site", "blocks.1.mlp.3.input_site"} <= set(sites)
    assert len(sites) == 2 * 8 + 1
    with torch.no_grad(), acting_as_relu(quantized, {}):
        torch.testing.assert_close(quantized(x), model(x), rtol=1e-12, atol=1e-12)
    expected = quantized(x).detach()
    assert float((expected - model(x).detach()).norm() / model(x).detach().norm()) < 0.2
    snn = mst.convert(quantized, "lossless", burst=2)
    assert snn.longest_settling is not None
    result = mst.simulate(snn, x, snn.longest_settling)
    assert result.num_settled == len(x)
    torch.testing.assert_close(result.logits, expected, rtol=1e-9, atol=1e-9)
    analog = [
        count.operation.name
        for count in result.operations
        if count.operation.kind in ("linear", "convolution", "product") and int(count.macs_per_step.sum())  # type: ignore[union-attr]
    ]
    assert analog == ["patch"]
    assert result.uncounted == ()
    assert mst.estimate_energy(result).ratio > 0


def test_every_way_to_multiply_is_the_same_network() -> None:
    x = images()
    results = [mst.quantize(Transformer(how).double(), 255, x, placement="products").eval()(x) for how in WAYS]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("vit_tiny_patch16_224", {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 3}, 16),
        ("swin_tiny_patch4_window7_224", {"img_size": 28, "embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2)}, 28),
        ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (4, 4, 8, 8)}, 32),
    ],
)
def test_networks_of_timm_by_name_come_back_from_a_checkpoint(
    name: str, options: dict[str, Any], size: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    x = images(2, size).float()
    has_site = name.startswith("vit")
    model = mst.create_model(
        name, num_levels=63, placement="products", image_site=has_site, example=x, num_classes=3, **options
    )
    mst.set_thresholds(model, x)
    expected = model.eval()(x)
    mst.save_checkpoint(model, tmp_path / "x.safetensors")
    loaded = mst.load_checkpoint(tmp_path / "x.safetensors")
    assert torch.equal(loaded(x), expected)
    sites = find_sites(loaded)
    assert ("patch_embed.proj.input_site" in sites) == has_site
    assert any(site.min_level < 0 for site in sites.values())
    assert {site.num_levels - site.min_level for site in sites.values()} == {63}


@pytest.mark.parametrize("mask", [None, "causal", "bool", "float"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_taken_apart_is_that_of_torch(mask: str | None, scale: float | None) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 4, dtype=torch.float64) for length in (5, 6, 6))
    given: Tensor | None = None
    if mask == "bool":
        given = torch.rand(5, 6) < 0.7
    elif mask == "float":
        given = torch.randn(2, 1, 5, 6, dtype=torch.float64)
    options = {"attn_mask": given, "is_causal": mask == "causal", "scale": scale}
    attention = Attention(lambda: QCFS(8, min_level=-8)).double()
    with acting_as_relu(attention, {}):
        apart = attention(query, key, value, **options)
    torch.testing.assert_close(apart, F.scaled_dot_product_attention(query, key, value, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "lowest"),
    [
        (torch.linspace(0, 3, 500), 0),
        (torch.linspace(-1, 1, 501), -7),
        (torch.cat([torch.linspace(-0.17, 0, 100), torch.linspace(0, 2, 400)]), -1),
        (-torch.linspace(0, 1, 500), -14),
    ],
    ids=["one-sided", "symmetric", "lopsided", "negative"],
)
def test_levels_go_where_the_values_are(values: Tensor, lowest: int) -> None:
    threshold, num_levels, min_level = fit_levels(values, 15)
    assert abs(min_level - lowest) <= 1
    assert num_levels == 15 + min_level
    error = (qcfs(values.double(), threshold, num_levels, min_level) - values).abs().max()
    assert float(error) < 0.1 * float(values.abs().max())


def test_levels_by_channel_follow_each_channel() -> None:
    values = torch.randn(2000, 3) * torch.tensor([0.01, 1.0, 100.0])
    threshold, num_levels, _ = fit_levels(values, 63)
    quantum = threshold / num_levels
    assert bool((quantum[1:] / quantum[:-1] > 50).all())
    assert fit_levels(torch.zeros(10), 15)[0].isnan().all()
    quantized = mst.quantize(Transformer().double(), LEVELS, images(128), placement="products", per_channel=True)
    shapes = {name.rpartition(".")[2]: tuple(site.threshold.shape) for name, site in find_sites(quantized).items()}
    assert shapes == {"input_site": (8,), "query": (1,), "key": (1,), "value": (4,), "weights": (1,)}


def test_channels_of_few_values_share_a_threshold_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2)).eval()
    few = mst.quantize(net, 15, torch.randn(127, 4), placement="products", per_channel=True)
    assert few[2].input_site.threshold.shape == (1,)
    assert "127 calibration values for each channel; 128 are needed" in caplog.text
    enough = mst.quantize(net, 15, torch.randn(128, 4), placement="products", per_channel=True)
    assert enough[2].input_site.threshold.shape == (6,)


def test_levels_of_many_channels_are_fitted_to_hundreds_of_values_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.cat([torch.rand(64, 512), 100 * torch.rand(512, 512)])
    quanta = torch.divide(*fit_levels(values, 15)[:2])
    assert float(quanta.min()) > 1
    seen: list[tuple[int, ...]] = []

    def fit(x: Tensor, *options: Any) -> tuple[Tensor, int, int]:
        seen.append(tuple(x.shape))
        return fit_levels(x, *options)

    monkeypatch.setattr("mst.quantization.calibration.fit_levels", fit)
    wide = nn.Sequential(nn.Linear(4, 1024), nn.GELU(), nn.Linear(1024, 2)).eval()
    mst.quantize(wide, 15, torch.randn(600, 4), placement="products", per_channel=True)
    assert seen == [(512, 1024)]


def test_channels_of_their_own_scale_cost_accumulations_not_multiplications() -> None:
    model, x = Transformer(depth=1).double().eval(), images(2)
    quantized = mst.quantize(model, LEVELS, images(128), placement="products", per_channel=True)
    assert any(site.threshold.numel() > 1 for site in find_sites(quantized).values())
    snn = mst.convert(quantized, "lossless", burst=3)
    result = mst.simulate(snn, x, 200)
    assert result.num_settled == 2
    macs = {
        each.operation.name: int(each.macs_per_step.sum())
        for each in result.operations
        if each.operation.kind == "linear"
    }  # type: ignore[union-attr]
    assert set(macs.values()) == {0}


def test_operands_can_be_masked_copied_and_pickled() -> None:
    x = images()
    quantized = mst.quantize(Transformer().double(), LEVELS, x, placement="products").eval()
    expected = quantized(x)
    for copied in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert torch.equal(copied(x), expected)
        copied.head.weight.data.zero_()
    assert torch.equal(quantized(x), expected)
    mst.mask_spikes(quantized, 0.5, sites="query")
    result = mst.simulate(mst.convert(quantized, "lossless", burst=4), x, 200)
    dropped = {name for name, count in result.dropped_counts.items() if count}
    assert dropped == {"blocks.0.attention.query", "blocks.1.attention.query"}


def test_gradients_reach_weights_and_scales() -> None:
    x = images()
    quantized = mst.quantize(Transformer().double(), LEVELS, x, placement="products").train()
    quantized(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in quantized.parameters())
    assert math.isfinite(float(quantized.head.input_site.threshold.grad))


def test_image_is_spikes_too_where_a_site_reads_it() -> None:
    model, x = Transformer(depth=1).double().eval(), images(2)
    quantized = mst.quantize(model, LEVELS, x, placement="products", image_site=True).eval()
    assert quantized.patch.input_site.min_level < 0
    result = mst.simulate(mst.convert(quantized, "lossless", burst=LEVELS), x, 60)
    torch.testing.assert_close(result.logits, quantized(x).detach(), rtol=1e-9, atol=1e-9)
    kinds = ("linear", "convolution", "product")
    assert not any(int(each.macs_per_step.sum()) for each in result.operations if each.operation.kind in kinds)  # type: ignore[union-attr]


def test_placement_at_products_says_what_it_needs() -> None:
    model, x = Transformer().double(), images()
    with pytest.raises(
        InputError, match="placed by watching the network on images; give calibration=images, or example"
    ):
        mst.quantize(model, 15, placement="products")
    with pytest.raises(InputError, match="placement must be one of activations, products, none, got 'product'"):
        mst.quantize(model, 15, x, placement="product")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="also has no effect on sites at products"):
        mst.quantize(model, 15, x, placement="products", also=[nn.GELU])
    with pytest.raises(InputError, match="image_site has no effect with placement='activations'"):
        mst.quantize(model, 15, x, image_site=True)
    with pytest.raises(InputError, match="threshold_from='max' has no effect on sites at products"):
        mst.quantize(model, 15, x, placement="products", threshold_from="max")
    quantized = mst.quantize(model, 15, x, placement="products")
    with pytest.raises(
        mst.ConversionError, match="levels down to -7, which rate coding does not carry; choose lossless"
    ):
        mst.convert(quantized, "rate", x)
    with pytest.raises(InputError, match="has no product of something computed from the image"):
        mst.quantize(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()).double(), 15, x, placement="products")


def test_one_stage_of_an_mst_may_be_given_as_a_number() -> None:
    model = mst.create_model(
        "mst_nano_patch2_window2_8", depths=1, num_heads=2, embed_dim=8, img_size=8, in_chans=1, num_classes=3
    )
    assert model.config.depths == (1,)  # type: ignore[union-attr]


class Mapped(nn.Module):
    """Three maps; `how` says what lies between the first two and the third."""

    def __init__(self, how: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.how = how
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.matrix, self.vector = nn.Parameter(torch.randn(6, 6) / 3), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.how(self, x))


def written(net: Any, x: Tensor) -> Tensor:
    buffer = torch.zeros(len(x), 8, dtype=x.dtype)
    buffer[:, 1:7] = net.first(x)
    return F.gelu(net.second(buffer[:, 1:7]))


def recurrent(net: Any, x: Tensor) -> Tensor:
    state = torch.zeros(len(x), 6, dtype=x.dtype)
    for _ in range(3):
        state = torch.tanh(net.first(x) + state @ net.matrix)
    return state


FORMS: dict[str, tuple[Callable[[Any, Tensor], Tensor], set[str]]] = {
    "keyword": (lambda net, x: net.second(input=F.relu(net.first(input=x))), {"second.input_site"}),
    "written into a buffer": (written, {"second.input_site"}),
    "beside a function": (lambda net, x: F.relu(net.first(x) @ net.matrix), {"matmul.left"}),
    "second operand by name": (lambda net, x: torch.mm(net.first(x), mat2=net.matrix), {"matmul.left"}),
    "vector": (lambda net, x: x * (net.first(x) @ net.vector)[:, None], {"matmul.left"}),
    "constant on the left": (lambda net, x: (net.matrix @ net.first(x)[..., None])[..., 0], {"matmul.right"}),
    "constant product": (lambda net, x: net.first(x) @ net.matrix + net.vector @ net.matrix, {"matmul.left"}),
    "constant at first": (recurrent, {"matmul.left", "matmul_2.left"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_products_as_users_write_them_settle_to_the_ann(form: str) -> None:
    how, sites = FORMS[form]
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = Mapped(how).double().eval()
    quantized = mst.quantize(model, LEVELS, x, placement="products").eval()
    assert set(find_sites(quantized)) == {*sites, "head.input_site"}
    with torch.no_grad(), acting_as_relu(quantized, {}):
        torch.testing.assert_close(quantized(x), model(x), rtol=1e-12, atol=1e-12)
    result = mst.simulate(mst.convert(quantized, "lossless", x), x, 200)
    torch.testing.assert_close(result.logits, quantized(x).detach(), rtol=1e-9, atol=1e-9)


def test_constant_operand_of_a_product_costs_nothing() -> None:
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    model = Mapped(lambda net, x: net.first(x) @ net.matrix).eval()
    quantized = mst.quantize(model, LEVELS, x, placement="products").eval()
    operations = mst.simulate(mst.convert(quantized, "lossless", x), x, 64).operations
    counts = {count.operation.name: count for count in operations}
    assert int(counts["matmul.product"].acs_per_step.sum()) > 0
    assert int(counts["matmul.product"].macs_per_step.sum()) == 0


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "recurrent": (
        lambda net, x: torch.rnn_tanh_cell(net.first(x), net.second(x), net.matrix, net.matrix),
        r"its forward \(rnn_tanh_cell\): rnn_tanh_cell hides the products .*; write the cell out with nn.Linear",
    ),
    "weights": (
        lambda net, x: F.linear(net.first(x), net.second(x)[:1] * net.matrix),
        r"its forward \(linear\): its weights are computed from the image; write it as a product of two activations",
    ),
    "over images": (
        lambda net, x: torch.einsum("bi,bj->ij", net.first(x), net.second(x))[: len(x)],
        r"einsum\): it sums over the first axis of an activation, that of the images; keep the images apart",
    ),
    "one image": (
        lambda net, x: F.conv1d(net.first(x)[:1], net.vector[:1].view(1, 1, 1)).expand(len(x), -1),
        r"conv1d\): its input has no axis of images; give it \[B, C, ...\]",
    ),
    "out": (
        lambda net, x: torch.mm(net.first(x), net.matrix, out=torch.empty(len(x), 6, dtype=x.dtype)),
        r"mm\): mm writes into a given tensor \(out=\); let it return a new one",
    ),
    "complex": (
        lambda net, x: (net.first(x).to(torch.complex64) @ net.matrix.to(torch.complex64)).real,
        r"\(matmul\): it multiplies values of torch.complex64; write it with real numbers",
    ),
    "kron": (lambda net, x: torch.kron(net.first(x), net.vector[:1]), r"kron\): kron is a product that gets no sites"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_product_that_can_have_no_site_is_refused(case: str) -> None:
    how, message = REFUSED[case]
    with torch.no_grad(), pytest.raises(InputError, match=f"no site can be placed at 1 product of Mapped: .*{message}"):
        mst.quantize(Mapped(how).requires_grad_(False).eval(), LEVELS, torch.randn(4, 6), placement="products")


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer, self.cell = nn.Linear(6, 6), nn.LSTM(6, 4, batch_first=True), nn.GRUCell(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.embed(x)[:, 0]) + self.layer(self.embed(x))[0][:, 0]


def test_all_products_that_can_have_no_site_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"2 products of Recurrent: cell \(gru_cell\): .*; layer \(lstm\): lstm hides"):
        mst.quantize(Recurrent().eval(), LEVELS, torch.randn(4, 5, 6), placement="products")


def test_image_in_a_wider_buffer_is_still_the_image() -> None:
    def padded(net: Any, x: Tensor) -> Tensor:
        buffer = torch.zeros(len(x), 6, dtype=x.dtype)
        buffer[:, :4] = x
        return net.first(buffer)

    quantized = mst.quantize(Mapped(padded).eval(), LEVELS, torch.randn(4, 4), placement="products")
    assert set(find_sites(quantized)) == {"head.input_site"}


def test_queries_that_may_look_nowhere_get_zero_as_in_torch() -> None:
    x = torch.randn(2, 1, 3, 4)
    nowhere = torch.ones(3, 3, dtype=torch.bool).tril(-1)
    attention = Attention(lambda: QCFS(LEVELS))
    for mask in (nowhere, torch.zeros(3, 3).masked_fill(nowhere.logical_not(), -math.inf)):
        with acting_as_relu(attention, {}):
            y = attention(x, x, x, mask)
        torch.testing.assert_close(y, F.scaled_dot_product_attention(x, x, x, mask))


def test_product_in_a_graph_of_fx_is_refused() -> None:
    graph = torch.fx.symbolic_trace(Mapped(lambda net, x: net.first(x) @ net.matrix))
    with pytest.raises(InputError, match="graph of torch.fx gets no sites; quantise the network that the graph was"):
        mst.quantize(graph.eval(), LEVELS, torch.randn(4, 6), placement="products")


def test_product_that_quantize_did_not_see_is_refused() -> None:
    model = Mapped(lambda net, x: net.first(x) @ net.matrix if len(x) < 5 else net.first(x) @ net.matrix @ net.matrix)
    quantized = mst.quantize(model.eval(), LEVELS, torch.randn(4, 6), placement="products")
    with pytest.raises(InputError, match=r"a product \(matmul\) is called where it was not when"):
        quantized(torch.randn(5, 6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_in_half_precision_rounds_otherwise_and_is_the_same(dtype: torch.dtype) -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            heads = self.embed(x).unflatten(-1, (2, 4)).transpose(1, 2)
            return self.head(F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2).mean(1))

    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert len(find_sites(mst.quantize(Fused().to(dtype).eval(), LEVELS, x, placement="products"))) == 5
