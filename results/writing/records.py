"""The records of this folder and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]
Record = Mapping[str, Any]
Records = Mapping[str, Record]


def read_records(folder: Path = FOLDER) -> dict[str, Record]:
    """TOPIC/NAME -> record."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*/*.json"))
    }


def file_of(record: Record, ending: str) -> Any:
    """The one kept file of a record whose path has this ending."""
    (content,) = (content for name, content in record["files"].items() if name.endswith(ending))
    return content


def runs_of(record: Record) -> list[dict[str, Any]]:
    """The runs of `benchmarks/energy_models.py` in a record."""
    return [
        run
        for name, content in record["files"].items()
        if name.endswith("energy_models.json")
        for run in content["results"]["runs"]
    ]


def all_runs(records: Records) -> Iterator[tuple[str, dict[str, Any]]]:
    """Model and run of every simulation that was priced by every cost model; the zoo's networks first."""
    for name in sorted(records, key=lambda name: (not name.startswith("zoo/"), name)):
        runs = runs_of(records[name])
        several = len({run["checkpoint"] for run in runs}) > 1
        for run in runs:
            checkpoint = Path(run["checkpoint"].removeprefix("zoo:"))
            own = f"{name}/{checkpoint.parent.name}" if several else name
            yield str(checkpoint) if run["checkpoint"].startswith("zoo:") else own, run


def printed(record: Record, number: int = 0) -> dict[str, Any]:
    """A table that a command printed."""
    return record["tables"][number]  # type: ignore[no-any-return]


FP32, ZEROS_SKIPPED, INT8, BOTH_INT8 = range(4)
"""Places of the ANNs among the ratios of a run."""


def ratio(run: Mapping[str, Any], model: str = "45nm-fp32", baseline: int = FP32) -> float | None:
    """Energy of the SNN as a multiple of an ANN's; None where there is no such ANN."""
    ratios = run["cost_models"][model].get("ratios", [])
    return ratios[baseline] if baseline < len(ratios) else None


def coding(run: Mapping[str, Any]) -> str:
    """Coding and time steps of a run."""
    return "rate" if run["coding"] == "rate" else f"lossless, {run['schedule'] or 'free'}, burst {run['burst']}"


def fp32_ratio(measurement: Mapping[str, Any]) -> float | None:
    """The first figure of the verdict of `mst measure`."""
    return measurement["verdict"]["baselines"]["fp32 ANN"]["energy_ratio"]  # type: ignore[no-any-return]
