from __future__ import annotations

import pytest

from mst.errors import InputError
from mst.measure import MEMORY_45NM, SRAM_45NM, Memory

MEMORY = Memory(((8.0, 5.0), (32.0, 10.0)), word_bits=32)


@pytest.mark.parametrize(("kib", "energy"), [(1, 5.0), (8, 5.0), (20, 7.5), (32, 10.0), (1000, 10.0)])
def test_memory_costs_more_the_larger_it_is(kib: float, energy: float) -> None:
    assert MEMORY.energy_of("weights", {"weights": kib * 1024 / 4}) == pytest.approx(energy)


def test_memory_of_one_size_needs_no_sizes() -> None:
    assert Memory(((8.0, 5.0),)).energy_of("weights", None) == 5.0
    with pytest.raises(InputError, match="depends on the size of the memory for weights, which is not known"):
        MEMORY.energy_of("weights", {"potentials": 1.0})


@pytest.mark.parametrize("sizes", [(), ((8.0, 5.0), (8.0, 6.0)), ((8.0, 0.0),), ((0.0, 1.0),), ((8.0, float("nan")),)])
def test_memory_that_cannot_be_is_refused(sizes: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(InputError, match="energies above 0 for rising sizes"):
        Memory(sizes)
    with pytest.raises(InputError, match="words of at least 1 bit"):
        Memory(((8.0, 5.0),), word_bits=0)


def test_memory_models_cost_a_quarter_at_8_bits() -> None:
    sizes = {"weights": 100.0, "activations": 100.0, "potentials": 100.0}
    for model in (MEMORY_45NM, SRAM_45NM):
        assert model.int8 is not None
        wide, narrow = (each.energy_of("membrane_read", sizes) for each in (model, model.int8))
        assert (wide, narrow) == (5.0, 1.25)


def test_memory_by_size_prices_an_accumulation_by_its_layer() -> None:
    small = SRAM_45NM.energy_of("ac", {"weights": 10.0, "potentials": 10.0})
    large = SRAM_45NM.energy_of("ac", {"weights": 1024 * 1024 / 4, "potentials": 10.0})
    assert small == pytest.approx(0.9 + 3 * 5.0)
    assert SRAM_45NM.energy_of("spike", {"activations": 10.0}) == pytest.approx(0.9 + 2 * 5.0)
    assert large == pytest.approx(0.9 + 50.0 + 2 * 5.0)
