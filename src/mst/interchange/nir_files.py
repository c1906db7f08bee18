"""Graphs as files of NIR, the Neuromorphic Intermediate Representation, and back.

NIR's integrate-and-fire neuron states a threshold and neither how it starts nor how it is reset; libraries read it in
four ways. A file written here states both in its metadata.

Source: Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 2024; package nir.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mst.errors import InputError, MissingFileError
from mst.extras import install_command
from mst.files import write_atomically
from mst.text import one_line

from .graph import Flatten, Graph, Input, Map, MapRole, Neurons, Node, Output

SEMANTICS = {"reset": "subtract", "start": "half_threshold", "spikes_per_step": 1, "fires_at": "greater_or_equal"}
"""Properties of the neurons that NIR has no field for."""

FACTS = "mst"
"""Attribute of a file with what NIR has no field for, as JSON."""

MOST_BYTES = 2**32
"""Largest size of all tensors of a file that is read. A damaged or malicious file of a few bytes can state any size."""


def package(name: str) -> Any:
    """A package of the extra `export`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"the package {name} is not installed", remedy=install_command("export")) from error


def write_nir(graph: Graph, path: Path | str) -> Path:
    """Write a graph as a file of NIR, whole or not at all.

    Weights are in float64, so that no folding rounds; libraries read them in their own precision. Convolutions with
    groups and average pools are written as dense convolutions, which every reader takes. `v_reset` is left out, so that
    nir 1.0.4 reads the file as well.

    Args:
        graph: see `trace_graph`.
        path: the file, by custom *.nir.

    Returns:
        The path.

    Raises:
        InputError: the package nir is not installed.
        OSError: the file cannot be written.
    """
    nir, h5py = package("nir"), package("h5py")
    shapes = {name: node.shape for name, node in graph.nodes.items()}
    nodes = {
        name: _nir_node(nir, node, shapes[graph.sources(name)[0]] if graph.sources(name) else node.shape)
        for name, node in graph.nodes.items()
    }
    facts = {
        "semantics": SEMANTICS, "weight_bits": graph.weight_bits, "notes": list(graph.notes),
        "nodes": {name: _facts_of(node) for name, node in graph.nodes.items()},
    }  # fmt: skip
    whole = nir.NIRGraph(nodes, list(graph.edges))

    def write(temporary: str) -> None:
        nir.write(temporary, whole)
        with h5py.File(temporary, "r+") as file:
            file.attrs[FACTS] = json.dumps(facts)  # nir 1.0.4 takes metadata at some nodes only
            for node in file["node"]["nodes"].values():
                if "v_reset" in node:
                    del node["v_reset"]

    write_atomically(Path(path), write)
    return Path(path)


def _nir_node(nir: Any, node: Node, source: tuple[int, ...]) -> Any:
    """The node of NIR for `node`, whose input has the shape `source`."""
    shape = np.array(node.shape)
    if isinstance(node, Input):
        return nir.Input(input_type={"input": shape})
    if isinstance(node, Output):
        return nir.Output(output_type={"output": shape})
    if isinstance(node, Flatten):
        return nir.Flatten(input_type={"input": np.array(source)}, start_dim=0, end_dim=-1)
    if isinstance(node, Neurons):
        threshold = node.threshold.double().expand(node.shape).contiguous().cpu().numpy()
        return nir.IF(r=np.ones(node.shape), v_threshold=threshold)
    assert isinstance(node, Map)
    return _nir_map(nir, node, source)


def _facts_of(node: Node) -> dict[str, Any]:
    """What NIR has no field for."""
    role = {"role": node.role} if isinstance(node, Map) else {}
    return {"path": node.path} | role | ({"num_levels": node.num_levels} if isinstance(node, Neurons) else {})


def _nir_map(nir: Any, node: Map, source: tuple[int, ...]) -> Any:
    weight = node.dense_weight.cpu().numpy()
    bias = np.zeros(len(weight)) if node.bias is None else node.bias.cpu().numpy()
    if not node.is_convolution:
        return nir.Affine(weight=weight, bias=bias)
    if len(node.stride) == 1:
        return nir.Conv1d(source[1], weight, node.stride[0], node.padding[0], node.dilation[0], 1, bias)
    places = tuple(source[1:])
    made = nir.Conv2d(places, weight, node.stride, node.padding, node.dilation, 1, bias)
    made.output_type = {"output": np.array(node.shape)}  # nir computes it for square kernels only
    return made


def read_nir(path: Path | str) -> Graph:
    """Read a file of NIR that `write_nir` has written.

    Args:
        path: the file.

    Returns:
        The graph, with dense convolutions.

    Raises:
        MissingFileError: the file does not exist.
        InputError: it is not a file of NIR; its tensors take more than `MOST_BYTES`; it does not state how its neurons
            are reset and start; nodes that a graph of maps and integrate-and-fire neurons does not hold, all of them.
    """
    whole = read_nir_package(path)
    facts = _facts_in(path)
    about = facts.get("nodes", {})
    about = {name: each for name, each in about.items() if isinstance(each, dict)} if isinstance(about, dict) else {}
    shapes: dict[str, tuple[int, ...]] = {}
    sources: dict[str, list[str]] = {name: [] for name in whole.nodes}
    edges = tuple((str(source), str(target)) for source, target in whole.edges)
    for source, target in edges:
        if source not in sources or target not in sources:
            raise InputError(f"an edge leads from {source!r} to {target!r}, which are not both nodes", where=str(path))
        sources[target].append(source)
    nodes: dict[str, Node] = {}
    for name in _in_order(sources, path):
        before = [shapes[source] for source in sources[name]]
        if len(set(before)) > 1:
            raise InputError(f"{name} adds up inputs of the shapes {sorted(set(before))}", where=str(path))
        try:
            nodes[name] = _read_node(name, whole.nodes[name], before[0] if before else (), about.get(name, {}))
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            raise InputError(f"the node {name} is damaged: {one_line(error)}", where=str(path)) from error
        shapes[name] = nodes[name].shape
    return Graph(nodes, edges, tuple(facts.get("notes", ())), facts.get("weight_bits"))


