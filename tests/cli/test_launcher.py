"""Errors under torchrun: one line, from the process that failed first, which is also the end of torchrun's report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import mst
from mst.cli import launcher
from mst.cli.main import main, run_reporting_errors
from mst.cli.released import main as released

FAILS_IN_ONE = """
import os, sys
from mst.cli.main import run_reporting_errors
from mst.distributed import join_processes
from torch import distributed

def run():
    join_processes("cpu")
    if os.environ["RANK"] in sys.argv[1]:
        raise ValueError("broken")
    distributed.barrier()

sys.exit(run_reporting_errors(run, "mst"))
"""


def fail() -> None:
    raise mst.InputError("broken", remedy="mend it")


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(launcher.time, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize("command", ["mst train --dataset digit", "mst train --datset digits", "main.py --dataste x"])
def test_report_of_the_launcher_shows_the_line_that_is_printed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # a run that is refused may leave its folder
    monkeypatch.setenv(launcher.REPORT, str(tmp_path / "error.json"))
    program, *arguments = command.split()
    assert {"mst": main, "main.py": released}[program](arguments) in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    failure = ProcessFailure(0, 1, 1, str(tmp_path / "error.json"))
    assert f"traceback : {line}\n" in str(ChildFailedError("mst", {0: failure}))


@pytest.mark.parametrize(("rank", "label"), [("0", ""), ("1", "process 1: ")])
def test_process_0_waits_for_the_shortest_time(
    rank: str, label: str, waited: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in (("RANK", rank), ("WORLD_SIZE", "2"), (launcher.REPORT, str(tmp_path / "error.json"))):
        monkeypatch.setenv(name, value)
    assert run_reporting_errors(fail, "mst") == 1
    assert capsys.readouterr().err == f"mst: error: {label}broken; mend it\n"
    assert waited == [launcher.WAIT * (1 + int(rank))]
    assert launcher.WAIT >= 1  # the report compares times in whole seconds


def test_process_without_a_launcher_neither_waits_nor_writes(
    waited: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(launcher.REPORT, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_reporting_errors(fail, "mst") == 1
    assert capsys.readouterr().err == "mst: error: broken; mend it\n"
    assert waited == []


def test_report_that_cannot_be_written_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(launcher.REPORT, str(tmp_path / "removed" / "error.json"))
    assert run_reporting_errors(fail, "mst") == 1
    assert capsys.readouterr().err == "mst: error: broken; mend it\n"


@pytest.mark.slow
@pytest.mark.parametrize(("failing", "label"), [("0", ""), ("1", "process 1: "), ("01", "")])
def test_report_of_torchrun_ends_with_the_line_of_a_process(failing: str, label: str, tmp_path: Path) -> None:
    """On a busy machine both processes may print before torchrun ends the second one, so that is allowed."""
    script = tmp_path / "fails.py"
    script.write_text(FAILS_IN_ONE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(mst.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, str(script), failing], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    lines = [each for each in done.stderr.splitlines() if each.startswith("mst: error: ")]
    assert f"mst: error: {label}broken" in lines
    assert any(f"traceback : {line}\n" in done.stderr.partition("Root Cause")[2] for line in lines)
