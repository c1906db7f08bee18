"""Graphs and files of NIR: spike for spike what the library simulates, or refused, all places at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mst
from conftest import tiny_config
from exported_networks import IMAGES, branched, simple
from mst.interchange import (
    TARGETS,
    ExportError,
    GraphNetwork,
    compare_spikes,
    load,
    network_steps,
    read_nir,
    trace_graph,
    write_nir,
)
from nir_interpreter import Interpreter

h5py = pytest.importorskip("h5py")
nir = pytest.importorskip("nir")

STEPS = 12


def per_channel() -> nn.Module:
    return branched(per_channel=True)


@pytest.mark.parametrize("made", [branched, simple, per_channel])
def test_files_give_the_spikes_of_the_simulation(made: Callable[[], nn.Module], tmp_path: Path) -> None:
    model, images = made().double(), IMAGES.double()
    snn = mst.convert(model, "rate")
    graph = trace_graph(model)
    steps, mean = Interpreter(write_nir(graph, tmp_path / "net.nir")).run(images, STEPS)
    node_of = {each.path: each.name for each in graph.neurons}
    assert {site.site for site in snn.sites} == set(node_of)
    spikes = 0
    for ours, theirs in zip(network_steps(snn, images, STEPS), steps, strict=True):
        for site, fired in ours.spikes.items():
            assert torch.equal(fired, theirs[node_of[site]].reshape(fired.shape)), site
            spikes += int(fired.sum())
    result = mst.simulate(snn, images, STEPS)
    assert spikes == sum(int(each.sent_per_step.sum()) for each in result.sites.values()) > 100
    torch.testing.assert_close(mean, result.logits)


def test_graph_has_thresholds_of_one_and_no_norms() -> None:
    graph = trace_graph(branched())
    thresholds = {each.path: float(each.threshold) for each in graph.neurons}
    assert thresholds == dict.fromkeys(thresholds, 1.0)
    assert not any("norm" in node.path for node in graph.maps if node.role != "scale")


def test_graph_keeps_a_threshold_whose_map_is_read_elsewhere_too() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.act, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
            self.last = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.out(self.last(y + self.second(self.act(y))))

    torch.manual_seed(2)
    model = mst.quantize(Before(), 4, calibration=torch.rand(8, 3))
    thresholds = {each.path: float(each.threshold) for each in trace_graph(model).neurons}
    assert thresholds["act"] == pytest.approx(float(model.act.threshold.detach()))  # type: ignore[union-attr, operator]


def test_reading_gives_the_graph_that_was_written(tmp_path: Path) -> None:
    graph = trace_graph(branched())
    again = read_nir(write_nir(graph, tmp_path / "net.nir"))
    assert [(node.name, node.path, node.shape) for node in again.nodes.values()] == [
        (again.nodes[name].name, graph.nodes[name].path, graph.nodes[name].shape) for name in again.nodes
    ]
    assert set(again.edges) == set(graph.edges)
    found = compare_spikes(GraphNetwork(graph).steps, GraphNetwork(again).steps, [IMAGES], STEPS)
    assert (found.differing, found.num_images, found.same_answers) == (0, 5, 5)
    assert found.largest_difference < 1e-12
    assert torch.is_grad_enabled()


def test_compare_spikes_counts_each_difference(tmp_path: Path) -> None:
    graph = trace_graph(simple())
    (first, second) = graph.neurons
    other = graph.with_nodes(
        type(second)(second.name, second.path, second.shape, second.threshold * 1e6, second.num_levels)
    )
    found = compare_spikes(GraphNetwork(graph).steps, GraphNetwork(other).steps, [IMAGES[:2], IMAGES[2:]], STEPS)
    assert found.sites[first.path].differing == 0
    silent = found.sites[second.path]
    assert silent.differing == silent.spikes > 0
    assert silent.compared == 5 * 4 * STEPS


def test_files_are_read_by_nir_and_leave_v_reset_out(tmp_path: Path) -> None:
    path = write_nir(trace_graph(simple()), tmp_path / "net.nir")
    whole = nir.read(path)
    assert {type(node).__name__ for node in whole.nodes.values()} == {
        "Input", "Output", "Conv2d", "Affine", "Flatten", "IF",
    }  # fmt: skip
    with h5py.File(path) as file:
        neurons = [node for node in file["node"]["nodes"].values() if node["type"][()] == b"IF"]
        assert neurons
        assert not any("v_reset" in node for node in neurons)


def test_networks_that_nir_cannot_hold_are_refused_with_all_places() -> None:
    model = mst.MaskedSpikingTransformer(tiny_config(masking_ratio=0.5)).eval()
    with pytest.raises(ExportError) as caught:
        trace_graph(model)
    said = str(caught.value)
    softmaxes = "layers.0.blocks.0.attn.softmax, layers.0.blocks.1.attn.softmax, layers.1.blocks.0.attn.softmax"
    assert f"- {softmaxes}: NIR has no node for softmax; choose a network of convolutions" in said
    assert "layers.1.blocks.0.attn.attn_if: NIR has no node that drops spikes at random (ratio 0.5)" in said
    assert "export to ONNX, which holds it" in said
    assert said.startswith(f"{len(caught.value.obstacles)} places cannot be held by a graph of NIR.")


def test_what_conversion_refuses_is_listed_with_what_nir_does_not_hold() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 4), nn.ReLU(),
        nn.Linear(4, 3),
    )  # fmt: skip
    with pytest.raises(ExportError) as caught:
        trace_graph(mst.quantize(network, 4, calibration=IMAGES))
    assert [each.where for each in caught.value.obstacles] == ["4", "2"]
    assert "layer_norm before the neuron 6" in str(caught.value)
    assert 'train with average pools (mst.quantize(..., max_pool="average"))' in str(caught.value)


class _Odd(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.act, self.head, self.function = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Linear(64, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.act(self.first(x))).flatten(1))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x[:, [1, 0, 2, 3]], "NIR has no node for getitem"),
        (lambda x: x.transpose(2, 3), "NIR has no node for transpose"),
        (
            lambda x: nn.functional.linear(x, torch.eye(4, dtype=x.dtype)),
            r"a linear map of the last axis of \(4, 4, 4\)",
        ),
        (lambda x: x * torch.arange(16.0).view(4, 4), "a constant for each place"),
        (lambda x: nn.functional.pad(x, (1, 0, 0, 1))[..., :4, 1:], "by another number on either side"),
        (lambda x: torch.cat([x, x], dim=2)[:, :, :4], "beside each other on another axis than channels"),
        (lambda x: nn.functional.interpolate(x, scale_factor=1.0), "NIR has no node for interpolate"),
    ],
)
def test_functions_without_a_node_are_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ExportError, match=f"(?s)the network itself.*{message}.*export to ONNX"):
        trace_graph(mst.quantize(_Odd(function), 4, calibration=IMAGES))


def test_monitors_are_no_obstacle() -> None:
    class Monitored(_Odd):
        def forward(self, x: Tensor) -> Tensor:
            self.peak = self.first(x).softmax(1).transpose(0, 1)
            return super().forward(x)

    assert len(list(trace_graph(mst.quantize(Monitored(lambda x: x), 4, calibration=IMAGES)).neurons)) == 1


def test_graph_that_differs_from_its_network_is_refused() -> None:
    def through_a_view(x: Tensor) -> Tensor:
        y = x * 2
        y.view(-1).mul_(3)  # the tensor that is read later changes, without a call that names it
        return y

    with pytest.raises(mst.InputError, match="the graph of this network differs from it at the output"):
        trace_graph(mst.quantize(_Odd(through_a_view), 4, calibration=IMAGES))


def test_networks_that_compute_in_one_precision_are_refused() -> None:
    model = mst.quantize(_Odd(lambda x: x @ torch.eye(4)), 4, calibration=IMAGES)
    with pytest.raises(mst.InputError, match=r"does not compute in float64 \(.*make the constants .* buffers"):
        trace_graph(model)


def test_lossless_networks_are_refused() -> None:
    with pytest.raises(mst.InputError, match="lossless coding sends spikes that no neuron of NIR fires; convert the"):
        trace_graph(mst.convert(simple(), "lossless"))


def test_spiking_network_without_a_known_shape_needs_an_example() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), mst.QCFS(4, 0.5), nn.Linear(4, 2))
    snn = mst.convert(model)
    with pytest.raises(mst.InputError, match="shape of this network's images is not known; give an example"):
        trace_graph(snn)
    assert repr(trace_graph(snn, torch.rand(3, 3))) == "Graph(2 maps, 4 neurons in 1 groups)"


def _write(path: Path, **nodes: object) -> Path:
    nodes = {"input": nir.Input(np.array([2])), **nodes, "output": nir.Output(np.array([2]))}
    names = list(nodes)
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(names))))  # type: ignore[arg-type]
    return path


def _no_file(path: Path) -> Path:
    return path


def _text(path: Path) -> Path:
    path.write_text("no graph")
    return path


def _leaky(path: Path) -> Path:
    one = np.ones(2)
    return _write(path, leaky=nir.LIF(tau=one, r=one, v_leak=one, v_threshold=one))


def _foreign(path: Path) -> Path:
    return _write(path, fire=nir.IF(r=np.ones(2), v_threshold=np.ones(2)))


def _damaged(path: Path) -> Path:
    write_nir(trace_graph(simple()), path)
    with h5py.File(path, "r+") as file:
        del file["node"]["edges"]
        file["node"]["edges"] = [("input", "nowhere")]
    return path


def _without_threshold(path: Path) -> Path:
    write_nir(trace_graph(simple()), path)
    with h5py.File(path, "r+") as file:
        node = file["node"]["nodes"]["neurons_1"]
        del node["v_threshold"]
        node["v_threshold"] = np.zeros((3, 2, 2))
    return path


def _truncated(path: Path) -> Path:
    whole = write_nir(trace_graph(simple()), path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _huge(path: Path) -> Path:
    write_nir(trace_graph(simple()), path)
    with h5py.File(path, "r+") as file:
        node = file["node"]["nodes"]["neurons_1"]
        del node["v_threshold"]
        node.create_dataset("v_threshold", (2**20, 2**20), "f8", chunks=(64, 64), fillvalue=1.0)
    assert path.stat().st_size < 2**20
    return path


def _looped(path: Path) -> Path:
    write_nir(trace_graph(simple()), path)
    with h5py.File(path, "r+") as file:
        file["node"]["nodes"]["again"] = file["node"]
    return path


def _of_another_type(path: Path) -> Path:
    nir.write(path, nir.IF(r=np.ones(2), v_threshold=np.ones(2)))
    return path


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (_truncated, r"it is not a file of NIR \(.*give a file of mst export --to nir$"),
        (_huge, "its tensors take 8,192 GiB; at most 4 GiB are read"),
        (_looped, "it is not a file of NIR .*recursion"),
        (_of_another_type, "it is not a file of NIR .*give a file of mst export --to nir$"),
        (_without_threshold, r"the node neurons_1 is damaged: thresholds \(3, 2, 2\) .*, or not above 0"),
        (_no_file, "the file does not exist"),
        (_text, r"it is not a file of NIR \(.*give a file of mst export --to nir$"),
        (_leaky, r"neither maps nor integrate-and-fire neurons: leaky \(LIF\)"),
        (_foreign, "it does not state how its neurons start and are reset"),
        (_damaged, "it is not a file of NIR .*nowhere"),
    ],
)
def test_hostile_files_are_refused_in_one_line(made: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    path = made(tmp_path / "net.nir")
    with pytest.raises((mst.InputError, mst.MissingFileError), match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_and_missing_simulators_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nir(trace_graph(simple()), tmp_path / "net.nir")
    with pytest.raises(mst.InputError, match=r"unknown simulator 'sinab'; did you mean sinabs.*\? Choose from "):
        load(path, "sinab")
    monkeypatch.setitem(__import__("sys").modules, "norse", None)
    with pytest.raises(mst.InputError, match=r"norse cannot be imported .*install norse in an environment of its own"):
        load(path, "norse")


def test_loading_into_mst_runs_in_either_precision(tmp_path: Path) -> None:
    path = write_nir(trace_graph(simple()), tmp_path / "net.nir")
    exact, rounded = (load(path, dtype=dtype) for dtype in (torch.float64, torch.float32))
    pairs = zip(exact.steps(IMAGES, STEPS), rounded.steps(IMAGES, STEPS), strict=True)
    assert all(one.logits.dtype == torch.float64 and other.logits.dtype == torch.float32 for one, other in pairs)
    assert repr(exact).startswith("LoadedNetwork(mst, faithful, Graph(")
    assert {each.label for each in TARGETS.values()} == {"faithful", "approximate"}
