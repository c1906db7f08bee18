from __future__ import annotations

import argparse
import datetime
import json
import logging
import pickle
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import mst
from mst.checkpoints import bare_names, load_initial_weights, read_pickle, state_dict_in
from mst.neurons import find_sites


def network() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2))


STATE = network().state_dict()
AVERAGED = {name: tensor + 1 for name, tensor in STATE.items()}


def under(prefix: str, state: Mapping[str, Any] = STATE) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


def within(part: str) -> dict[str, Tensor]:
    return {name.replace("0.0.", f"0.{part}.0."): tensor for name, tensor in STATE.items()}


@dataclass
class Configuration:
    """Values that a training script keeps beside its weights."""

    rate: float = 0.1


class Namespace(dict[str, float]):
    """A dict whose class only its program has."""


BESIDE = {
    "args": argparse.Namespace(rate=0.1, folder=Path("x")), "best": np.float64(0.5), "array": np.arange(3),
    "config": Configuration(), "hyper_parameters": Namespace(rate=0.1), "began": datetime.datetime(2026, 1, 1),
    "log": defaultdict(list, {"loss": [1.0]}), "epoch": 3, "step": torch.tensor(7), "random": torch.get_rng_state(),
}  # fmt: skip

FORMS: dict[str, Any] = {
    "itself": STATE, "module.": under("module."), "_orig_mod.": under("_orig_mod."),
    "module._orig_mod.": under("module._orig_mod."), "_orig_mod.module.": under("_orig_mod.module."),
    "compiled part": within("_orig_mod"), "parallel part": within("module"),
    "AveragedModel": {"n_averaged": torch.tensor(9), **under("module.")},
    **{key: {key: STATE, "epoch": 3} for key in ("model", "state_dict", "model_state_dict", "net", "weights", "ema")},
    "nested": {"model": {"state_dict": under("module.")}}, "beside": {"model": STATE, **BESIDE},
    "lightning": {"state_dict": {**under("net."), "loss.weight": torch.ones(2)}, "callbacks": {}},
    "model and ema": {"model_ema": AVERAGED, "model": STATE},
    "prefixes of both": {**under("ema.module.", AVERAGED), **under("net.")},
    "flat": {**STATE, "epoch": 3, "args": argparse.Namespace(rate=0.1)},
}  # fmt: skip


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_read_from_every_form_in_which_programs_keep_them(
    form: str, new_format: bool, tmp_path: Path
) -> None:
    torch.save(FORMS[form], tmp_path / "w.pth", _use_new_zipfile_serialization=new_format)
    model = mst.quantize(network(), 4)
    assert load_initial_weights(model, str(tmp_path / "w.pth")).kind == "plain"
    assert torch.equal(model[0][0].weight, STATE["0.0.weight"])  # type: ignore[index, union-attr]
    assert torch.equal(model[1].bias, STATE["1.bias"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("model and ema", "the weights under 'model' are read; those under 'model_ema' are left out"),
        ("lightning", "the weights under 'net.' are read; 1 others are left out: loss.weight"),
        ("prefixes of both", "the weights under 'net.' are read; 4 others are left out: ema.0.0.weight"),
        ("flat", "2 entries beside the weights are left out: epoch (int), args (argparse.Namespace)"),
    ],
)
def test_what_is_left_out_is_reported(form: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(FORMS[form], tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, "mst.notes"):
        load_initial_weights(mst.quantize(network(), 4), str(tmp_path / "w.pth"))
    assert f"w.pth: {said}" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (network(), r"it holds pickled objects: torch\.nn\.modules\.container\.Sequential; .*save the weights alone"),
        ({"model": network(), "epoch": 1}, r"Sequential under 'model'"),
        ({"a": 1, "b": "c"}, r"holds no state dict, .*it holds 'a' \(int\), 'b' \(str\)"),
        ([1, 2], "holds no state dict, .*it holds list"),
        ({"w": np.zeros(3)}, "an object of numpy under 'w'"),
        ({"model": STATE, "rule": len}, r"it asks for builtins\.len\. Nothing was run; .*save the weights alone"),
        ({**under("a."), **under("b.")}, r"fit under 2 prefixes: 'a\.', 'b\.'; keep one"),
        ({**STATE, **under("module.")}, r"two tensors would be called 0\.0\.weight"),
    ],
    ids=["model", "under-a-key", "values", "list", "numpy", "function", "two", "twice"],
)
def test_what_cannot_be_read_is_named(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(mst.InputError, match=message):
        load_initial_weights(mst.quantize(network(), 4), str(tmp_path / "w.pth"))


def test_a_torchscript_archive_is_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, its files remain
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "w.pt")
    with pytest.raises(
        mst.InputError, match=r"it is a TorchScript archive; .*torch\.jit\.load\(path\)\.state_dict\(\)"
    ):
        read_pickle(tmp_path / "w.pt")


class Touches:
    """Would make a file when it is unpickled, by itself or through a function."""

    def __init__(self, target: str, by_itself: bool = False) -> None:
        self.target, self.by_itself = target, by_itself
        if by_itself:
            Path(target).touch()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Touches, (self.target, True)) if self.by_itself else (Path.touch, (Path(self.target),))


def test_no_stand_in_runs_anything(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    of_a_class, by_function = Touches(str(ran)), Touches(str(ran))
    of_a_class.by_itself = True
    torch.save({"model": STATE, "x": of_a_class}, tmp_path / "class.pth")
    assert read_pickle(tmp_path / "class.pth")["model"].keys() == STATE.keys()  # type: ignore[index]
    torch.save({"model": STATE, "x": by_function}, tmp_path / "function.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(of_a_class))
    for name in ("function.pth", "raw.pth"):
        with pytest.raises(mst.InputError, match="refused"):
            read_pickle(tmp_path / name)
    assert not ran.exists()


def test_a_checkpoint_that_was_written_from_a_wrapped_network_fits_the_bare_one(tmp_path: Path) -> None:
    model = mst.mask_spikes(mst.quantize(network(), 4, calibration=torch.rand(4, 3)), 0.5)
    mst.save_checkpoint(model, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        header = json.loads(file.metadata()["mst"])
    header["masks"] = under("module._orig_mod.", header["masks"])
    save_file(under("module._orig_mod.", model.state_dict()), tmp_path / "w.safetensors", {"mst": json.dumps(header)})
    again = mst.load_checkpoint(tmp_path / "w.safetensors", mst.quantize(network(), 4))
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert [site.masking_ratio for site in find_sites(again).values()] == [0.5]


def test_bare_names_keep_a_part_that_is_the_networks_own() -> None:
    state = {"module.module.weight": torch.ones(1), "module.head.weight": torch.ones(1)}
    assert [*bare_names(state, ["module.weight", "head.weight"])] == ["module.weight", "head.weight"]
    assert [*state_dict_in(state, "x", ["weight", "head.weight"])] == ["weight", "head.weight"]
    assert [*bare_names({"n_averaged": torch.ones(1)}, ["n_averaged"])] == ["n_averaged"]
