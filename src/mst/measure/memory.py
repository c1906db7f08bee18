"""Energy of reading and writing memories, by their size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from mst.errors import InputError

Place = Literal["weights", "activations", "potentials"]
"""A memory that operations read and write."""

PLACES: tuple[Place, ...] = get_args(Place)
"""All of them."""

Sizes = Mapping[str, float]
"""Place -> words that lie in this memory."""


@dataclass(frozen=True)
class Memory:
    """Energy of one access to one word.

    Between the sizes given the energy is interpolated linearly. A smaller memory costs what the smallest does, and a
    larger one is made of banks of the largest. With one size the size makes no difference.

    Raises:
        InputError: no size, sizes that do not rise, an energy that is not above 0, or a word without bits.
    """

    by_size: tuple[tuple[float, float], ...]
    """(Size in KiB, energy in pJ of an access to one word), by rising size."""

    word_bits: int = 32
    """Bits of a word."""

    def __post_init__(self) -> None:
        sizes = [size for size, _ in self.by_size]
        rises = all(after > before for before, after in pairwise([0.0, *sizes]))
        if not sizes or not rises or not all(energy > 0 for _, energy in self.by_size) or self.word_bits < 1:
            raise InputError(
                "a memory needs energies above 0 for rising sizes, and words of at least 1 bit, got "
                f"{self.by_size} and {self.word_bits} bits"
            )

    def energy_of(self, place: str, sizes: Sizes | None) -> float:
        """Energy in pJ of an access to one word of a memory.

        Args:
            place: the memory, see `PLACES`.
            sizes: words in each memory.

        Raises:
            InputError: the size decides, and is not known.
        """
        if len(self.by_size) == 1:
            return self.by_size[0][1]
        if sizes is None or place not in sizes:
            raise InputError(
                f"the energy of an access depends on the size of the memory for {place}, which is not known",
                remedy="price rows of a simulation, see mst.measure.price_rows",
            )
        size = sizes[place] * self.word_bits / 8 / 1024
        for (low, cheap), (high, dear) in pairwise(((0.0, self.by_size[0][1]), *self.by_size)):
            if size <= high:
                return cheap + (dear - cheap) * (size - low) / (high - low)
        return self.by_size[-1][1]

    def __str__(self) -> str:
        if len(self.by_size) == 1:
            return f"an access to {self.word_bits} bits {self.by_size[0][1]:g} pJ"
        each = ", ".join(f"{energy:g} pJ in {size:g} KiB" for size, energy in self.by_size)
        return f"an access to {self.word_bits} bits: {each}"
