"""The matrix of stock networks with sites at products: a quick part of `benchmarks/placement.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from mst.errors import InputError

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "placement.py"


@pytest.fixture(scope="module")
def placement() -> ModuleType:
    spec = importlib.util.spec_from_file_location("placement", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stock_network_settles_at_its_ann_without_analog_products(placement: ModuleType) -> None:
    row = placement.row_of("vit_base_patch16_rope_224", 31, "plain", 31)
    assert placement.settles(row), placement.in_words(row)
    assert row["analog_products"] == ["patch_embed.proj"]  # it reads the image itself
    assert 0 < row["quantisation_error"] < 0.3
    assert "1 of 1 networks settle at their quantised ANN, of 1 of 1 families" in placement.summary([row])


def test_network_that_is_refused_says_why(placement: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> nn.Module:
        raise InputError("no site can be placed at 1 product", remedy="choose another")

    monkeypatch.setattr(placement, "examine", refuse)
    row = placement.row_of("one layer for each depth", 31, "plain", 31)
    assert placement.in_words(row) == "refused: no site can be placed at 1 product"
    assert "0 of 1 networks settle" in placement.summary([row])
    assert "1 refused" in placement.summary([row])


def test_matrix_has_many_networks_of_many_families(placement: ModuleType) -> None:
    families = {name for name in placement.FAMILIES if name not in ("torchvision", "embeddings")}
    assert len(families) >= 25
    assert sum(len(placement.FAMILIES[name]) for name in families) >= 60
