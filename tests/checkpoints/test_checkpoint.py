from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import mst
from mst.checkpoints import CheckpointInfo
from mst.data import Preprocessing
from mst.files import write_atomically
from mst.models import MaskedSpikingTransformer
from mst.neurons import MASK_RULES, ChannelMask, SpikeMask, TokenMask, begin_run, find_sites, make_mask, running
from mst.quantization import quantization_of, set_thresholds

pytestmark = pytest.mark.slow

INFO = CheckpointInfo("digits", ("a", "b", "c"), Preprocessing(8, 1, (0.3,), (0.2,)), {"epochs": 3})


def test_checkpoint_round_trip_keeps_weights_configuration_masking_and_description(
    tiny_model: MaskedSpikingTransformer, tmp_path: Path
) -> None:
    find_sites(tiny_model)["layers.0.blocks.0.attn.q_if"].mask = make_mask(0.25)
    path = tmp_path / "folder" / "x.safetensors"
    mst.save_checkpoint(tiny_model, path, INFO)
    loaded = mst.load_checkpoint(path)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    find_sites(loaded)["layers.0.blocks.0.attn.q_if"].mask = None
    find_sites(tiny_model)["layers.0.blocks.0.attn.q_if"].mask = None
    assert torch.equal(loaded(x), tiny_model(x))
    assert loaded.config == tiny_model.config
    assert not loaded.training
    assert find_sites(mst.load_checkpoint(path))["layers.0.blocks.0.attn.q_if"].masking_ratio == 0.25
    assert mst.read_checkpoint_info(path) == INFO


class EveryOther(SpikeMask):
    """A rule from outside the package: places and channels share a draw."""

    name = "every_other"

    def shared_axes(self, num_axes: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(range(2, num_axes))


def test_checkpoint_stores_the_mask_rule_of_every_site(
    tiny_model: MaskedSpikingTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MASK_RULES, "every_other", EveryOther)
    masks = dict(zip(find_sites(tiny_model), (TokenMask(0.5), ChannelMask(0.25), EveryOther(0.75)), strict=False))
    for name, mask in masks.items():
        find_sites(tiny_model)[name].mask = mask
    mst.save_checkpoint(tiny_model, tmp_path / "x.safetensors")
    loaded = mst.load_checkpoint(tmp_path / "x.safetensors")
    assert {name: site.mask for name, site in find_sites(loaded).items() if site.mask is not None} == masks


def test_checkpoint_header_can_be_read_without_us(tiny_model: MaskedSpikingTransformer, tmp_path: Path) -> None:
    mst.save_checkpoint(tiny_model, tmp_path / "x.safetensors", INFO)
    with safe_open(str(tmp_path / "x.safetensors"), "pt") as file:
        header = json.loads(file.metadata()["mst"])
    assert header["config"]["num_levels"] == 4
    assert header["preprocessing"]["mean"] == [0.3]
    assert header["masks"]["patch_embed.proj_if"] is None


def test_checkpoint_follows_the_umask(tiny_model: MaskedSpikingTransformer, tmp_path: Path) -> None:
    mst.save_checkpoint(tiny_model, tmp_path / "x.safetensors")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_checkpoint_damaged_files_are_refused(tiny_model: MaskedSpikingTransformer, tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    mst.save_checkpoint(tiny_model, good, INFO)
    content = good.read_bytes()
    bad = tmp_path / "bad.safetensors"
    for cut in (0, 4, 100, len(content) // 2, len(content) - 1):
        bad.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"bad\.safetensors"):
            mst.load_checkpoint(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "checkpoint format 99; this mst reads formats 1 to 4"),
        ({"architecture": "resnet"}, "'resnet' is unknown; this mst reads mst, timm, torchvision, own"),
        ({"config": {"num_levels": 0}}, "do not fit each other: num_levels"),
        ({"config": {"surprise": 1}}, "do not fit each other.*surprise"),
        ({"masks": {"nowhere": None}}, "masks of 1 sites, where the network has 32"),
        ({"masks": {}}, "masks of 0 sites, where the network has 32"),
        ({"masks": [0.5]}, "config and masks must be tables"),
        ({"masks": {"head": {"rule": "rnadom", "masking_ratio": 0.5}}}, "unknown mask rule 'rnadom'.*random"),
        ({"masks": {"head": {"rule": "random", "masking_ratio": 1.5}}}, r"fraction dropped, in \[0, 1\)"),
        ({"masks": {"head": {"rule": "random", "evil": 1}}}, "does not take"),
        ({"format_version": 1}, "config and masking_ratios must be tables"),
        ({"format_version": 1, "masking_ratios": {"nowhere": 0.5}}, "masks of 1 sites"),
        ({"dataset": 3}, "the data set must be a name"),
        ({"architecture": "own", "config": [1]}, "config and masks must be tables"),
        ({"preprocessing": {"img_size": 8}}, "description in the file is damaged"),
    ],
)
def test_checkpoint_description_that_does_not_fit_is_refused(
    tiny_model: MaskedSpikingTransformer, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "x.safetensors"
    mst.save_checkpoint(tiny_model, path, INFO)
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["mst"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"mst": json.dumps({**header, **change})})
    read = mst.read_checkpoint_info if "preprocessing" in change else mst.load_checkpoint
    with pytest.raises(ValueError, match=message):
        read(path)


