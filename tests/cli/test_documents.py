"""The code that docs/networks.md shows does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_own_network_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "networks.md").read_text(encoding="utf-8"), re.DOTALL)
    own = code[code.index("class Softly") : code.index("torch.manual_seed")]
    assert len([line for line in own.splitlines() if line.strip()]) <= 30
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "networks.md", "exec"), scope)
    said = capsys.readouterr().out
    assert re.search(r"norm1\W+norm2", said)
    simulated = scope["simulated"]
    assert simulated.accuracy[-1] > 0.9  # type: ignore[attr-defined]
    assert set(simulated.sites) == {"relu", "softly", "relu_2"}  # type: ignore[attr-defined]
    assert {line.site: line.masking_ratio for line in scope["snn"].account}["relu"] == 0.25  # type: ignore[attr-defined]
    assert scope["again"].relu.masking_ratio == 0.25  # type: ignore[attr-defined]
