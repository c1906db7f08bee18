"""Commands that must fail, and the one line that they print."""

from __future__ import annotations

import pytest

from mst.cli.main import main


def fails(arguments: list[str], capfd: pytest.CaptureFixture[str], code: int = 1) -> str:
    """Run a command that must fail; return the one line that it prints."""
    capfd.readouterr()
    assert main(arguments) == code
    error = capfd.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("mst: error:")]
    assert len(lines) == 1
    assert error.endswith(lines[0] + "\n")
    return lines[0]
