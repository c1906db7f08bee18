"""Trained networks that come with the package: their files, and a card for each."""

from .networks import ZooCard, ZooRun, card, cards, zoo_file, zoo_names

__all__ = ["ZooCard", "ZooRun", "card", "cards", "zoo_file", "zoo_names"]
