"""The code and the options shown in docs/networks.md and docs/codings.md work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mst.cli.parser import option_types_of
from mst.cli.verbs import VERBS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_custom_network_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, *others = re.findall(r"```python\n(.*?)```", (DOCS / "networks.md").read_text(encoding="utf-8"), re.DOTALL)
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
    assert {line.site: line.masking_ratio for line in scope["snn"].sites}["relu"] == 0.25  # type: ignore[attr-defined]
    assert scope["again"].relu.masking_ratio == 0.25  # type: ignore[attr-defined]
    scope = {"__name__": "example"}
    for other in others:
        exec(compile(other, "networks.md", "exec"), scope)
    said = capsys.readouterr().out
    energies = dict(re.findall(r"(activations|products): ([\d.]+) of the ANN's energy", said))
    assert float(energies["products"]) < 0.5 * float(energies["activations"])
    settled = re.search(r"^(\d+) tensor\(([\d.e-]+)", said, re.MULTILINE)
    assert settled is not None
    assert settled[1] == "4"
    assert float(settled[2]) < 1e-5
    assert "site='map.input_site_3'" in said
    assert "site='einsum_6.right'" in said
    assert "blocks.1.mlp.act (gelu)" in said


def test_codings_of_the_documentation_work(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "codings.md").read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "codings.md", "exec"), scope)
    said = capsys.readouterr().out
    assert said.startswith("60 of 60 images settled after")
    difference = re.search(r"differs from the ANN by (\S+)", said)
    assert difference is not None
    assert float(difference[1]) < 1e-4
    assert scope["fast"].mean_steps <= scope["seen"].mean_steps  # type: ignore[attr-defined]


def test_options_of_the_documentation_exist() -> None:
    """Every option that docs/codings.md names is one of `mst simulate`."""
    known = set(option_types_of(VERBS["simulate"].load()))
    names = re.findall(r"`--([a-z.-]+)", (DOCS / "codings.md").read_text(encoding="utf-8"))
    assert len(names) > 8
    assert {name.replace("-", "_") for name in names} <= known
