"""Stock Transformers with sites at their products."""

from __future__ import annotations

from .records import Records, file_of, printed, ratio, runs_of
from .tables import named, percent, table, times


@named("vit-bits")
def vit_bits(records: Records) -> list[str]:
    """Accuracy of a ViT quantised without training, by bits and scales."""
    found: dict[str, list[str]] = {}
    for bits, _, accuracy, difference in printed(records["stock/vit-bits"])["rows"]:
        found.setdefault(bits, []).append(f"{accuracy} ({difference})")
    return table(
        ("bits", "one scale for each site", "for each channel"), [[bits, *cells] for bits, cells in found.items()]
    )


@named("swin-convnext")
def swin_convnext(records: Records) -> list[str]:
    """A Swin and a ConvNeXt: difference to the float network by bits, one scale for each site; as SNNs at 6 bits."""
    rows: list[list[str]] = []
    bits: list[str] = []
    for name, words in (("swin", "Swin, 24 wide, two stages of two blocks"), ("convnext", "ConvNeXt, 48 and 96 wide")):
        accuracies, snn = records[f"stock/{name}"]["tables"][-2:]
        in_float = accuracies["title"].split(": ")[1].split(" in float")[0]
        changes = {row[0]: row[3] for row in accuracies["rows"] if row[1] == "per tensor"}
        bits = [*changes]
        found = dict(zip(snn["columns"], snn["rows"][0], strict=True))
        rows.append([
            words, in_float, *changes.values(), f"{found['answers of the ANN']} of {found['images']}",
            found["steps, mean"], found["spikes per neuron"], found["maps and products"],
        ])  # fmt: skip
    columns = (
        "network", "float", *(f"{each} bits" for each in bits), "SNN's answers that are the ANN's", "steps",
        "spikes per neuron", "maps and products",
    )  # fmt: skip
    return table(columns, rows)


SNN_COLUMNS = {
    "schedule": "schedule",
    "answers of the ANN": "answers that are the ANN's",
    "steps, mean": "steps",
    "spikes per neuron": "spikes per neuron",
    "maps and products": "maps and products",
    "functions, SNN": "functions",
    "functions, ANN": "functions of the ANN",
}
"""Column of product_rows.py -> heading."""


@named("vit-schedules")
def vit_schedules(records: Records) -> list[str]:
    """Steps, spikes and energy of the ViT by schedule; one scale for each site, in the last row for each channel."""
    rows = []
    for found in records["stock/vit-schedules"]["tables"][-2:]:
        by_channel = "channel" in found["title"]
        places = [found["columns"].index(name) for name in SNN_COLUMNS]
        for schedule, *cells in ([row[place] for place in places] for row in found["rows"]):
            if not by_channel or schedule == "free, burst 4":
                rows.append([schedule + (", a scale for each channel" if by_channel else ""), *cells])
    return table(list(SNN_COLUMNS.values()), rows)


@named("vit-powers")
def vit_powers(records: Records) -> list[str]:
    """Levels that are sums of a few powers of two."""
    zoo, few = records["zoo/fashion-mnist-vit-6-bits"], records["stock/vit-powers"]
    runs = [("6", "any", file_of(zoo, "evaluation.json"), runs_of(zoo)[0])]
    for bits, powers, run in zip(("6", "6", "8"), ("2", "1", "1"), runs_of(few), strict=True):
        whole = file_of(few, f"{2 ** int(bits) - 1}-{powers}-all/evaluation.json")
        runs.append((bits, f"at most {powers}", whole, run))
    rows = [
        [
            bits, powers, percent(whole["ann_accuracy"]), f"{run['mean_steps']:.1f}",
            f"{run['spikes_per_neuron']:.2f}", times(ratio(run)), times(ratio(run, "45nm-memory")),
        ]
        for bits, powers, whole, run in runs
    ]  # fmt: skip
    columns = (
        "bits", "powers of two in a level", "accuracy", "steps", "spikes per neuron", "energy, times the ANN's",
        "with memory",
    )  # fmt: skip
    return table(columns, rows)


SHOWN_OF_DEPTH = (
    "weighted, burst 1", "weighted, burst 4", "free, burst 1, stagger 0", "free, burst 1, stagger 0.5",
    "free, burst 1, stagger 1", "free, burst 2, stagger 0.25", "free, burst 4, stagger 0",
)  # fmt: skip


@named("depth")
def depth(records: Records) -> list[str]:
    """Steps, spikes and energy against depth."""
    found: dict[str, list[str]] = {}
    sites: list[str] = []
    for _, number, schedule, steps, spikes, cost in printed(records["stock/depth"])["rows"]:
        if schedule in SHOWN_OF_DEPTH:
            found.setdefault(schedule, []).append(f"{steps} / {spikes} / {cost}")
        if number not in sites:
            sites.append(number)
    return table(
        ["schedule", *(f"{number} sites" for number in sites)], [[name, *cells] for name, cells in found.items()]
    )


@named("functions")
def functions(records: Records) -> list[str]:
    """How often functions are computed and what they cost."""
    found = printed(records["stock/functions"])
    columns = [*found["columns"]]
    rows = [[row[0], row[2], row[3], *row[4:7], row[7], row[10]] for row in found["rows"]]
    assert columns[4].startswith("computed")
    headings = (
        "schedule", "steps", "maps and products", "computed, at every step", "where changed", "waiting",
        "functions in fp32", "from tables",
    )  # fmt: skip
    return table(headings, rows)


@named("post-training")
def post_training(records: Records) -> list[str]:
    """What corrects a quantisation without training."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, thresholds, way, _, same, accuracy in printed(records["stock/post-training"])["rows"]:
        found.setdefault((thresholds, way), []).append(f"{same} / {accuracy}")
    rows = [[*key, *cells] for key, cells in found.items()]
    return table(("thresholds", "way", "4 bits: same answer / accuracy", "5 bits", "6 bits"), rows)


@named("placement")
def placement(records: Records) -> list[str]:
    """Stock networks whose settled SNN is compared with the quantised ANN."""
    rows = file_of(records["stock/placement"], "placement.json")
    known = [row for row in rows if "refused" not in row]
    equal = [row for row in known if row["settled"] == 2 and row["largest_difference"] <= 1e-9]
    families = {row["family"] for row in rows}
    analog = [len(row["analog_products"]) for row in known]
    refused = ", ".join(f"`{row['name']}`" for row in rows if "refused" in row)
    lines = [
        ["the settled SNN equals the quantised ANN", f"{len(equal)} of {len(rows)}",
         f"{len({row['family'] for row in equal})} of {len(families)}"],
        [f"refused ({refused})" if refused else "refused", len(rows) - len(known), ""],
        ["largest difference of a logit", f"{max(row['largest_difference'] for row in equal):.1g}", ""],
        ["every operation has a price", f"{sum(not row['unpriced'] for row in equal)} of {len(equal)}", ""],
        ["maps whose weights meet analog values", f"{min(analog)} to {max(analog)} for each network", ""],
    ]  # fmt: skip
    return table(("", "networks", "families"), lines)
