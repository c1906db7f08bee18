"""Small networks out of random blocks, for tests of properties that hold for every network."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

CHANNELS = 4
SIZE = 6


def conv(out: int = CHANNELS, kernel: int = 3, **options: object) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    dilation = options.get("dilation", 1)
    return nn.Conv2d(CHANNELS, out, kernel, padding=(kernel // 2) * dilation, **options)  # type: ignore[operator, arg-type]


def norm(channels: int = CHANNELS) -> nn.BatchNorm2d:
    """BatchNorm with statistics and weights as after training."""
    made = nn.BatchNorm2d(channels)
    with torch.no_grad():
        made.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
        made.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        made.weight.uniform_(0.5, 1.5)
        made.bias.uniform_(-0.3, 0.6)
    return made


class Functional(nn.Module):
    """Functions for activations, in the spellings that users choose."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = conv(), conv(bias=False), norm()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        return self.norm(self.second(x)).clamp(min=0)


class Residual(nn.Module):
    """One activation module for two places, in place, around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = conv(groups=2), conv(kernel=1), norm()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.act(self.norm(self.first(x)))
        x = self.second(x)
        x += shortcut
        return self.act(x)


class Branches(nn.Module):
    """Two branches that are put beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(conv(2), norm(2), nn.ReLU6())
        self.right = nn.Sequential(nn.ReLU(inplace=True), conv(2, dilation=2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), torch.relu(self.right(x))], dim=1)


class Split(nn.Module):
    """Half of the channels passes by, then the channels change places."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(2, 2, (1, 3), padding="same", padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        passing, changed = x.chunk(2, dim=1)
        x = torch.cat([passing, self.map(changed).relu()], dim=1)
        return x.view(len(x), 2, 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)


class Reused(nn.Module):
    """A map that is used twice, in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.map = conv()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.relu(self.map(x) + 0.1)
        return x


class Constants(nn.Module):
    """A learned table, a small network of it, and a gate that depends on no image."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.map, self.act = nn.Parameter(torch.randn(1, CHANNELS, 1, 1)), conv(kernel=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.table) * torch.ones_like(x[:1])
        return self.act(self.map(x) * gate + self.table.tanh())


class Pooled(nn.Module):
    """A pool of any kind behind an activation, where there is room for it."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.map, self.act, self.pool = conv(padding_mode="reflect"), nn.ReLU(), pool

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < 4:
            return self.act(self.map(x)) if x.shape[-1] > 1 else x
        return self.pool(self.act(self.map(x)))


class Mixing(nn.Module):
    """Places that attend to each other, by one layer called twice, written with torch.einsum and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.kernel = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Parameter(torch.randn(CHANNELS, 2, 3, 3) / 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            query, key, value = self.qkv(x.flatten(2).mT).chunk(3, dim=-1)
            shares = torch.einsum("bqc,bkc->bqk", query, key).softmax(dim=-1)
            x = x + torch.einsum("bqk,bkc->bcq", shares, value).view_as(x)
        return F.gelu(F.conv2d(x, self.kernel, None, padding=1, groups=2))


class Gated(nn.Module):
    """Norms, a gate, and fused attention with fewer heads of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.query, self.keys = (
            nn.GroupNorm(2, CHANNELS),
            nn.Linear(CHANNELS, CHANNELS),
            nn.Linear(CHANNELS, 4),
        )
        self.gate = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).flatten(2).mT
        query, (key, value) = (
            self.query(y).unflatten(-1, (2, 2)).transpose(1, 2),
            self.keys(y)[:, None].chunk(2, dim=-1),
        )
        mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        mixed = mixed.transpose(1, 2).flatten(2).mT.unflatten(-1, x.shape[2:])
        return x + mixed * torch.sigmoid(self.gate(x))


PRODUCT_BLOCKS: dict[str, Callable[[], nn.Module]] = {"mixing": Mixing, "gated": Gated}
"""Blocks for sites at products alone."""

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "functional": Functional,
    "residual": Residual,
    "branches": Branches,
    "split": Split,
    "reused": Reused,
    "constants": Constants,
    "max pool": lambda: Pooled(nn.MaxPool2d(2)),
    "average pool": lambda: Pooled(nn.AvgPool2d(2)),
    "overlapping pool": lambda: Pooled(nn.MaxPool2d(3, 2, 1)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.5), conv(kernel=1), nn.ReLU(), nn.Identity()),
}


class Network(nn.Module):
    """A stem, blocks and a head of one of two kinds."""

    def __init__(self, blocks: list[str], head: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, CHANNELS, 3, padding=1), norm(), nn.ReLU())
        self.blocks = nn.ModuleList((BLOCKS | PRODUCT_BLOCKS)[name]() for name in blocks)
        self.mean = nn.AdaptiveAvgPool2d(1) if head == "mean" else nn.Flatten()
        with torch.no_grad():
            features = self.features(torch.zeros(1, 2, SIZE, SIZE)).numel()
        self.hidden, self.head = nn.Linear(features, 6), nn.Linear(6, 3)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return torch.flatten(self.mean(x), 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.features(x))))


@st.composite
def networks(draw: st.DrawFn, products: bool = False) -> tuple[Network, Tensor]:
    """A network in evaluation mode and images for it, in float64."""
    names = sorted(BLOCKS) + sorted(PRODUCT_BLOCKS) * (3 if products else 0)
    blocks = draw(st.lists(st.sampled_from(names), max_size=4))
    head = draw(st.sampled_from(["flat", "mean"]))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    model = Network(blocks, head).double().eval()
    return model, torch.randn(3, 2, SIZE, SIZE, dtype=torch.float64)
