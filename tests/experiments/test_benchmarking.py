"""Benchmarks: what they time, what they derive; none of these tests depends on speed."""

from __future__ import annotations

import mmap
from functools import partial
from pathlib import Path

import pytest
import torch

import mst
from conftest import randomise, tiny_config
from mst.experiments import benchmarking
from mst.experiments.benchmarking import ANN, COUNTED, PLAIN, UNCOUNTED
from mst.measure.plain_loop import plain_copy, plain_loop
from mst.measure.timing import MachineRates, interleaved, peak_memory
from mst.models import MaskedSpikingTransformer
from mst.progress import Progress

CPU = torch.device("cpu")


def test_plain_loop_is_our_rate_coding_spike_for_spike(tiny_model: MaskedSpikingTransformer) -> None:
    images = torch.rand(2, 1, 8, 8).double()
    snn = mst.convert(tiny_model, "rate", images[:1])
    network = plain_copy(snn)
    for _ in range(2):  # a second run begins anew
        logits = plain_loop(network, images, 5)
        torch.testing.assert_close(logits, mst.simulate(snn, images, 5).logits, rtol=0, atol=1e-12)


def test_interleaved_takes_turns_and_leaves_the_first_round_out() -> None:
    calls: list[str] = []
    seconds = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, CPU)
    assert calls == ["a", "b"] * 3
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}


def test_peak_memory_sees_what_a_run_allocates() -> None:
    def touch(size: int) -> None:
        with mmap.mmap(-1, size) as fresh:  # memory that the process has not had before, unlike a block of the heap
            fresh.write(bytes(size))

    small, large = (peak_memory(partial(touch, size), CPU) for size in (2**12, 2**26))
    assert small is None or (large is not None and large > small + 2**25)


@pytest.mark.parametrize("coding", ["rate", "lossless"])
def test_run_benchmark_derives_ratios_from_times(monkeypatch: pytest.MonkeyPatch, coding: str) -> None:
    def create(name: str, num_classes: int) -> MaskedSpikingTransformer:
        model = MaskedSpikingTransformer(tiny_config())
        randomise(model)
        return model

    times = {ANN: (1.0, 1.0), PLAIN: (8.0, 8.0), UNCOUNTED: (2.0, 4.0), COUNTED: (4.0, 4.0)}
    monkeypatch.setattr(benchmarking, "create_model", create)
    monkeypatch.setattr(benchmarking, "interleaved", lambda runs, *_: {name: times[name] for name in runs})
    monkeypatch.setattr(benchmarking, "measure_machine", lambda device: MachineRates(1e9, 16e9))
    seen: list[Progress] = []
    options = mst.BenchmarkOptions("mst_mini_patch2_window7_28", time_steps=4, batch_size=2, rounds=2, device="cpu")
    run = mst.run_benchmark(options, mst.CodingOptions(coding), progress=seen.append)
    assert seen[0].total == 3 * 4
    assert run.steps == 4
    assert run.ratio(UNCOUNTED, ANN) == 3
    assert (run.speed_up(PLAIN), run.speed_up(UNCOUNTED), run.speed_up(COUNTED)) == (1, 3, 2)
    floor = 8 * (run.macs_per_image / 1e9 + run.neurons_per_image / 1e9)
    assert run.fraction_of_floor(COUNTED) == pytest.approx(floor / 4)
    row = run.rows()[COUNTED]
    assert (row["images_per_second"], row["steps_per_second"], row["ms_per_image_step"]) == (0.5, 1, 500)


@pytest.mark.parametrize("field", ["time_steps", "batch_size", "rounds", "threads"])
def test_benchmark_options_are_checked(field: str) -> None:
    with pytest.raises(mst.InputError, match=field):
        mst.BenchmarkOptions("name", **{field: 0})  # type: ignore[arg-type]


def test_run_benchmark_missing_checkpoint_is_refused() -> None:
    with pytest.raises(mst.MissingFileError):
        mst.run_benchmark(Path("nowhere.safetensors"))
