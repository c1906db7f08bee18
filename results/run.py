"""Make run records anew: run the commands of results/runs.yaml and keep what they wrote.

    python results/run.py --data-path FOLDER                  every record; some hours on two CPU cores
    python results/run.py zoo codings/digits-input-steps ...  a topic, or single records
    python results/run.py few-spikes --collect --work .       what the commands have left under runs/; nothing runs
    python results/run.py --list

Commands run in the folder --work, where networks that one of them trains stay for the next. A record is written to
results/TOPIC/NAME.json: the commands, versions, commit, the json and csv files that the record asks for, and the tables
in Markdown that were printed. Long parts that no table reads are left out, numbers are rounded to 6 digits, and no path
of the machine is kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent
FACTS = ("finished", "versions", "git_commit", "machine", "threads", "neurons_on_cpu")
"""Entries of a run record that say how it was made."""

LEFT_OUT = {
    "settings", "verb", "operations", "functions", "sites", "budget", "assumptions", "constants",
    "neurobench", "seconds", "seconds_per_image", "images_per_second", "time_ratio", "top5_accuracy", "data_path",
    "output", "early_exit_calibration", "snn_energy_pj_after_step", "whole_energy_pj_after_step", *FACTS,
}  # fmt: skip
"""Entries of the commands' files that no table reads, that differ from machine to machine, or that are kept once."""


@dataclass(frozen=True)
class Run:
    """An entry of runs.yaml."""

    name: str
    """TOPIC/NAME of the record."""

    commands: tuple[str, ...]
    """Run one after another; FOLDER stands for the data sets."""

    reads: tuple[str, ...]
    """Json and csv files that the commands write, as globs in the folder they run in."""

    @property
    def path(self) -> Path:
        """The file of the record."""
        return HERE / f"{self.name}.json"


def read_runs() -> list[Run]:
    """All entries; one with `each` stands for several, with NAME replaced by each of its names."""
    runs = []
    for entry in yaml.safe_load((HERE / "runs.yaml").read_text(encoding="utf-8")):
        for each in entry.get("each", [""]):
            name = entry["record"].replace("NAME", each)
            fields = (
                tuple(text.replace("NAME", each) for text in entry.get(kind, ())) for kind in ("commands", "reads")
            )
            runs.append(Run(name, *fields))
    return runs


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="topics or records; all by default")
    parser.add_argument("--data-path", type=Path, default=Path("data"), help="folder with Fashion-MNIST's files")
    parser.add_argument("--work", type=Path, help="folder for what the commands write; by default a temporary one")
    parser.add_argument("--missing", action="store_true", help="only records that are not there")
    parser.add_argument("--collect", action="store_true", help="run nothing; read what --work holds already")
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    options = parser.parse_args()
    wanted = [run for run in read_runs() if not options.names or {run.name, run.name.split("/")[0]} & {*options.names}]
    unknown = {*options.names} - {name for run in wanted for name in (run.name, run.name.split("/")[0])}
    if unknown:
        sys.exit(f"no such record: {', '.join(sorted(unknown))}; --list shows all")
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        for run in wanted:
            if options.missing and run.path.exists():
                continue
            print(f"# {run.name}", *run.commands, sep="\n", flush=True)
            if not options.list:
                printed = "" if options.collect else run_commands(run, work, options.data_path.resolve())
                write(run.path, record(run, work, printed))


def run_commands(run: Run, work: Path, data_path: Path) -> str:
    """Run the commands of a record; what they print."""
    work.mkdir(parents=True, exist_ok=True)
    return "\n".join(output_of(command, work, data_path) for command in run.commands)


def record(run: Run, work: Path, printed: str) -> dict[str, Any]:
    """What the commands wrote and printed."""
    paths = [path for pattern in run.reads for path in sorted(work.glob(pattern))]
    files = {path.relative_to(work).as_posix(): content_of(path) for path in paths}
    if run.reads and not files:
        sys.exit(f"{run.name}: {work} does not hold {', '.join(run.reads)}")
    made = next((content for content in files.values() if "versions" in content), None) or made_now()
    return {
        "commands": run.commands,
        **{name: made[name] for name in FACTS if name in made},
        "files": {name: trimmed(content) for name, content in files.items()},
        "tables": list(tables_in(printed)),
    }


def content_of(path: Path) -> Any:
    """A json file, or the rows of a csv file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    return [{name: number_or_text(cell) for name, cell in row.items()} for row in csv.DictReader(text.splitlines())]


def number_or_text(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def output_of(command: str, work: Path, data_path: Path) -> str:
    """Run a command; what it prints is shown and returned."""
    program, *words = shlex.split(command.replace("FOLDER", shlex.quote(str(data_path))))
    if program == "mst":
        words = ["-m", "mst", *words]
    elif words[0].startswith("benchmarks/"):
        words[0] = str(ROOT / words[0])
    with subprocess.Popen(
        [sys.executable, *words], cwd=work, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"failed with {process.returncode}: {command}")
    return "".join(lines)


def tables_in(text: str) -> Iterator[dict[str, Any]]:
    """The tables in Markdown of a text, each with the last line before it as its title."""
    title, rows = "", []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        if len(rows) > 2:
            yield {"title": title, "columns": rows[0], "rows": rows[2:]}
        rows = []
        title = line.strip("# ") or title


def made_now() -> dict[str, Any]:
    """Versions and commit, of commands that write no record."""
    from mst.experiments.records import run_record

    return run_record("", {}, {})


def trimmed(value: Any) -> Any:
    """A value without the entries left out, its numbers rounded to 6 digits."""
    if isinstance(value, Mapping):
        return {name: trimmed(each) for name, each in value.items() if name not in LEFT_OUT}
    if isinstance(value, list):
        return [trimmed(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record; a list of numbers stands on one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main()
