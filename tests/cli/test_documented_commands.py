"""Code and options of docs/networks.md, docs/placement.md and docs/codings.md work; every command parses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from mst.cli.datasets import DATASETS_VERBS
from mst.cli.parser import normalise, option_types_of, verb_parser
from mst.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "README.md", *DOCS.rglob("*.md")))
ANYTHING = re.compile(r"^(\[|\.\.\.)|\.\.\.$")
"""Words that stand for others: [options], ..."""


@pytest.mark.slow
def test_custom_network_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "networks.md").read_text(encoding="utf-8"), re.DOTALL)
    others = re.findall(r"```python\n(.*?)```", (DOCS / "placement.md").read_text(encoding="utf-8"), re.DOTALL)
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
        exec(compile(other, "placement.md", "exec"), scope)
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


parser_of = cache(verb_parser)


def commands_of(page: str) -> Iterator[str]:
    """Commands of `mst` in indented lines and in blocks of the shell."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^(?: {4}|\t)?((?:torchrun .*-m )?mst [a-z].*)$", text, re.MULTILINE):
        yield line.partition("-m mst ")[2] if line.startswith("torchrun") else line.removeprefix("mst ")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_documentation_parse(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verb, options, values and recipes exist and agree; what the commands do is tested with the verbs."""
    monkeypatch.chdir(tmp_path)
    for command in commands_of(page):
        name, *words = shlex.split(command, comments=True)
        if any(map(ANYTHING.search, words)) or name not in VERBS:
            continue
        function: Callable[..., None] = VERBS[name].load()
        if name == "datasets":
            function = DATASETS_VERBS[words.pop(0) if words else "list"]
        parser = parser_of(name, function)
        parser.instantiate(parser.parse_args(normalise(name, option_types_of(function), words)))
