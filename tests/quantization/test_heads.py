"""nn.MultiheadAttention and torch's Transformer layers, taken apart into products with sites."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mst
from mst.errors import InputError
from mst.neurons import find_sites
from mst.quantization.calibration import acting_as_relu

X = torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Attending(nn.Module):
    """Learned queries or the tokens themselves look at tokens; the shares that they take may be read too."""

    def __init__(self, looks_at_itself: bool, options: dict[str, Any], call: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.itself, self.call = looks_at_itself, call
        self.patch, self.queries = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 2, 8))
        self.attend, self.head = nn.MultiheadAttention(8, 2, batch_first=True, **options), nn.Linear(8, 3)
        with torch.no_grad():
            for parameter in self.attend.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        queries = tokens if self.itself else self.queries.expand(len(x), -1, -1)
        length = queries.shape[1]
        call = dict(self.call)
        if call.get("attn_mask") == "causal":
            call["attn_mask"] = torch.ones(length, 4, dtype=torch.bool).triu(1)
        elif call.get("attn_mask") == "added":
            call["attn_mask"] = torch.linspace(-1, 1, 4 * length, dtype=x.dtype).view(length, 4)
        if call.pop("padding", False):
            call["key_padding_mask"] = torch.tensor([False, False, True, False]).expand(len(x), 4)
        y, shares = self.attend(queries, tokens, tokens, **call)
        return self.head(y.mean(1)) + (0.0 if shares is None else shares.square().flatten(1).sum(1, keepdim=True))


CASES: dict[str, tuple[bool, dict[str, Any], dict[str, Any]]] = {
    "itself": (True, {}, {"need_weights": False}),
    "shares": (True, {}, {}),
    "shares of each head": (True, {"bias": False}, {"average_attn_weights": False}),
    "causal": (True, {}, {"attn_mask": "causal", "need_weights": False}),
    "added mask": (True, {}, {"attn_mask": "added"}),
    "padding": (True, {}, {"padding": True, "need_weights": False}),
    "learned queries": (False, {}, {"attn_mask": "added"}),
    "other sizes": (False, {"kdim": 8, "vdim": 8}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_attention_of_torch_taken_apart_is_the_same_and_settles(case: str) -> None:
    model = Attending(*CASES[case]).double().eval()
    quantized = mst.quantize(model, 63, X, placement="products").eval()
    with torch.no_grad(), acting_as_relu(quantized, {}):
        torch.testing.assert_close(quantized(X), model(X), rtol=1e-9, atol=1e-9)
    snn = mst.convert(quantized, "lossless", X, burst=3)
    result = mst.simulate(snn, X, snn.longest_settling)
    assert result.num_settled == len(X)
    torch.testing.assert_close(result.logits, quantized(X).detach(), rtol=1e-9, atol=1e-9)
    assert result.uncounted == ()
    sites = set(find_sites(quantized))
    assert ("attend.heads.query_input" in sites) == CASES[case][0]  # learned queries are a constant
    assert "attend.heads.attention.weights" in sites


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_of_torch_settles_with_spikes_at_every_product(norm_first: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=norm_first)
            self.patch, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(self.patch(x).flatten(2).transpose(1, 2)).mean(1))

    quantized = mst.quantize(Net().double(), 31, X, placement="products").eval()
    with torch.no_grad():
        without_gradients = quantized(X)
    torch.testing.assert_close(without_gradients, quantized(X).detach(), rtol=1e-12, atol=1e-12)
    result = mst.simulate(mst.convert(quantized, "lossless", X, burst=4), X, 200)
    assert result.num_settled == len(X)
    torch.testing.assert_close(result.logits, without_gradients, rtol=1e-9, atol=1e-9)
    kinds = ("linear", "convolution", "product")
    analog = [
        each.operation.name
        for each in result.operations
        if each.operation.kind in kinds and bool(each.macs_per_step.sum())
    ]  # type: ignore[union-attr]
    assert analog == ["patch"]


def test_attention_that_reads_the_image_itself_has_sites_behind_its_projections() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attend(x, x, x)[0].mean(1))

    quantized = mst.quantize(Net().eval(), 15, torch.randn(2, 4, 8), placement="products")
    attention = {f"attend.heads.attention.{role}" for role in ("query", "key", "value", "weights")}
    assert set(find_sites(quantized)) == {*attention, "attend.heads.out.input_site", "head.input_site"}


def test_attention_that_cannot_be_taken_apart_is_refused() -> None:
    model = Attending(True, {"add_bias_kv": True}, {"need_weights": False}).double()
    with pytest.raises(InputError, match="attention with bias_k is not taken apart.*add_bias_kv=False"):
        mst.quantize(model, 15, X, placement="products")
