"""The two commands of the paper's released code, translated into runs of this package (see docs/released.md)."""

from .command import main

__all__ = ["main"]
