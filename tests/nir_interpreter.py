"""A plain interpreter of NIR files, which shares nothing with the library but torch: it reads the HDF5 file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Interpreter:
    """Runs a file. Neurons start at half their threshold, fire at it, and lose it."""

    def __init__(self, path: Path) -> None:
        import h5py

        with h5py.File(path) as file:
            nodes = file["node"]["nodes"]
            self.nodes = {name: {key: value[()] for key, value in node.items()} for name, node in nodes.items()
                          if not any(isinstance(each, h5py.Group) for each in node.values())}  # fmt: skip
            self.edges = [(source.decode(), target.decode()) for source, target in file["node"]["edges"][()]]

    def run(self, images: Tensor, num_steps: int) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Spikes of each step by node, and the mean of the logits."""
        v: dict[str, Tensor] = {}
        total, steps = torch.zeros(()), []
        for _ in range(num_steps):
            values = {"input": images}
            spikes = {}
            for name in self._order():
                node = self.nodes[name]
                x = sum(values[source] for source, target in self.edges if target == name)
                values[name] = self._apply(name, node, x, v)
                if node["type"] == b"IF":
                    spikes[name] = values[name] != 0
            steps.append(spikes)
            total = total + values["output"]
        return steps, total / num_steps

    def _order(self) -> list[str]:
        done = ["input"]
        while len(done) < len(self.nodes):
            done += [name for name in self.nodes
                     if name not in done and all(a in done for a, b in self.edges if b == name)]  # fmt: skip
        return done[1:]

    @staticmethod
    def _apply(name: str, node: dict[str, Any], x: Any, v: dict[str, Tensor]) -> Tensor:
        kind = node["type"].decode()
        tensors = {key: torch.as_tensor(value) for key, value in node.items() if not isinstance(value, bytes)}
        if kind == "Affine":
            return x @ tensors["weight"].T + tensors["bias"]
        if kind == "Conv2d":
            assert int(node["groups"]) == 1
            options = [tuple(int(each) for each in tensors[key]) for key in ("stride", "padding", "dilation")]
            return F.conv2d(x, tensors["weight"], tensors["bias"], *options)
        if kind == "Flatten":
            return x.reshape(len(x), -1)
        if kind == "IF":
            theta = tensors["v_threshold"]
            charged = v.get(name, theta.expand(x.shape) / 2) + tensors["r"] * x
            sent = (charged >= theta).to(x.dtype)
            v[name] = charged - theta * sent
            return sent
        assert kind == "Output", kind
        return x
