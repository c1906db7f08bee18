"""Measure the networks of the zoo and write digests and figures into their cards.

    python benchmarks/zoo_cards.py --data-path FOLDER [NAME ...]

To add a network: put its file into src/mst/zoo/weights, describe it in src/mst/zoo/cards.yaml with the options of its
runs and the number of images, then run this.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

import mst
from mst.experiments import check_zoo
from mst.zoo import cards, zoo_file

FOLDER = Path(mst.__file__).parent / "zoo"
FIGURES = ("ann_accuracy", "snn_accuracy", "steps", "spikes_per_neuron", "energy_ratio")


def main() -> None:
    """Measure the networks named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data-path", type=Path)
    options = parser.parse_args()
    path = FOLDER / "cards.yaml"
    content: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = options.names or list(content)
    for name, entry in content.items():
        if name not in names and "sha256" in entry:
            continue
        entry["sha256"] = hashlib.sha256((FOLDER / "weights" / f"{name}.safetensors").read_bytes()).hexdigest()
        entry.setdefault("accuracy", 0.0)
        for run in entry["runs"]:
            run.update({figure: run.get(figure, 0.0) for figure in FIGURES})
    for name in names:
        _write(path, content)
        cards.cache_clear()
        zoo_file.cache_clear()
        data_path = options.data_path if content[name]["dataset"] == "fashion-mnist" else None
        found = check_zoo(name, data_path)
        content[name]["accuracy"] = round(found.accuracy, 6)
        content[name]["runs"] = [
            {"options": run.options, "images": run.images}
            | {figure: float(f"{asdict(run)[figure]:.5g}") for figure in FIGURES}
            for run in found.runs
        ]
        print(name, *(found.differences or ["as before"]), sep="\n  ", flush=True)
    _write(path, content)


def _write(path: Path, content: dict[str, dict[str, Any]]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=110), encoding="utf-8")


if __name__ == "__main__":
    main()
