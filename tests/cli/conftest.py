"""Figures are laid out but not rendered, except for tests that ask for `rendered_figures`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def rendered_figures() -> None:
    """Let this test render its figures."""


@pytest.fixture(autouse=True)
def _figures_without_rendering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def write_nothing(figure: Figure, path: str, **options: Any) -> None:
        Path(path).touch()

    if "rendered_figures" not in request.fixturenames:
        monkeypatch.setattr(Figure, "savefig", write_nothing)
