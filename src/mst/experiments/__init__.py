"""Options come in as a user states them; whole runs with their results and records go out."""

from mst._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
