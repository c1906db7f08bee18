"""The site needs no network. It is built where its packages are installed (`make docs`)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_pages_load_nothing_from_the_network(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name)
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    foreign = re.compile(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//[^"]*"|<link[^>]*href="(?:https?:)?//[^"]*"')
    assert {page.name: foreign.findall(page.read_text(encoding="utf-8")) for page in pages if
            foreign.search(page.read_text(encoding="utf-8"))} == {}  # fmt: skip
    copies = {
        src for page in pages for src in re.findall(r'src="([^"]*iframe-worker\.js)"', page.read_text(encoding="utf-8"))
    }
    assert {"javascripts/iframe-worker.js", "../javascripts/iframe-worker.js"} <= copies
