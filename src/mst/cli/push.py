"""`mst push`: a checkpoint and its card on the Hugging Face hub."""

from __future__ import annotations

from mst.experiments.push_options import PushOptions

from .display import print_line


def push(options: PushOptions) -> None:
    """Publish a checkpoint on the Hugging Face hub, with a card that says how to use it and what was measured.

    Every verb that takes a checkpoint then takes hf:USER/NAME, or hf:USER/NAME@REVISION, in its place. Log in first
    with `hf auth login`. --dry-run shows the card and publishes nothing.

    Example: mst push runs/train/last.safetensors me/my-network --runs runs/measure --dry-run
    Example: mst push runs/train/last.safetensors me/my-network --runs runs/measure --license apache-2.0

    Args:
        options: what is published, and where.
    """
    from mst.checkpoints import HUB
    from mst.experiments import card_facts, own_card
    from mst.experiments import push as publish
    from mst.report import model_card

    from .repeat import command_of

    facts = card_facts(options)
    card = model_card(facts, options, command_of) if options.card is None else own_card(options.card)
    if options.dry_run:
        print_line(card)
        return
    reference = publish(facts, options, card)
    print_line(f"Published as {HUB}{reference}")
    print_line(f"Use it in place of a checkpoint: mst simulate {HUB}{options.repository}")