def test_checkpoint_foreign_files_are_explained(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"holds tensors but no description; for foreign weights use `mst import`"):
        mst.load_checkpoint(tmp_path / "foreign.safetensors")
    torch.save({}, tmp_path / "released.pth")
    with pytest.raises(ValueError, match=r"for released .pth weights use `mst import`"):
        mst.load_checkpoint(tmp_path / "released.pth")
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        mst.load_checkpoint(tmp_path / "nothing.safetensors")


def test_checkpoint_of_tied_weights_is_complete(tmp_path: Path) -> None:
    def net() -> torch.nn.Module:
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4))
        model[2].weight = model[0].weight
        return mst.quantize(model, 4, torch.rand(8, 4))

    model, x = net(), torch.rand(3, 4)
    mst.save_checkpoint(model, tmp_path / "x.safetensors")
    assert torch.equal(mst.load_checkpoint(tmp_path / "x.safetensors", model=net())(x), model.eval()(x))


def test_checkpoint_of_something_else_or_under_another_suffix_is_refused(
    tiny_model: MaskedSpikingTransformer, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match="Linear is neither a Masked Spiking Transformer nor quantised by mst.quantize"
    ):
        mst.save_checkpoint(torch.nn.Linear(1, 1), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"a checkpoint is a .safetensors file, got 'x.pth'"):
        mst.save_checkpoint(tiny_model, tmp_path / "x.pth")


def test_write_atomically_a_failure_leaves_the_older_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail(temporary: str) -> None:
        Path(temporary).write_text("half")
        raise RuntimeError("no space left")

    with pytest.raises(OSError, match="x could not be written .*no space left"):
        write_atomically(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "old"


NETWORK = {
    "name": "resnet18_small",
    "options": {"width": 4, "in_chans": 1, "num_classes": 3},
    "small_stem": False,
    "align_chans": 0,
}


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_checkpoint_of_a_named_network_round_trips(library: str, tmp_path: Path) -> None:
    name, options = {
        "timm": ("resnet18_small", {"width": 4}), "torchvision": ("torchvision:shufflenet_v2_x0_5", {}),
    }[library]  # fmt: skip
    images = torch.randn(16, 1, 32, 32)
    model = mst.create_model(name, num_levels=4, num_classes=3, in_chans=1, **options)
    noted = quantization_of(model)
    assert noted is not None
    set_thresholds(model, [images], noted.caps, per_channel=True)
    mst.mask_spikes(model, {"all": 0.25, next(iter(find_sites(model))): 0.5})
    mst.save_checkpoint(model.double(), tmp_path / "x.safetensors")
    loaded = mst.load_checkpoint(tmp_path / "x.safetensors")
    assert quantization_of(loaded) == noted
    assert not loaded.training
    with running(begin_run(loaded, batch_size=16)):
        logits = loaded(images.double())
    with running(begin_run(model, batch_size=16)):
        assert torch.equal(logits, model.eval()(images.double()))
    ratios = [{n: site.masking_ratio for n, site in find_sites(each).items()} for each in (loaded, model)]
    assert ratios[0] == ratios[1]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"name": "hf-hub:someone/evil"}, "unknown model 'hf-hub:someone/evil'"),
        ({"name": "../../etc/passwd"}, "unknown model"),
        ({"options": {"checkpoint_path": "/tmp/evil.pth"}}, "checkpoint_path cannot be among the options"),
        ({"options": {"pretrained": True}}, "pretrained cannot be among the options"),
        ({"options": {"width": 2**40}}, "cannot be built"),
        ({"options": {"width": 8}}, "do not fit each other"),
        ({"options": "width"}, "do not fit each other"),
    ],
)
def test_checkpoint_that_names_what_it_must_not_is_refused(
    network: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    mst.save_checkpoint(mst.create_model("resnet18_small", width=4, in_chans=1, num_classes=3), path)
    with safe_open(str(path), "pt") as file:
        header = json.loads(file.metadata()["mst"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert header["config"]["network"] == NETWORK
    header["config"]["network"] |= network
    save_file(tensors, str(path), {"mst": json.dumps(header)})
    with pytest.raises(ValueError, match=message):
        mst.load_checkpoint(path)


def test_checkpoint_keeps_how_levels_are_rounded(tmp_path: Path, tiny_model: MaskedSpikingTransformer) -> None:
    mst.limit_powers(tiny_model, 2, "mlp")
    mst.save_checkpoint(tiny_model, tmp_path / "m.safetensors")
    loaded = mst.load_checkpoint(tmp_path / "m.safetensors")
    limits = [{name: site.max_powers for name, site in find_sites(model).items()} for model in (tiny_model, loaded)]
    assert limits[0] == limits[1]
    assert 2 in limits[1].values()
    with safe_open(str(tmp_path / "m.safetensors"), "pt") as file:
        assert json.loads(file.metadata()["mst"])["format_version"] == 4
