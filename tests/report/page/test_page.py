"""The page: its structure, its figures and its texts, from records made up by hand."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mst.errors import InputError
from mst.experiments.run_files import read_run
from mst.extras import install_command
from mst.files import write_json
from mst.report.page import PageReport, build_report
from mst.report.page import page as page_module
from mst.report.page.charts import Chart
from run_records import VERDICT, add_traces, change, record, write_diagnosis, write_measurement, write_run

HOSTILE = "<script>alert('x')</script>\"&"
BEFORE = Path(__file__).parents[2] / "data" / "before"


def report(*folders: Path) -> PageReport:
    return build_report([read_run(folder) for folder in folders], lambda files: f"mst {files.verb} again")


def html_of(*folders: Path) -> str:
    path = report(*folders).write(folders[0] / "report.html", library="/* plotly.js */")
    return path.read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """Elements of a page; every element that is opened is closed, in order."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.texts.append(data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for name, each in self.attributes if name == tag and (value := each.get(attribute))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with every section."""
    folder = tmp_path_factory.mktemp("runs")
    write_measurement(add_traces(write_run(folder / "rate")), "measure_run_record.json")
    write_run(folder / "lossless", "lossless", accuracy=[0.5, 0.875, 0.875, 0.875])
    add_traces(folder / "lossless", sends_changes=True)
    return html_of(folder / "rate", folder / "lossless", write_diagnosis(folder / "errors"), BEFORE / "sweep")


def test_page_has_one_heading_landmarks_and_links_to_every_section(whole: str) -> None:
    page = Parsed(whole)
    assert {tag: page.tags[tag] for tag in ("h1", "main", "nav", "header", "footer")} == dict.fromkeys(
        ("h1", "main", "nav", "header", "footer"), 1
    )
    sections = page.values("section", "id")
    links = [link.removeprefix("#") for link in page.values("a", "href")]
    assert links == ["main", *sections]
    assert sections == [
        "summary", "accuracy", "scores", "energy", "rates", "rasters", "membranes", "attention", "sweep", "errors",
        "what", "assumptions", "repeat",
    ]  # fmt: skip
    ids = [each["id"] for _, each in page.attributes if each.get("id")]
    assert len(ids) == len(set(ids))
    named = [each["aria-labelledby"] for _, each in page.attributes if each.get("aria-labelledby")]
    assert set(named) <= set(ids)


def test_page_describes_its_pictures_and_names_its_rows(whole: str) -> None:
    page = Parsed(whole)
    charts = [each for tag, each in page.attributes if tag == "figure"]
    assert len(charts) >= 7
    assert page.tags["figure"] == len(charts)
    assert len(page.values("img", "alt")) == page.tags["img"] == len(charts) + 2  # and the traced images
    assert all(len(label or "") > 18 for label in page.values("img", "alt"))
    assert page.tags["caption"] == page.tags["table"]
    assert {each.get("scope") for tag, each in page.attributes if tag == "th"} == {"col", "row"}
    assert page.values("html", "lang") == ["en"]
    assert all(each.get("tabindex") == "0" for tag, each in page.attributes if each.get("class") == "scroll")


def test_page_loads_nothing(whole: str) -> None:
    page = Parsed(whole)
    assert not page.tags["link"]
    assert not page.values("script", "src")
    assert all(source.startswith("data:") for source in page.values("img", "src"))
    assert "default-src 'none'" in page.values("meta", "content")[0]
    style = whole[whole.index("<style>") : whole.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_page_holds_the_figures_of_the_records(whole: str) -> None:
    texts = " ".join(Parsed(whole).texts)
    for text in ("lossless, weighted, burst 4", "87.50", "0.28x", "12.7", "Horowitz", "Zeros save nothing.",
                 "Spends 0.28x its fp32 ANN", "Yan", "rate: Cut.",
                 "ANN: bag; rate: bag after 3 steps; lossless: bag after 3 steps", "0.1 (rate)",
                 "mst simulate again", "mst measure again", "abababababab...",
                 "error of the output 12.5 %", "cannot carry the network (a norm of all images)"):  # fmt: skip
        assert text in texts, text


def test_page_draws_the_accuracy_of_every_run_and_of_the_ann_once(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "a"), write_run(tmp_path / "b", "lossless", accuracy=[0.5, 0.875, 0.875, 0.875]))
    (chart,) = [chart for chart in page.charts if chart.name == "accuracy-against-time"]
    assert [line.label for line in chart.lines] == ["a", "b", "ANN, 87.50 %"]
    assert list(chart.lines[1].y) == [50.0, 87.5, 87.5, 87.5]
    table = chart.table()
    assert table is not None
    assert table.rows[0] == ["1", "25", "50", "87.5"]


