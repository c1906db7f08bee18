"""`mst zoo`: the trained networks that come with the package."""

from __future__ import annotations

from pathlib import Path

from .display import console, print_line, progress_bar


def zoo(network: str | None = None, check: bool = False, data_path: Path | None = None) -> None:
    """List the trained networks that come with the package, or show the card of one.

    Every verb that takes a checkpoint takes zoo:NAME in its place. --check evaluates the network on all test images and
    repeats the simulations of its card; it fails if a figure differs by more than 1 %.

    Example: mst zoo
    Example: mst zoo digits-mst --check

    Args:
        network: Its card is shown; by default all are listed.
        check: Measure the figures of the card again.
        data_path: Folder with the data set's files, for --check.
    """
    from mst.errors import InputError
    from mst.experiments import check_zoo
    from mst.report import card_lines, runs_table, zoo_table
    from mst.zoo import card, cards

    if network is None:
        if check or data_path is not None:
            raise InputError("--check and --data-path are for one network", remedy="name it: mst zoo NAME --check")
        console.print(zoo_table(cards().values()))
        print_line("mst zoo NAME shows a card; mst simulate zoo:NAME runs a network.")
        return
    name = network.removeprefix("zoo:")
    for line in card_lines(card(name)):
        print_line(line)
    console.print(runs_table(card(name).runs, "Simulations"))
    if not check:
        return
    with progress_bar() as progress:
        found = check_zoo(name, data_path, progress=progress)
    console.print(runs_table(found.runs, f"Measured now (ANN on all test images: {100 * found.accuracy:.2f} %)"))
    if found.differences:
        raise InputError("; ".join(found.differences), where=f"zoo:{name}", remedy="`mst zoo NAME` shows the card")
    print_line("All figures are as on the card.")
