"""The page of `mst demo` in headless Chromium: a run fills it, nothing is complained about or loaded from elsewhere."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="no Gradio"),
]

STEPS = """(() => {
  const field = [...document.querySelectorAll('input[type=number]')].find(each => each.max === '128');
  field.value = 4; field.dispatchEvent(new Event('input', {bubbles: true})); return true;
})()"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server that is a process of its own: Gradio leaves threads and sockets behind."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "mst", "demo", "--port", str(port)]) as server:
        for _ in range(1200):
            with socket.socket() as probe:
                if server.poll() is not None or probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
        server.terminate()


COLOURS = """(() => {
  const texts = [...document.querySelectorAll('.info-text, .min_value, .max_value')];
  return texts.map(each => getComputedStyle(each).color.match(/\\d+/g).slice(0, 3).map(Number));
})()"""


def test_small_texts_are_dark_on_white_and_edges_are_in_line(url: str, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.show_as(1300, 900, "light")
        browser.open(url)
        browser.wait_for("document.querySelectorAll('.seen img, #run').length === 2")
        browser.run("[...document.querySelectorAll('button')].find(each => each.textContent.includes('Masks')).click()")
        browser.wait_for("document.querySelector('.info-text') !== null")
        colours = browser.run(COLOURS)
        assert len(colours) >= 3
        assert all(max(colour) < 118 for colour in colours)  # of grey, the lightest with a contrast of 4.5
        for inside, beside in (("#output .watch", "#run"), ("#preview .watch", "#network")):
            edges = [f"document.querySelector('{each}').getBoundingClientRect().left" for each in (inside, beside)]
            assert browser.run(edges[0]) == pytest.approx(browser.run(edges[1]), abs=1), inside


def test_a_run_fills_the_page_without_complaint(url: str, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.show_as(1300, 900, "dark")
        browser.open(url)
        browser.wait_for("document.querySelectorAll('.seen img, #run').length === 2")
        assert browser.run("getComputedStyle(document.querySelector('#output .watch')).color") == "rgb(228, 231, 235)"
        browser.run(STEPS)
        browser.run("document.querySelector('#run').click()")
        said = browser.wait_for("document.querySelector('#output [role=status]')?.textContent")
        assert said == "Rate coding: 0 after 4 steps; Lossless coding: 0 after 3 steps. The ANN's answer: 0."
        assert browser.run("document.querySelectorAll('#output .scores li').length") == 20
        assert browser.run("[...document.querySelectorAll('#output img')].every(each => each.naturalWidth > 1)")
        assert browser.run("document.querySelectorAll('#output .panels .panel').length") == 2
        assert browser.complaints == []
        strangers = [each for each in browser.requested if not each.startswith((url, "data:", "blob:"))]
        assert strangers == []