def test_page_joins_a_measurement_with_the_simulation_of_its_folder_only_where_they_are_one_run(tmp_path: Path) -> None:
    write_measurement(write_run(tmp_path), "measure_run_record.json")
    assert len(section(report(tmp_path), "Main results")) == 1
    change(tmp_path / "measurement.json", num_steps=8)
    assert [row[0] for row in section(report(tmp_path), "Main results")] == [
        f"{tmp_path.name} (measure)", f"{tmp_path.name} (simulate)"
    ]  # fmt: skip


def section(page: PageReport, caption: str) -> list[list[str]]:
    """Rows of the table with this caption."""
    blocks = [block for each in page.page.sections for block in each.blocks]
    (table,) = [block for block in blocks if getattr(block, "caption", "") == caption]
    return [list(row) for row in table.rows]  # type: ignore[union-attr]


def test_page_labels_folders_of_one_name_by_their_parents(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run"))
    assert [row[0] for row in section(page, "Main results")] == ["a/run", "b/run"]


def test_page_shows_a_run_that_is_given_twice_once(tmp_path: Path) -> None:
    assert len(section(report(write_run(tmp_path), tmp_path / "run_record.json"), "Main results")) == 1


def test_page_lists_what_differs_between_runs(tmp_path: Path) -> None:
    page = report(write_run(tmp_path / "a"), write_run(tmp_path / "b", masking_ratio=0.5))
    assert ["Masking ratio p", "0", "0.5"] in section(page, "What differs between the runs")


def test_page_escapes_hostile_texts(tmp_path: Path) -> None:
    folder = tmp_path / "a$b&c <i>"
    site = {"firing_rate": 0.1, "spikes": 1}
    write_run(folder, checkpoint=HOSTILE, dataset=HOSTILE, sites={HOSTILE: site, "</script>": site, "$x_1$": site})
    add_traces(folder, class_names=(HOSTILE, "</script>"))
    verdict = VERDICT | {"text": HOSTILE, "baselines": {HOSTILE: {"note": HOSTILE}}}
    write_measurement(folder, "measure_run_record.json", assumptions=[HOSTILE], verdict=verdict, sites={HOSTILE: {}})
    text = html_of(folder)
    assert HOSTILE not in text
    assert "<script>alert" not in text
    page = Parsed(text)  # a name that closes a script would leave elements open
    assert HOSTILE in page.texts
    assert page.tags["i"] == 0


def test_page_shows_results_of_verbs_without_a_section(tmp_path: Path) -> None:
    write_json(tmp_path / "run_record.json", record("evaluate", {"checkpoint": "a"}, accuracy=0.75))
    assert section(report(tmp_path), f"{tmp_path.name}: results of mst evaluate") == [["accuracy", "0.75"]]


def test_page_refuses_a_record_with_values_of_another_kind(tmp_path: Path) -> None:
    write_run(tmp_path, accuracy="high")
    with pytest.raises(InputError, match="simulation.json: accuracy is not a list; run the verb again"):
        report(tmp_path)
    write_run(tmp_path, options={"coding": "rate", "burst": "many"})
    with pytest.raises(InputError, match="options are not those of a coding"):
        report(tmp_path)


def test_page_without_plotly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly")

    monkeypatch.setattr("mst.report.page.report.plotly_library", missing)
    with pytest.raises(InputError, match=re.escape(install_command("report"))):
        report(write_run(tmp_path)).write(tmp_path / "report.html")


def test_page_is_the_same_when_it_is_written_again(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert html_of(tmp_path) == html_of(tmp_path)


def test_page_embeds_the_library_once(tmp_path: Path) -> None:
    text = html_of(write_run(tmp_path))
    assert text.count(page_module._packed("/* plotly.js */")) == 1


def test_figures_are_written_as_svg_and_png(tmp_path: Path) -> None:
    page = report(write_run(tmp_path))
    written = page.write_figures(tmp_path / "figures")
    assert {path.name for path in written} == {
        f"{chart.name}.{kind}" for chart in page.charts for kind in ("svg", "png")
    }
    assert b"var(--" not in (tmp_path / "figures" / "firing-rates.svg").read_bytes()
    assert (tmp_path / "figures" / "firing-rates.png").read_bytes().startswith(b"\x89PNG")


def test_still_pictures_follow_the_theme_of_the_reader(whole: str) -> None:
    sources = Parsed(whole).values("img", "src")
    svg = base64.b64decode(sources[0].partition(",")[2]).decode()
    assert "prefers-color-scheme:dark" in svg
    assert "var(--c0)" in svg
    assert not re.search(r"\burl\((?!#)", svg)


def test_charts_hold_numbers_and_names_of_colours_only(whole: str) -> None:
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', whole)
    figures = [json.loads(text) for text in scripts]
    assert len(figures) >= 7
    colours = {
        trace.get("line", trace.get("marker", {})).get("color", "--") for each in figures for trace in each["data"]
    }
    assert all(colour.startswith("--") for colour in colours)


def chart_named(page: PageReport, name: str) -> Chart:
    (chart,) = [chart for chart in page.charts if chart.name == name]
    return chart


def test_scores_show_the_images_own_class_and_the_ann(tmp_path: Path) -> None:
    chart = chart_named(report(add_traces(write_run(tmp_path))), "scores-0-0")
    lines = {line.label: line for line in chart.lines if line.label}
    assert list(lines) == ["bag", "boot (the image's class)"]
    assert list(lines["bag"].y) == [0.0, 2.0, 3.0]
    assert lines["bag"].width < lines["boot (the image's class)"].width
    assert [(line.x, line.y) for line in chart.lines if line.style == "points"] == [((3,), (3.0,)), ((3,), (1.25,))]


def test_rasters_show_every_spike_and_its_sign(tmp_path: Path) -> None:
    page = report(add_traces(write_run(tmp_path, "lossless"), sends_changes=True))
    positive, negative = chart_named(page, "raster-0-0-0").lines
    assert list(zip(positive.x, positive.y, strict=True)) == [(1, 1), (2, 0), (2, 1)]
    assert (negative.x, negative.y) == ([3], [1])
    assert "2 of 3 recorded neurons fire, in 4 places" in chart_named(page, "raster-0-0-0").caption


def test_rasters_leave_neurons_out_where_there_are_too_many_spikes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mst.report.page.sections.neurons._MOST_SPIKES", 2)
    chart = chart_named(report(add_traces(write_run(tmp_path))), "raster-0-0-0")
    assert chart.caption.startswith("1 of 8 neurons, 3 steps; 3 were recorded.")
    assert [list(line.y) for line in chart.lines] == [[0]]


def test_membranes_show_the_most_and_the_least_active_neuron(tmp_path: Path) -> None:
    chart = chart_named(report(add_traces(write_run(tmp_path))), "membrane-0-0")
    assert [line.label for line in chart.lines] == ["neuron 3", "neuron 0", ""]
    assert list(chart.lines[0].y) == [0.75, 0.75, 0.75]
    assert chart.y_label == "membrane potential (thresholds)"


def test_attention_is_shown_as_tiles_of_windows_and_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = add_traces(write_run(tmp_path))
    chart = chart_named(report(folder), "attention-0-0")
    assert [list(row) for row in chart.values] == [
        [0, 1, None, 4, 5], [2, 3, None, 6, 7], [None] * 5, [8, 9, None, 12, 13], [10, 11, None, 14, 15]
    ]  # fmt: skip
    monkeypatch.setattr("mst.report.page.sections.images._MOST_CELLS", 8)
    chart = chart_named(report(folder), "attention-0-0")
    assert len(chart.values) == 2
    assert chart.caption.endswith("The first 1 of 2 windows and 2 of 2 heads.")


def test_damaged_traces_are_refused(tmp_path: Path) -> None:
    folder = add_traces(write_run(tmp_path))
    (folder / "traces.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="traces.safetensors: it cannot be read"):
        report(folder)
