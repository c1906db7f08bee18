"""The page in headless Chromium: every chart is drawn, light and dark, and nothing is complained about."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mst.experiments.run_files import read_run
from mst.report.page import build_report
from run_records import add_traces, write_diagnosis, write_measurement, write_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("plotly")
    folder = tmp_path_factory.mktemp("runs")
    write_measurement(add_traces(write_run(folder / "rate")), "measure_run_record.json")
    write_run(folder / "lossless", "lossless", accuracy=[0.5, 0.875, 0.875, 0.875])
    folders = (folder / "rate", folder / "lossless", write_diagnosis(folder / "errors"))
    return build_report([read_run(each) for each in folders], lambda files: "mst").write(folder / "report.html")


@pytest.mark.parametrize(
    ("scheme", "ink"), [("1", "rgb(28, 33, 40)"), ("0", "rgb(228, 231, 235)")], ids=["light", "dark"]
)
def test_page_is_drawn_by_a_browser_without_complaint(page: Path, scheme: str, ink: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
        f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=30000", "--enable-logging=stderr",
        "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    charts = re.findall(r'<figure class="chart[^>]*>.*?</figure>', done.stdout, re.DOTALL)
    assert len(charts) >= 10
    assert f'data-drawn="{len(charts)}"' in done.stdout
    for chart in charts:
        assert 'class="chart drawn"' in chart
        assert chart.count('class="main-svg"') >= 2
        assert re.search(r'class="(xtick|ytick)"', chart)
        assert f"fill: {ink}" in chart
