"""Csv files of all simulations that were priced by every cost model, a file for each data set."""

from __future__ import annotations

import csv
import io

from .records import Records, all_runs, ratio

CSV_COLUMNS = (
    "model", "top1", "top1_err", "ann_top1", "coding", "schedule", "burst", "time_steps", "num_images", "param_count",
    "num_neurons", "spikes_per_neuron", "spikes_per_image", "energy_uj", "energy_ratio", "energy_ratio_zeros_skipped",
    "energy_ratio_int8_ann", "energy_ratio_8_bit_weights", "energy_ratio_memory",
)  # fmt: skip


def _rows(records: Records) -> dict[str, list[list[object]]]:
    """Data set -> rows of its csv file."""
    found: dict[str, list[list[object]]] = {}
    for model, run in all_runs(records):
        accuracy = 100 * run["snn_accuracy"]
        cost = run["cost_models"]["45nm-fp32"]
        ratios = [f"{each:.4g}" if each is not None else "" for each in cost["ratios"]] + [""] * 4
        memory = ratio(run, "45nm-memory")
        found.setdefault(run["dataset"], []).append([
            model, f"{accuracy:.3f}", f"{100 - accuracy:.3f}", f"{100 * run['ann_accuracy']:.3f}", run["coding"],
            "" if run["coding"] == "rate" else run["schedule"], run["burst"], f"{run['mean_steps']:g}",
            run["num_images"], f"{run['num_parameters'] / 1e6:.3f}", run["num_neurons"],
            f"{run['spikes_per_neuron']:.4g}", f"{run['spikes_per_image']:.0f}", f"{cost['snn_energy_pj'] * 1e-6:.4g}",
            *ratios[:4], f"{memory:.4g}",
        ])  # fmt: skip
    return {name: sorted(rows, key=lambda row: (str(row[0]), -float(str(row[1])))) for name, rows in found.items()}


def csv_texts(records: Records) -> dict[str, str]:
    """Name of a csv file -> its text: accuracies in percent, parameters in millions, energies by 45nm-fp32."""
    texts = {}
    for dataset, rows in _rows(records).items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([CSV_COLUMNS, *rows])
        texts[f"results-{dataset}.csv"] = text.getvalue()
    return texts
