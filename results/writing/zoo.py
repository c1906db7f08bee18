"""The networks of the zoo."""

from __future__ import annotations

from .records import ZEROS_SKIPPED, Records, coding, file_of, ratio, runs_of
from .tables import FASHION_MNIST, NETWORKS, million, named, percent, short_percent, table, times


@named("networks")
def networks(records: Records) -> list[str]:
    """Every network of the zoo under each coding."""
    rows = []
    for name, words in NETWORKS.items():
        whole = file_of(records[f"zoo/{name}"], "evaluation.json")
        for number, run in enumerate(runs_of(records[f"zoo/{name}"])):
            first = (
                [words, f"{run['num_parameters']:,}", percent(whole["ann_accuracy"])] if number == 0 else ["", "", ""]
            )
            rows.append([
                *first, coding(run), f"{run['mean_steps']:.1f}", short_percent(run["ann_accuracy"]),
                short_percent(run["snn_accuracy"]), million(run["spikes_per_image"]), f"{run['spikes_per_neuron']:.2f}",
                times(ratio(run)), times(ratio(run, baseline=ZEROS_SKIPPED)),
            ])  # fmt: skip
    columns = (
        "network", "parameters", "ANN, all test images", "coding", "steps", "ANN", "SNN", "spikes per image",
        "spikes per neuron", "energy, times the ANN's", "times the ANN's with zeros skipped",
    )  # fmt: skip
    return table(columns, rows)


@named("zoo")
def zoo(records: Records) -> list[str]:
    """Every network of the zoo in its cheapest run, by the name that commands take."""
    rows = []
    for name in NETWORKS:
        record = records[f"zoo/{name}"]
        run = runs_of(record)[-1]
        rows.append([
            f"`zoo:{name}`", f"{run['num_parameters']:,}", percent(file_of(record, "evaluation.json")["ann_accuracy"]),
            f"{run['same_answers']:,} of {run['num_images']:,}", f"{run['mean_steps']:.1f}",
            f"{run['spikes_per_neuron']:.2f}", times(ratio(run)), times(ratio(run, "45nm-memory")),
        ])  # fmt: skip
    columns = (
        "network", "parameters", "accuracy of the ANN", "SNN's answers that are the ANN's", "steps",
        "spikes per neuron", "energy, times the ANN's", "with memory",
    )  # fmt: skip
    return table(columns, rows)


@named("readme")
def readme(records: Records) -> list[str]:
    """Two networks under both codings, and one made for few spikes."""
    rows = []
    for name in ("fashion-mnist-mst", "fashion-mnist-resnet18", "fashion-mnist-resnet18-few-spikes"):
        for run in runs_of(records[f"zoo/{name}"]):
            rows.append([
                NETWORKS[name], coding(run), f"{run['mean_steps']:.0f}", short_percent(run["ann_accuracy"]),
                short_percent(run["snn_accuracy"]), f"{run['spikes_per_neuron']:.2f}", times(ratio(run)),
                times(ratio(run, "45nm-memory")),
            ])  # fmt: skip
    columns = (
        "network", "coding", "time steps", "ANN", "SNN", "spikes per neuron", "energy, times the ANN's", "with memory"
    )  # fmt: skip
    return table(columns, rows)


@named("settled")
def settled(records: Records) -> list[str]:
    """Lossless runs of all test images."""
    rows = []
    for name in FASHION_MNIST:
        (run,) = runs_of(records[f"codings/settled-{name}"])
        rows.append([
            NETWORKS[name], percent(run["ann_accuracy"]), percent(run["snn_accuracy"]), f"{run['settled_images']:,}",
            f"{run['same_answers']:,}", f"{run['largest_difference']:.1g}", f"{run['mean_steps']:.1f}",
            f"{run['spikes_per_neuron']:.2f}", times(ratio(run)),
        ])  # fmt: skip
    columns = (
        "network", "ANN", "SNN", "images that settle", "answers that are the ANN's", "largest difference of a logit",
        "steps", "spikes per neuron", "energy, times the ANN's",
    )  # fmt: skip
    return table(columns, rows)
