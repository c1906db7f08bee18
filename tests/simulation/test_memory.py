"""Memory of a simulation, as the operating system sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

import mst
from mst.conversion import SpikingNetwork
from mst.models import MaskedSpikingTransformer
from mst.simulation import SimulationOptions, loop


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not report the peak memory of a process")
def test_simulate_peak_memory_does_not_grow_with_time_steps() -> None:
    script = Path(__file__).with_name("peak_memory.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    environment["NUMBA_DISABLE_JIT"] = "1"  # a compiler, loaded once in the longer run alone, takes 100 MB itself
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    for coding, (of_few_steps, of_many) in json.loads(done.stdout).items():
        assert of_many <= 1.05 * of_few_steps, coding


@contextmanager
def limited(snn: SpikingNetwork, rows: int) -> Iterator[list[int]]:
    """Let the head of the network run out of memory where it gets more than `rows` rows; yields how many it gets."""
    seen: list[int] = []

    def allocate(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(args[0]))
        if len(args[0]) > rows:
            raise torch.OutOfMemoryError("too large")

    handle = snn.network.get_submodule("head").register_forward_pre_hook(allocate)
    yield seen
    handle.remove()


def everything(result: mst.SimulationResult) -> list[object]:
    """All that a result holds of spikes, operations and accuracy, and its logits to the last bits but a few."""
    counts = [(op.operation.name, op.acs_per_step, op.macs_per_step) for op in result.operations]
    functions = [(each.function.name, each.elements_per_step) for each in result.functions]
    sites = [(name, site.sent_per_step, site.dropped_per_step) for name, site in result.sites.items()]
    tensors = result.accuracy, result.top5_accuracy, result.steps_taken, (result.logits * 1e9).round()
    return [repr(each) for each in (counts, functions, sites, tensors)]


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_simulate_batch_that_does_not_fit_is_taken_in_halves_with_the_same_result(
    tiny_model: MaskedSpikingTransformer, coding: str, caplog: pytest.LogCaptureFixture
) -> None:
    images, labels = torch.rand(3, 1, 8, 8).double(), torch.arange(3)
    snn = mst.convert(mst.mask_spikes(tiny_model, 0.3), coding, images[:1])
    options = SimulationOptions(3, keep_step_logits=True, seed=3)
    whole = mst.simulate(snn, (images, labels), options)
    for rows in (3, 1):  # some steps of all images at once, or one step of one image
        reports: list[int] = []
        caplog.clear()
        with caplog.at_level("INFO", logger="mst.notes"), limited(snn, rows) as seen:
            cut = mst.simulate(snn, (images, labels), options, progress=reports.append)
        assert max(seen) > rows  # it did not fit
        assert "(too large): the batch begins again, with at most" in caplog.text
        assert everything(cut) == everything(whole)
        assert min(reports) > 0
        assert sum(reports) == 3 * 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_simulate_image_that_does_not_fit_is_refused_with_remedies(
    tiny_model: MaskedSpikingTransformer, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error("too large")

    snn = mst.convert(tiny_model, "rate", torch.zeros(1, 1, 8, 8).double())
    monkeypatch.setattr(loop, "begin_run", fail)
    with pytest.raises(mst.InputError, match=r"one step of 1 image.*\(too large\); .*smaller network$"):
        mst.simulate(snn, torch.zeros(2, 1, 8, 8).double(), 3)


def test_simulate_labels_of_another_length_are_refused_when_memory_does_not_suffice(
    tiny_model: MaskedSpikingTransformer,
) -> None:
    snn = mst.convert(tiny_model, "rate", torch.zeros(1, 1, 8, 8).double())
    with limited(snn, 2), pytest.raises(mst.InputError):
        mst.simulate(snn, (torch.zeros(3, 1, 8, 8).double(), torch.zeros(6, dtype=torch.int64)), 3)
