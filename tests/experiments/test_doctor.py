"""`mst doctor`: the findings, and each thing broken by itself and named."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import mst
from mst.cli.main import main
from mst.experiments import check_numbers, doctor, self_check
from mst.experiments.self_check import GOLDEN_LOGITS, GOLDEN_RUNS, golden_network
from mst.extras import install_command
from mst.neurons import chunks, functional, integrate_and_fire, kernels

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def failed() -> list[str]:
    """Names of the checks of numbers that fail now."""
    return [check.name.partition(" ")[0] for check in check_numbers() if check.passed is False]


def test_doctor_knows_the_packages_of_the_project() -> None:
    lowest = dict(line.partition("[")[0].split(">=") if "[" not in line else
                  (line.partition("[")[0], line.partition(">=")[2]) for line in PROJECT["dependencies"])  # fmt: skip
    assert lowest == doctor.REQUIRED
    extras = {name: tuple(line.partition(">=")[0] for line in lines)
              for name, lines in PROJECT["optional-dependencies"].items() if name not in ("dev", "docs")}  # fmt: skip
    assert extras == {name: packages for name, (packages, _) in doctor.EXTRAS.items()}
    assert PROJECT["requires-python"] == ">=" + ".".join(map(str, doctor.LOWEST_PYTHON))


def test_golden_numbers_are_those_of_exact_fractions() -> None:
    """The ANN and rate coding computed again in rational numbers, without torch's operations."""
    network, images = golden_network()
    weights = [[Fraction(w) for w in p.flatten().tolist()] for p in network.parameters() if p.dim() > 0]
    conv, conv_bias, first, first_bias, last, last_bias = (w for w in weights if len(w) > 1)

    def convolved(image: list[Fraction]) -> list[Fraction]:
        def at(row: int, column: int) -> Fraction:
            return image[6 * row + column] if 0 <= row < 6 and 0 <= column < 6 else Fraction(0)

        return [conv_bias[c]
                + sum(conv[9 * c + 3 * i + j] * at(y + i - 1, x + j - 1) for i in range(3) for j in range(3))
                for c in range(4) for y in range(6) for x in range(6)]  # fmt: skip

    def pooled(x: list[Fraction]) -> list[Fraction]:
        return [max(x[36 * c + 6 * (2 * y + i) + 2 * z + j] for i in (0, 1) for j in (0, 1))
                for c in range(4) for y in range(3) for z in range(3)]  # fmt: skip

    def linear(x: list[Fraction], w: list[Fraction], bias: list[Fraction]) -> list[Fraction]:
        return [b + sum(w[len(x) * n + k] * x[k] for k in range(len(x))) for n, b in enumerate(bias)]

    def qcfs(x: list[Fraction]) -> list[Fraction]:
        return [Fraction(min(4, max(0, (value * 4 + Fraction(1, 2)) // 1)), 4) for value in x]

    def fire(v: list[Fraction], x: list[Fraction]) -> list[Fraction]:
        spikes = [Fraction(int(a + b >= 1)) for a, b in zip(v, x, strict=True)]
        v[:] = [a + b - s for a, b, s in zip(v, x, spikes, strict=True)]
        return spikes

    steps, logits, counts, _ = GOLDEN_RUNS["rate"]
    found = [0, 0]
    for number, image in enumerate(images):
        pixels = [Fraction(value) for value in image.flatten().tolist()]
        hidden = qcfs(linear(pooled(qcfs(convolved(pixels))), first, first_bias))
        assert [value * 128 for value in linear(hidden, last, last_bias)] == list(GOLDEN_LOGITS[number])
        v1, v2, sums = [Fraction(1, 2)] * 144, [Fraction(1, 2)] * 8, [Fraction(0)] * 144
        total = [Fraction(0)] * 3
        for _ in range(steps):
            spikes = fire(v1, convolved(pixels))
            before, sums = pooled(sums), [a + b for a, b in zip(sums, spikes, strict=True)]
            behind = fire(v2, linear([a - b for a, b in zip(pooled(sums), before, strict=True)], first, first_bias))
            total = [a + b for a, b in zip(total, linear(behind, last, last_bias), strict=True)]
            found[0] += int(sum(spikes))
            found[1] += int(sum(behind))
        assert [value / steps * 1024 for value in total] == list(logits[number])
    assert tuple(found) == counts


def test_numbers_are_right_here() -> None:
    assert failed() == []


def _of_one_quantum_more(original: Callable[..., Any]) -> Callable[..., Any]:
    def broken(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        return found + 0.25 if isinstance(found, torch.Tensor) else replace(found, output=found.output + 0.25)

    return broken


@pytest.mark.parametrize(
    ("module", "name", "broken", "named"),
    [
        (integrate_and_fire, "initial_membrane_potential", _of_one_quantum_more, {"golden", "rate"}),
        (chunks, "signed_chunk", _of_one_quantum_more, {"golden", "lossless", "neurons,"}),
        (
            functional,
            "keep_mask",
            lambda original: lambda images, n, *_, **__: torch.ones(len(images), n),
            {"spike", "neurons,"},
        ),
        (chunks, "rate_chunk", _of_one_quantum_more, {"golden", "rate", "neurons,"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_part_is_named(
    module: Any, name: str, broken: Any, named: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, broken(getattr(module, name)))
    monkeypatch.setattr(kernels, "MIN_NEURON_STEPS", 1 << 40)
    monkeypatch.setattr(kernels, "_ready", set())
    assert set(failed()) == named


def test_check_that_raises_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(self_check, "convert", broken)
    checks = check_numbers()
    assert [check.passed for check in checks[:4]] == [False, True, False, False]
    assert checks[0].finding == "RuntimeError: no kernel image is available"
    assert checks[0].remedy


def test_compiled_neurons_are_not_checked_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "numba_version", lambda: None)
    assert check_numbers()[-1].passed is None


@pytest.fixture
def checked_once(monkeypatch: pytest.MonkeyPatch) -> list[self_check.NumberCheck]:
    """The checks of numbers, without computing them."""
    checks = [self_check.NumberCheck("golden network on cpu", True, "as known")]
    monkeypatch.setattr(doctor, "check_numbers", lambda devices: tuple(checks))
    return checks


@pytest.mark.usefixtures("checked_once")
def test_faults_are_named_with_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"timm": None, "plotly": None}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: installed.get(package, real(package)))
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    monkeypatch.setattr(doctor, "usable_cores", lambda: 0)
    report = mst.run_doctor()
    assert [fault.what.split(";")[0] for fault in report.faults] == [
        "torch 2.5.1+cpu is older than 2.6",
        "timm is not installed",
        f"PyTorch computes on {torch.get_num_threads()} threads, but this process may use 0 cores",
    ]
    assert all(fault.remedy for fault in report.faults)
    by_name = {extra.name: extra for extra in report.extras}
    assert not by_name["report"].is_complete
    assert by_name["report"].install_command == install_command("report")
    assert report.numbers_are_right


@pytest.mark.usefixtures("checked_once")
def test_doctor_prints_tables_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for text in (mst.__version__, torch.__version__, "golden network on cpu", "digits", "passed", "No faults found."):
        assert text in shown


def test_doctor_ends_with_1_when_a_number_is_wrong(
    checked_once: list[self_check.NumberCheck], capsys: pytest.CaptureFixture[str]
) -> None:
    checked_once.append(self_check.NumberCheck("spike masks", False, "draws: 1 instead of 2", "reinstall"))
    assert main(["doctor", "--json"]) == 1
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    assert record["numbers_are_right"] is False
    assert record["checks"][1]["finding"] == "draws: 1 instead of 2"
    assert "spike masks (draws: 1 instead of 2); reinstall" in shown.err
    assert main(["doctor"]) == 1
    assert "FAILED: spike masks. To do: reinstall" in capsys.readouterr().out
