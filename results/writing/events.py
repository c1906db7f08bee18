"""Event cameras."""

from __future__ import annotations

from .records import Records, file_of, fp32_ratio
from .tables import at_steps, named, percent, table, times


@named("events")
def events(records: Records) -> list[str]:
    """Whole recordings and slices over time: accuracy and cost."""
    record, rows, steps = records["events/digits-dvs"], [], (1, 2, 4, 8, 16, 32, 64)
    for folder, words in (("whole", "the whole recording at every step"), ("slices", "slice t at step t")):
        run, cost = file_of(record, f"{folder}/simulation.json"), file_of(record, f"{folder}-measured/measurement.json")
        rows.append([
            words, *at_steps(run["accuracy"], steps), percent(run["ann_accuracy"]), f"{cost['spikes_per_neuron']:.2f}",
            times(fp32_ratio(cost)),
        ])  # fmt: skip
    columns = ("SNN sees", *(f"T = {step}" for step in steps), "ANN", "spikes per neuron", "energy, times the ANN's")
    return table(columns, rows)


@named("events-windows")
def events_windows(records: Records) -> list[str]:
    """What training on random stretches of time is worth."""
    long, usual = records["events/digits-dvs-windows"], records["events/digits-dvs"]
    trained = {
        "whole recordings": (
            file_of(long, "long-whole/simulation.json"),
            file_of(long, "long-8/simulation.json"),
            file_of(long, "long-64/simulation.json"),
        ),
        "random stretches of time (the zoo's network)": (
            file_of(usual, "whole/simulation.json"),
            file_of(long, "long-not-8/simulation.json"),
            file_of(usual, "slices/simulation.json"),
        ),
    }
    rows = [
        [words, percent(runs[0]["ann_accuracy"]), *(percent(run["accuracy"][-1]) for run in runs)]
        for words, runs in trained.items()
    ]
    return table(("trained on", "ANN", "SNN, whole recording", "8 slices", "64 slices"), rows)
