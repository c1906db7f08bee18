"""The trained networks that come with the package, and their cards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mst
from mst.zoo import card, cards, zoo_file, zoo_names
from mst.zoo.networks import _WEIGHTS

MIB = 1 << 20


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    zoo_file.cache_clear()


@pytest.mark.parametrize("name", zoo_names())
def test_card_describes_the_file_that_is_there(name: str) -> None:
    path = zoo_file(name)
    assert path.stat().st_size == card(name).size <= MIB
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card(name).sha256
    info = mst.read_checkpoint_info(path)
    assert info.dataset == card(name).dataset
    assert "/" not in str(info.provenance.get("data_path", ""))


def test_every_file_has_a_card() -> None:
    assert {path.stem for path in _WEIGHTS.glob("*.safetensors")} == set(cards())


def test_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(zoo_file("digits-mst").read_bytes())
    content[-1] ^= 1
    (tmp_path / "digits-mst.safetensors").write_bytes(content)
    monkeypatch.setattr("mst.zoo.networks._WEIGHTS", tmp_path)
    zoo_file.cache_clear()
    with pytest.raises(mst.InputError, match="has been changed.*install mst again"):
        mst.load("digits-mst")
    zoo_file.cache_clear()
    with pytest.raises(mst.MissingFileError, match="no such file.*install mst again"):
        mst.load("digits-dvs-mst")


def test_load_takes_names_and_paths(tmp_path: Path) -> None:
    named = mst.load("digits-mst")
    image = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for other in (mst.load("zoo:digits-mst"), mst.load(zoo_file("digits-mst")), mst.load_checkpoint("zoo:digits-mst")):
        assert torch.equal(other(image), named(image))
    with pytest.raises(mst.MissingFileError, match=r"did you mean digits-mst.*\? `mst zoo` lists them$"):
        mst.load("digits-mts")
    with pytest.raises(mst.MissingFileError, match="no such checkpoint"):
        mst.load(tmp_path / "digits-mst.safetensors")


def test_zoo_network_starts_a_training_of_the_same_architecture() -> None:
    model = mst.create_model("mst_nano_patch2_window2_8", in_chans=1, num_classes=10, img_size=8)
    mst.load_initial_weights(model, "zoo:digits-mst")
    loaded = mst.load("digits-mst").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
