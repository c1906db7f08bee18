"""Small networks and data for every room's tests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from safetensors import safe_open
from torch import Tensor

from mst.cli import parser
from mst.models import MaskedSpikingTransformer, MSTConfig
from mst.neurons import kernels

settings.register_profile("mst", deadline=None)  # a shared machine may be slow at any moment
settings.load_profile("mst")

GOLDEN = Path(__file__).parent / "golden"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; put files with slow tests first, so that all workers end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable: the order within a file stays
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep frames of events in a cache of the tests that all workers share, not in the user's."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MST_CACHE", str(folder / "frames"))
        patch.setattr(kernels, "_is_on_disk", lambda loop: True)  # no note on compiling, whichever test is the first
        yield


@pytest.fixture(scope="session", autouse=True)
def _runs_are_left_in_temporary_folders() -> Iterator[None]:
    """Verbs write to runs/ by default. Left in the working folder, a run changes what later tests see."""
    runs = Path.cwd() / "runs"
    was_there = runs.exists()
    yield
    assert was_there or not runs.exists(), "a test has left a run in the working folder"


@pytest.fixture(scope="session", autouse=True)
def _files_need_not_outlive_a_power_cut() -> Iterator[None]:
    """Leave out the waits for the disk, of which a small training has more than steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _parsers_are_built_once() -> Iterator[None]:
    """Keep the parser of each verb, which a program builds once too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parser, "verb_parser", cache(parser.verb_parser))
        yield


@pytest.fixture(autouse=True)
def _one_thread_and_fixed_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are tiny, and tests run side by side
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def rendered_figures() -> None:
    """Let a test of a command render its figures; otherwise they are laid out, and empty files are written."""


@pytest.fixture(autouse=True)
def _figures_of_commands_without_rendering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_nothing(figure: object, path: str, **options: object) -> None:
        Path(path).touch()

    if request.path.parent.name == "cli" and "rendered_figures" not in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", write_nothing)


def tiny_config(**options: object) -> MSTConfig:
    """Two stages of 4x4 and 2x2 tokens, small enough for every test."""
    sizes: dict[str, object] = {
        "img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 3, "embed_dim": 8, "depths": (2, 1),
        "num_heads": (2, 2), "window_size": 2, "mlp_ratio": 2.0, "num_levels": 4,
    }  # fmt: skip
    return MSTConfig(**{**sizes, **options})  # type: ignore[arg-type]


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter and statistic a value with an effect: thresholds and variances above 0, others around 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or name.endswith("attn_mask"):
                continue
            draw = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith(("threshold", "running_var")):
                tensor.copy_(0.3 + draw)
            elif tensor.dim() == 1 and name.endswith("weight"):
                tensor.copy_(0.5 + draw)
            else:
                fan_in = tensor[0].numel() if tensor.dim() > 1 else 4
                tensor.copy_((2 * draw - 1) * (3 / fan_in) ** 0.5)


@pytest.fixture
def tiny_model() -> MaskedSpikingTransformer:
    model = MaskedSpikingTransformer(tiny_config()).eval()
    randomise(model)
    return model.double()


@dataclass(frozen=True)
class Golden:
    """One network of the released system with its recorded output."""

    config: dict[str, object]
    spike_counts: dict[str, int]
    state: dict[str, Tensor]
    images: Tensor
    ann_logits: Tensor
    step_logits: Tensor


@pytest.fixture(scope="session")
def golden() -> Golden:
    with safe_open(str(GOLDEN / "no_mlp_bn.safetensors"), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return Golden(
        json.loads(metadata["config"]),
        json.loads(metadata["spike_counts"]),
        {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")},
        tensors["input"].double(),
        tensors["ann_logits"],
        tensors["snn_step_logits"],
    )
