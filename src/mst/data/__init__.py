"""Data sets by name or path: images or recordings with labels, split, preprocessed and in batches."""

from mst._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
