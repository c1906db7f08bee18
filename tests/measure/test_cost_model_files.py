from __future__ import annotations

import re
from pathlib import Path

import pytest

from mst.errors import InputError, MissingFileError
from mst.measure import read_cost_model
from mst.measure.cost_model_files import KINDS
from mst.operations import ELEMENTARY

CHIP = """
source: data sheet, table 3
status: measured
technology: 28 nm, 16 bits
unit: fJ
bits: 16
constants: {mac: 2100, ac: 400, multiplication: 1700, addition: 400}
functions: fp16
memory: {word_bits: 16, by_size: [[8, 2.5], [32, 5]]}
accesses: {ac: {weights: 1, potentials: 2}, membrane_read: {potentials: 1}}
leaves_out: {membrane_write: inside the read}
int8:
  constants: {mac: 300, ac: 50, multiplication: 250, addition: 50}
  memory: {word_bits: 8, by_size: [[8, 1.25]]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "chip.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_cost_model_file_gives_the_model_that_it_describes(tmp_path: Path) -> None:
    model = read_cost_model(written(tmp_path, CHIP))
    assert (model.name, model.status, model.technology, model.bits) == ("chip", "measured", "28 nm, 16 bits", 16)
    sizes = {"weights": 1.0, "potentials": 10 * 1024.0}  # 20 KiB of potentials: half-way between 2.5 and 5 pJ
    assert model.energy_of("ac", sizes) == pytest.approx(0.4 + 2.5 + 2 * 3.75)
    assert model.energy_of("mac", sizes) == pytest.approx(2.1)
    assert model.energy_of("exp") == pytest.approx(6 * 1.7 + 7 * 0.4)
    assert model.energy_of("spike") == pytest.approx(0.4)
    assert model.energy_of("membrane_write") == 0
    assert model.leaves_out["neuron_update"] == "priced by its parts"
    narrow = model.at_8_bits
    assert narrow is not None
    assert (narrow.name, narrow.bits, narrow.source) == ("chip, 8 bits", 8, "data sheet, table 3")
    assert narrow.energy_of("ac", sizes) == pytest.approx(0.05 + 3 * 1.25)
    recorded = model.to_dict()
    assert recorded["memory"] == "an access to 16 bits: 2.5 pJ in 8 KiB, 5 pJ in 32 KiB"
    assert recorded["leaves_out"]["membrane_write"] == "inside the read"
    assert recorded["accesses"]["ac"] == {"weights": 1, "potentials": 2}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("technology: 28", "technolgy: 28", "unknown key 'technolgy'; did you mean technology"),
        ("mac: 2100", "macs: 2100", "constants: unknown kind of operation 'macs'; did you mean mac"),
        ("mac: 2100", "mac: much", "constants, mac: must be a number, got 'much'"),
        ("mac: 2100", "mac: -1", "energies must be above 0 fJ"),
        ("status: measured", "status: guessed", "unknown status 'guessed'; choose from measured"),
        ("status: measured", "", "status missing; state the energies"),
        ("status: measured", "status: 3", "status: must be text, got 3"),
        ("functions: fp16", "functions: fp61", "unknown functions 'fp61'"),
        ("[[8, 2.5], [32, 5]]", "7", "memory: by_size must be a list of .KiB, pJ per word., got 7"),
        ("[[8, 2.5], [32, 5]]", "[[8, 2.5], [4, 5]]", "memory: a memory needs energies above 0 for rising sizes"),
        ("word_bits: 16", "words: 16", "memory: unknown key 'words'"),
        ("bits: 16\nconst", "bits: many\nconst", "bits: must be a whole number, at least 1, got 'many'"),
        ("weights: 1,", "weight: 1,", "ac needs numbers of words above 0 of weights, activations, potentials"),
        ("membrane_write: inside", "membrane: inside", "leaves_out: unknown kind of operation 'membrane'"),
        ("leaves_out: {membrane_write: inside the read}", "leaves_out: 3", "leaves_out: must hold keys and values"),
        ("mac: 300", "mac: x", "int8, constants, mac: must be a number"),
        ("memory: {word_bits: 16, by_size: [[8, 2.5], [32, 5]]}", "", "accesses to memory need the energy of one"),
        (CHIP, "- 1", "the file: must hold keys and values, got list"),
        (CHIP, "a: [", "not a YAML file"),
    ],
)
def test_cost_model_file_with_a_mistake_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CHIP
    with pytest.raises(InputError, match=f"chip.*{message}"):
        read_cost_model(written(tmp_path, CHIP.replace(old, new)))


def test_cost_model_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no cost model .*absent.yaml"):
        read_cost_model(tmp_path / "absent.yaml")


def test_cost_model_file_of_the_documentation_prices_everything(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "energy.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    model = read_cost_model(written(tmp_path, block))
    assert [kind for kind in KINDS if not model.knows(kind)] == []
    assert model.at_8_bits is not None
    assert all(kind in page for kind in KINDS if kind not in ELEMENTARY)
    parts = {kind: model.energy_of(kind) for kind in ("neuron_update", "current_addition", "spike")}
    assert parts == {"neuron_update": 1.2, "current_addition": 0, "spike": 0}  # none counts twice
    assert model.leaves_out["spike"] == "part of the neuron's update"


def test_cost_model_file_without_prices_of_neurons_lacks_them(tmp_path: Path) -> None:
    bare = "source: a\nstatus: measured\nconstants: {mac: 2, ac: 1}\n"
    assert not read_cost_model(written(tmp_path, bare)).knows("neuron_update")
