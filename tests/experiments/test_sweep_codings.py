"""A sweep over codings, schedules and bursts, of networks with sites at activations and at products."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import mst
from mst.errors import FileConflictError, InputError
from mst.experiments import sweep_plan, sweeping
from sweep_networks import registered, saved
from sweep_networks import sweep_options as options


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(-8, tmp_path_factory.mktemp("products"))


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[mst.CodingOptions]:
    """The codings of all simulations that a sweep runs."""
    codings: list[mst.CodingOptions] = []
    real = sweeping.run_simulation

    def run(opening: object, steps: mst.StepOptions, coding: mst.CodingOptions, **how: object) -> mst.SimulationRun:
        codings.append(coding)
        return real(opening, steps, coding, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "run_simulation", run)
    return codings


def test_sweep_over_bursts_gives_the_figures_of_a_measurement(
    products: Path, tmp_path: Path, simulated: list[mst.CodingOptions]
) -> None:
    swept = options(products, bursts=(1, 4), masking_ratios=(0.0, 0.5), mask_sites=("all",))
    run = mst.run_sweep(swept, tmp_path)
    assert [(r["masking_ratio"], r["burst"], r["time_steps"]) for r in run.rows] == [
        (p, burst, t) for p in (0.0, 0.5) for burst in (1, 4) for t in (2, 40)
    ]
    assert {(row["coding"], row["schedule"], row["num_levels"]) for row in run.rows} == {("lossless", "free", 15)}
    measured = mst.run_measurement(
        mst.CheckpointOptions(products, max_images=6, masking_ratio=0.5, mask_sites=("all",)),
        mst.StepOptions(40), mst.CodingOptions("lossless", burst=4),
    )  # fmt: skip
    row, result, energy = run.rows[-1], measured.simulation.result, measured.estimate
    assert row["settled_percent"] == 100
    assert row["snn_accuracy_percent"] == row["ann_accuracy_percent"] == 100 * measured.simulation.ann_accuracy
    assert row["spikes_per_image"] == pytest.approx(result.spikes_per_image, rel=1e-12)
    assert row["firing_rate"] == pytest.approx(result.firing_rate, rel=1e-12)
    assert row["mean_steps"] == pytest.approx(result.mean_steps, rel=1e-12)
    assert row["energy_relative_to_ann"] == pytest.approx(energy.ratio, rel=1e-12)
    assert row["energy_with_functions_relative_to_ann"] == pytest.approx(energy.whole.ratio, rel=1e-12)
    assert run.rows[-2]["energy_uj"] == pytest.approx(1e-6 * energy.snn_energy_pj_per_step[1], rel=1e-12)

    # a burst more and a longer T: what has settled is not simulated again
    del simulated[:]
    more = mst.run_sweep(replace(swept, bursts=(1, 2, 4), time_steps=(40, 100)), tmp_path)
    assert [coding.burst for coding in simulated] == [2, 2]
    assert more.rows[-2] == row
    assert more.rows[-1] == {**row, "time_steps": 100}
    files = sorted(path.name for path in (tmp_path / "L15_p0").iterdir())
    assert files == [f"lossless_free_burst{burst}_seed0.json" for burst in (1, 2, 4)]


def test_sweep_over_both_codings_keeps_options_of_one_from_the_other(
    tmp_path: Path, simulated: list[mst.CodingOptions]
) -> None:
    path = saved(0, tmp_path)
    swept = options(
        path, codings=("rate", "lossless"), schedules=("plain", "weighted"), bursts=(4,), input_steps=2,
        resting_images=4, time_steps=(8,), max_images=3,
    )  # fmt: skip
    run = mst.run_sweep(swept, tmp_path / "out")
    own = [("plain", 4, 4, 2), ("weighted", 4, 4, 2)]
    assert [(c.schedule, c.burst, c.resting_images, c.input_steps) for c in simulated] == [(None, 1, 0, 1), *own]
    rate, *_ = run.rows
    assert (rate["coding"], rate["schedule"], rate["burst"], rate["settled_percent"]) == ("rate", None, None, None)
    assert rate["mean_steps"] == 8
    assert rate["energy_with_functions_uj"] == pytest.approx(rate["energy_uj"])  # it has no functions
    with pytest.raises(FileConflictError, match="other settings: input_steps: 2 -> 1"):
        mst.run_sweep(replace(swept, input_steps=1), tmp_path / "out")


def test_sweep_with_early_exit_reports_the_steps_of_the_images_that_are_left(products: Path, tmp_path: Path) -> None:
    leaves = mst.ExitOptions(value=1.0)
    swept = options(products, early_exit="stability", exit=leaves, time_steps=(1, 30))
    run = mst.run_sweep(swept, tmp_path)
    assert [row["mean_steps"] for row in run.rows] == [1, 1]  # every answer is stable for one step
    assert run.rows[0]["spikes_per_image"] == run.rows[1]["spikes_per_image"]
    stored = json.loads((tmp_path / "L15_p0" / "lossless_free_burst1_seed0.json").read_text())
    assert stored["settled"][-1] < 1
    with pytest.raises(FileConflictError, match="other settings: early_exit: stability -> None"):
        mst.run_sweep(options(products), tmp_path)


def test_sweep_over_early_exits_runs_each_rule_and_none(products: Path, tmp_path: Path) -> None:
    swept = options(products, early_exits=("none", "stability"), exit=mst.ExitOptions(value=1.0), time_steps=(30,))
    run = mst.run_sweep(swept, tmp_path)
    none, stability = run.rows
    assert (none["early_exit"], stability["early_exit"]) == (None, "stability")
    assert none["mean_steps"] > stability["mean_steps"] == 1
    files = sorted(path.name for path in (tmp_path / "L15_p0").iterdir())
    assert files == ["lossless_free_burst1_exit-stability_seed0.json", "lossless_free_burst1_seed0.json"]


def test_sweep_over_placements_plans_a_network_each_and_leaves_out_what_rate_coding_cannot_carry() -> None:
    swept = mst.SweepOptions(
        placements=("activations", "products"), codings=("rate", "lossless"), masking_ratios=(0.0,), num_levels=(4,),
        mask_sites=("all",), spike_penalties=(0.0,),
    )  # fmt: skip
    cells = list(sweep_plan.cells_of(swept))
    assert [(cell.name, cell.coding_label) for cell in cells] == [
        ("L4_p0", "rate"), ("L4_p0", "lossless, weighted, burst 1"), ("L4_p0_products", "lossless, free, burst 1"),
    ]  # fmt: skip
    placements = [sweep_plan.network_options(swept, cell).quantize.placement for cell in cells]
    assert placements == ["activations", "activations", "products"]


def test_sweep_over_powers_rounds_the_levels_of_the_checkpoint(products: Path, tmp_path: Path) -> None:
    run = mst.run_sweep(options(products, max_powers=(1, 2), max_images=3, time_steps=(40,)), tmp_path)
    one, two = run.rows
    assert (one["max_powers"], two["max_powers"]) == (1, 2)
    assert one["settled_percent"] == two["settled_percent"] == 100
    assert one["ann_quanta_per_neuron"] != two["ann_quanta_per_neuron"]
    assert [result.cell.name for result in run.results] == ["L15_p0_m1", "L15_p0_m2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codings": ("rate",)}, "rate coding does not carry the levels below 0.*--codings lossless"),
        ({"codings": ("rate",), "bursts": (2,)}, "bursts has no effect under rate coding; it belongs to lossless"),
        ({"codings": ("rate",), "schedules": ("free",)}, "schedules has no effect under rate coding"),
        ({"codings": ("lossles",)}, "unknown coding 'lossles'"),
        ({"schedules": ("fre",)}, "unknown schedule 'fre'"),
        ({"early_exit": "margin"}, "early exit: .*; "),
        ({"early_exit": "stability", "exit": mst.ExitOptions(value=50)}, "never trigger within 40 time steps"),
    ],
)
def test_sweep_refuses_options_of_codings_before_it_writes_anything(
    changes: dict[str, object], message: str, products: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        mst.run_sweep(options(products, **changes), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bursts": ()}, "at least one entry of each"),
        ({"bursts": (1, 0)}, "burst is the maximum of spikes per neuron per step, at least 1, got 0"),
        ({"max_powers": (0,)}, "max_powers must be at least 1, got 0"),
        ({"input_steps": 50}, "input_steps must be from 1 to the 40 time steps, got 50"),
        ({"exit": mst.ExitOptions(loss=1.0)}, "no effect without --early-exit"),
        ({"exit": mst.ExitOptions(loss=1.0), "early_exits": ("none",)}, "no effect without --early-exit"),
        ({"early_exit": "margin", "early_exits": ("none",)}, "early_exit and early_exits are given; give one"),
        ({"early_exits": ()}, "at least one entry of each"),
        ({"early_exits": ("margin", "stability"), "exit": mst.ExitOptions(value=2.0)}, "value belongs to one rule"),
        ({"placements": ("products",), "quantize": mst.QuantizeOptions("products")}, "placements are given; give one"),
        ({"shard": "5/4"}, "--shard: there is no shard 5/4; shards of 4 are 1/4 to 4/4"),
        ({"shard": "0/4"}, "there is no shard 0/4"),
        ({"shard": "0/0"}, "there is no shard 0/0; N must be at least 1"),
        ({"shard": "2 of 4"}, "a shard is written I/N, as in 1/4, got '2 of 4'"),
    ],
)
def test_sweep_options_refuse_bad_values_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        options(Path("x"), **changes)