def read_nir_package(path: Path | str) -> Any:
    """The file as the package nir reads it, of node types that are known here.

    Raises:
        MissingFileError, InputError: as `read_nir`.
    """
    nir = package("nir")
    if not Path(path).is_file():
        raise MissingFileError("the file does not exist", where=str(path))
    try:
        with package("h5py").File(path, "r") as file:
            needed = _num_bytes(file)
        whole = nir.read(str(path)) if needed <= MOST_BYTES else None
    except Exception as error:  # h5py and nir raise whatever the bytes lead them to
        what = f"it is not a file of NIR ({one_line(error)})"
        raise InputError(what, where=str(path), remedy="give a file of mst export --to nir") from error
    if whole is None:
        what = f"its tensors take {needed / 2**30:,.0f} GiB; at most {MOST_BYTES // 2**30} GiB are read"
        raise InputError(what, where=str(path), remedy="give a file of mst export --to nir")
    known = ("Input", "Output", "Affine", "Linear", "Conv1d", "Conv2d", "Flatten", "IF")
    others = [f"{name} ({type(node).__name__})" for name, node in getattr(whole, "nodes", {}).items()
              if type(node).__name__ not in known]  # fmt: skip
    if others or type(whole).__name__ != "NIRGraph":
        found = ", ".join(others) or type(whole).__name__
        what = f"nodes that are neither maps nor integrate-and-fire neurons: {found}"
        raise InputError(what, where=str(path), remedy="give a file of mst export --to nir")
    return whole


def _num_bytes(group: Any) -> int:
    """Size of all tensors of a group, each as often as it is linked."""
    return sum(int(item.nbytes) if hasattr(item, "nbytes") else _num_bytes(item) for item in group.values())


def _facts_in(path: Path | str) -> dict[str, Any]:
    """What the file states beyond NIR.

    Raises:
        InputError: it states nothing, or other neurons than those of rate coding.
    """
    with package("h5py").File(path, "r") as file:
        text = file.attrs.get(FACTS, "{}")
    try:
        facts = json.loads(text)
    except ValueError:
        facts = {}
    if not isinstance(facts, dict) or facts.get("semantics") != SEMANTICS:
        raise InputError(
            "it does not state how its neurons start and are reset, on which its spikes depend",
            where=str(path),
            remedy="give a file of mst export --to nir",
        )
    return facts


def _in_order(sources: Mapping[str, list[str]], path: Path | str) -> list[str]:
    done: list[str] = []
    waiting = list(sources)
    while waiting:
        ready = [name for name in waiting if all(source in done for source in sources[name])]
        if not ready:
            raise InputError("its nodes form a loop; recurrent networks are not read", where=str(path))
        done += ready
        waiting = [name for name in waiting if name not in ready]
    return done


def _read_node(name: str, node: Any, source: tuple[int, ...], about: Mapping[str, Any]) -> Node:
    """A node of the package nir whose input has the shape `source`; about: what the file states of it beyond NIR."""
    kind, path = type(node).__name__, str(about.get("path", name))
    if kind == "Input":
        return Input(name, "", tuple(int(size) for size in node.input_type["input"]))
    if kind == "Output":
        return Output(name, "", source)
    if kind == "Flatten":
        return Flatten(name, path, (torch.Size(source).numel(),))
    if kind == "IF":
        threshold = torch.as_tensor(np.asarray(node.v_threshold)).double()
        if tuple(threshold.shape) != source or not bool((threshold > 0).all()):
            raise ValueError(f"thresholds {tuple(threshold.shape)} for neurons {source}, or not above 0")
        return Neurons(name, path, source, _shortest(threshold), int(about.get("num_levels", 16)))
    weight = torch.as_tensor(np.asarray(node.weight)).double()
    given = getattr(node, "bias", None)
    bias = None if given is None else torch.as_tensor(np.asarray(given)).double()
    role: MapRole = about.get("role", "map")
    if not source or source[0] != weight.shape[1] * int(getattr(node, "groups", 1)) or len(source) != weight.dim() - 1:
        raise ValueError(f"weights {tuple(weight.shape)} for inputs {source}")
    if kind in ("Affine", "Linear"):
        return Map(name, path, (len(weight),), weight, bias, role)
    axes = weight.dim() - 2
    stride, padding, dilation = (_tuple(each, axes) for each in (node.stride, node.padding, node.dilation))
    places = zip(source[1:], weight.shape[2:], stride, padding, dilation, strict=True)
    shape = (len(weight), *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in places))
    return Map(name, path, shape, weight, bias, role, stride, padding, dilation, int(node.groups))


def _shortest(threshold: Tensor) -> Tensor:
    """One value, if all are alike."""
    first = threshold.reshape(-1)[0]
    return first if bool((threshold == first).all()) else threshold


def _tuple(given: Any, axes: int) -> tuple[int, ...]:
    values = tuple(int(each) for each in np.atleast_1d(given))
    return values * axes if len(values) == 1 else values
