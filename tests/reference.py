"""A plain implementation of the released system, from its description: slow, without any of the package's code.

It reads a released state dict (`<site>.up` thresholds); `mst` must agree with it, spike for spike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Reference:
    """An ANN (`spiking=False`) or one run of its SNN: call it once per time step."""

    state: dict[str, Tensor]
    patch: int
    windows: list[int]
    shifts: list[int]
    resolutions: list[int]
    depths: list[int]
    heads: list[int]
    levels: int
    spiking: bool
    potential: dict[str, Tensor] = field(default_factory=dict)
    spikes: Counter[str] = field(default_factory=Counter)
    biases: dict[str, Tensor] = field(default_factory=dict)

    def neuron(self, site: str, x: Tensor) -> Tensor:
        lam = self.state[f"{site}.up"]
        if not self.spiking:
            return lam * torch.clamp(torch.floor(x * self.levels / lam + 0.5) / self.levels, 0, 1)
        v = self.potential.get(site, torch.full_like(x, 0.5) * lam) + x
        fired = (v >= lam).to(x.dtype)
        self.potential[site] = v - lam * fired
        self.spikes[site] += int(fired.sum())
        return lam * fired

    def norm(self, name: str, x: Tensor) -> Tensor:
        s = self.state
        scale = s[f"{name}.weight"] / torch.sqrt(s[f"{name}.running_var"] + 1e-5)
        return x * scale + self.constant(s[f"{name}.bias"] - s[f"{name}.running_mean"] * scale)

    def linear(self, name: str, x: Tensor) -> Tensor:
        bias = self.state.get(f"{name}.bias")
        return F.linear(x, self.state[f"{name}.weight"], None if bias is None else self.constant(bias))

    def convolve(self, images: Tensor) -> Tensor:
        bias = self.constant(self.state["patch_embed.proj.bias"])
        return F.conv2d(images, self.state["patch_embed.proj.weight"], bias, stride=self.patch)

    def constant(self, value: Tensor) -> Tensor:
        """The part that does not depend on the image."""
        return value

    def product(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    def function(self, name: str, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return f(x)

    def __call__(self, images: Tensor) -> Tensor:
        s = self.state
        x = self.convolve(images)
        x = self.neuron("patch_embed.proj_if", self.norm("patch_embed.norm", x.flatten(2).transpose(1, 2)))
        if "absolute_pos_embed" in s:
            x = x + self.constant(s["absolute_pos_embed"])
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                x = self.block(stage, block, x)
            if stage < len(self.depths) - 1:
                x = self.merge(stage, x)
        x = self.function("norm", lambda y: F.layer_norm(y, y.shape[-1:], s["norm.weight"], s["norm.bias"]), x)
        return self.linear("head", x.mean(1))

    def block(self, stage: int, index: int, x: Tensor) -> Tensor:
        name = f"layers.{stage}.blocks.{index}"
        a = self.neuron(f"{name}.shortcut1_if", self.norm(f"{name}.norm1", x))
        x = x + self.attention(name, stage, self.shifts[stage] if index % 2 else 0, a)
        x = self.norm(f"{name}.norm2", x)
        y = self.linear(f"{name}.mlp.fc1", self.neuron(f"{name}.shortcut2_if", x))
        has_norm = f"{name}.mlp.norm1.weight" in self.state
        y = self.neuron(f"{name}.mlp.fc1_if", self.norm(f"{name}.mlp.norm1", y) if has_norm else y)
        y = self.linear(f"{name}.mlp.fc2", y)
        return x + self.neuron(f"{name}.mlp.fc2_if", self.norm(f"{name}.mlp.norm2", y) if has_norm else y)

    def attention(self, name: str, stage: int, shift: int, x: Tensor) -> Tensor:
        """Token by token: the window of a token, and the tokens that it may attend to there."""
        size, window, heads = self.resolutions[stage], self.windows[stage], self.heads[stage]
        channels = x.shape[-1]
        q, k, v = self.linear(f"{name}.attn.qkv", x).chunk(3, dim=-1)
        q = self.neuron(f"{name}.attn.q_if", q)
        k = self.neuron(f"{name}.attn.k_if", k)
        v = self.neuron(f"{name}.attn.v_if", v)
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for row in range(size):
            for column in range(size):
                shifted = ((row - shift) % size, (column - shift) % size)
                groups.setdefault((shifted[0] // window, shifted[1] // window), []).append((row, column))
        for members in groups.values():  # in the order of the shifted window, row by row
            members.sort(key=lambda rc: ((rc[0] - shift) % size, (rc[1] - shift) % size))
        order = sorted(groups)
        tokens = torch.tensor([[row * size + column for row, column in groups[g]] for g in order])
        dim = channels // heads

        def split(t: Tensor) -> Tensor:  # [B, W, H, N, D]
            return t[:, tokens].view(t.shape[0], len(order), -1, heads, dim).transpose(2, 3)

        q, k, v = split(q), split(k), split(v)
        scores = self.neuron(
            f"{name}.attn.attn_if", self.product(f"{name} q·k", q, k.transpose(-1, -2)) / math.sqrt(dim)
        )
        if name not in self.biases:  # the same at every step
            self.biases[name] = self.position_bias(name, stage, shift, groups)
        bias = self.biases[name]
        weights = self.function(f"{name} softmax", lambda y: torch.softmax(y + bias, dim=-1), scores)
        mixed = self.neuron(f"{name}.attn.attn_v_if", self.product(f"{name} softmax·v", weights, v))
        mixed = mixed.transpose(2, 3).reshape(x.shape[0], -1, channels)
        out = torch.empty_like(x)
        out[:, tokens.flatten()] = mixed
        return self.neuron(f"{name}.attn.proj_if", self.linear(f"{name}.attn.proj", out))

    def position_bias(
        self, name: str, stage: int, shift: int, groups: dict[tuple[int, int], list[tuple[int, int]]]
    ) -> Tensor:
        """[W, H, N, N]: added to the scores of each pair of tokens in a window; -100 where they may not attend."""
        window, order = self.windows[stage], sorted(groups)
        table = self.state[f"{name}.attn.relative_position_bias_table"]
        bias = torch.zeros(len(order), self.heads[stage], window**2, window**2, dtype=table.dtype)
        for w, g in enumerate(order):
            for i, (ri, ci) in enumerate(groups[g]):
                for j, (rj, cj) in enumerate(groups[g]):
                    dy = i // window - j // window + window - 1
                    dx = i % window - j % window + window - 1
                    bias[w, :, i, j] = table[dy * (2 * window - 1) + dx]
                    if shift:
                        wraps_apart = (ri < shift) != (rj < shift) or (ci < shift) != (cj < shift)
                        in_last = (g[0] == order[-1][0], g[1] == order[-1][1])
                        rows_apart = in_last[0] and (ri < shift) != (rj < shift)
                        columns_apart = in_last[1] and (ci < shift) != (cj < shift)
                        assert wraps_apart == (rows_apart or columns_apart)
                        if wraps_apart:
                            bias[w, :, i, j] += -100.0
        return bias

    def merge(self, stage: int, x: Tensor) -> Tensor:
        size = self.resolutions[stage]
        grid = x.view(x.shape[0], size, size, -1)
        parts = [grid[:, 0::2, 0::2], grid[:, 1::2, 0::2], grid[:, 0::2, 1::2], grid[:, 1::2, 1::2]]
        x = torch.cat(parts, dim=-1).flatten(1, 2)
        name = f"layers.{stage}.downsample"
        return self.neuron(f"{name}.reduction_if", self.linear(f"{name}.reduction", self.norm(f"{name}.norm", x)))


@dataclass
class LosslessReference(Reference):
    """One run under lossless coding, written down as a chip would do it: only changes flow. Call it once per time step
    with the change of the image; the sum of what it returns is the read-out.

    A linear map passes changes on, its bias enters at the first step; a product A·B sends dA·B_new + A_old·dB; any
    other function f sends f(sum_new) - f(sum_old).
    """

    burst: int = 1
    weights: tuple[int, ...] = (1,)
    is_free: bool = False
    starts: dict[str, int] = field(default_factory=dict)
    step: int = 0
    counts: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    spikes_by_step: list[Counter[str]] = field(default_factory=list)

    def __call__(self, images: Tensor) -> Tensor:
        self.spikes_by_step.append(Counter())
        change = super().__call__(images)
        self.step += 1
        return change

    def neuron(self, site: str, x: Tensor) -> Tensor:
        """v starts at half a quantum, gains the change of the input, loses what is sent; all in quanta."""
        quantum = self.state[f"{site}.up"] / self.levels
        v = self.potential.get(site, torch.full_like(x, 0.5)) + x / quantum
        count = self.counts.get(site, torch.zeros_like(x))
        own = self.step - self.starts.get(site, 0)
        sent, weight = torch.zeros_like(x), self.weights[own % len(self.weights)]
        target = torch.minimum(torch.maximum(torch.floor(v), -count), self.levels - count) + count
        for _ in range(self.burst if own >= 0 else 0):  # a burst is several turns of the same rule
            if self.is_free:  # the power of two that is nearest to what is missing
                missing = target - count
                below = torch.floor(torch.log2(missing.abs().clamp_min(1)))
                above = below + (2 * missing.abs() > 3 * 2**below)
                spike = 2**above * missing.sign()
                v, count, sent = v - spike, count + spike, sent + spike
                self.spikes_by_step[-1][site] += int((spike != 0).sum())
                continue
            if weight == 1:
                up, down = (v >= 1) & (count < self.levels), (v < 0) & (count > 0)
            else:  # two thirds of such a spike are missing, and it leads nowhere outside 0...L
                missing = torch.minimum(torch.maximum(torch.floor(v), -count), self.levels - count)
                up = (3 * missing >= 2 * weight) & (count + weight <= self.levels)
                down = (-3 * missing >= 2 * weight) & (count >= weight)
            spike = up.to(x.dtype) - down.to(x.dtype)
            v, count, sent = v - weight * spike, count + weight * spike, sent + weight * spike
            self.spikes_by_step[-1][site] += int(spike.abs().sum())
        self.potential[site], self.counts[site] = v, count
        return sent * quantum

    def constant(self, value: Tensor) -> Tensor:
        return value if self.step == 0 else torch.zeros_like(value)

    def product(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        a_old, b_old = (self.sums.get(f"{name} {side}", torch.zeros_like(x)) for side, x in (("a", a), ("b", b)))
        self.sums[f"{name} a"], self.sums[f"{name} b"] = a_old + a, b_old + b
        return a @ self.sums[f"{name} b"] + a_old @ b

    def function(self, name: str, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.step == 0:
            self.sums[name] = x
            return f(x)
        before = self.sums[name]
        self.sums[name] = before + x
        return f(self.sums[name]) - f(before)
