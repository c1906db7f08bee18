"""Checkpoints on the hub in the options of runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from hub_stand_in import Hub, serving
from mst.checkpoints import hub as hub_module
from mst.data import DataSplits
from mst.experiments import BenchmarkOptions, NetworkOptions, SweepOptions, TrainingOptions, run_record
from mst.experiments.benchmarking import _network
from mst.experiments.sweep_files import common_settings
from mst.experiments.training_run import with_pinned_checkpoints
from mst.zoo import zoo_file

NAME = "hf:me/digits-mst"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    hub_module.fetch.cache_clear()
    with serving(monkeypatch, str(tmp_path / "cache")) as found:
        yield found
    hub_module.fetch.cache_clear()


@pytest.fixture
def commit(hub: Hub) -> str:
    return hub.repository("me/digits-mst").add({"model.safetensors": zoo_file("digits-mst").read_bytes()})


def test_record_names_the_commit_of_checkpoints_and_leaves_data_sets(commit: str) -> None:
    settings = {"checkpoint": Path(NAME), "dataset": NAME, "teacher": None, "init_from": "timm:resnet18"}
    assert run_record("simulate", settings, {})["settings"] == {**settings, "checkpoint": Path(f"{NAME}@{commit}")}


def test_training_starts_from_a_named_commit(commit: str) -> None:
    options = TrainingOptions(network=NetworkOptions(init_from=NAME), teacher=f"{NAME}@main")
    found = with_pinned_checkpoints(options)
    assert (found.network.init_from, found.teacher) == (f"{NAME}@{commit}", f"{NAME}@{commit}")
    plain = replace(options, network=NetworkOptions(init_from="timm:resnet18"), teacher=None)
    assert with_pinned_checkpoints(plain) == plain


def test_sweep_recognises_the_weights_of_a_checkpoint_on_the_hub(commit: str) -> None:
    options = SweepOptions(checkpoint=Path(NAME), method="evaluate")
    common = common_settings({}, options, cast(DataSplits, SimpleNamespace(fingerprint="")))
    assert common["checkpoint_sha256"] == sha256(zoo_file("digits-mst").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["zoo:digits-mst", NAME])
def test_benchmark_takes_checkpoints_by_name(name: str, commit: str) -> None:
    model, images = _network(BenchmarkOptions(network=name, batch_size=2), torch.device("cpu"))
    assert model(images).shape == (2, 10)
