"""An ANN and labelled images come in; a trained ANN, its checkpoints and its history go out.

Names load at their first use, so that options can be read without PyTorch.
"""

from mst._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
