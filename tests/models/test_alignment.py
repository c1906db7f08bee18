"""The channel alignment in front of any network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mst
from mst.checkpoints import load_checkpoint, load_initial_weights, save_checkpoint
from mst.models import ChannelAlignment

KINDS = {
    "mst_nano_patch2_window2_8": {"img_size": 8},
    "resnet18_small": {"width": 4},
    "torchvision:resnet18": {},
}


def build(name: str, align_chans: int = 3, in_chans: int = 18, **more: object) -> torch.nn.Module:
    return mst.create_model(
        name, align_chans=align_chans, in_chans=in_chans, num_classes=4, **KINDS[name], **more
    ).eval()


@pytest.mark.parametrize("name", KINDS)
def test_network_behind_an_alignment_converts_and_round_trips(name: str, tmp_path: Path) -> None:
    size = 8 if name.startswith("mst") else 32
    model, images = build(name), torch.rand(2, 18, size, size)
    logits = model(images)
    assert logits.shape == (2, 4)
    save_checkpoint(model, tmp_path / "a.safetensors")
    assert torch.equal(load_checkpoint(tmp_path / "a.safetensors")(images), logits)
    result = mst.simulate(mst.convert(model, example=images[:1]), images, 3)
    assert "align" in result.operations[0].operation.name
    assert result.operations[0].operation.dense_macs == 18 * 3 * size * size


@pytest.mark.parametrize("name", KINDS)
def test_weights_of_the_network_for_pictures_fit_behind_an_alignment(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    pictures = build(name, align_chans=0, in_chans=3)
    save_checkpoint(pictures, tmp_path / "pictures.safetensors")
    model = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items() if "align." in key}
    start = load_initial_weights(model, str(tmp_path / "pictures.safetensors"))
    assert not start.needs_calibration
    behind = model.network if isinstance(model, ChannelAlignment) else model
    theirs = pictures.state_dict()
    ours = {key: value for key, value in behind.state_dict().items() if "align." not in key}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(before) == 2
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_own_network_behind_an_alignment() -> None:
    own = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    own(torch.zeros(1, 3, 6, 6))
    aligned = mst.quantize(ChannelAlignment(own, in_chans=18), num_levels=4)
    assert mst.simulate(mst.convert(aligned), torch.rand(2, 18, 6, 6), 4).logits.shape == (2, 2)


def test_alignment_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="channels must be at least 1, got in_chans 0 and align_chans 3"):
        ChannelAlignment(torch.nn.Identity(), in_chans=0)
    with pytest.raises(ValueError, match="align_chans must not be negative"):
        build("mst_nano_patch2_window2_8", align_chans=-1)
    with pytest.raises(ValueError, match="align_chans must be a whole number, at least 0"):
        build("resnet18_small", align_chans=-1)


def test_alignment_is_one_linear_map_of_the_channels_at_each_pixel() -> None:
    aligned = ChannelAlignment(torch.nn.Identity(), in_chans=5, align_chans=3).double()
    x = torch.rand(2, 5, 4, 6, dtype=torch.float64)
    expected = torch.einsum("oc,bchw->bohw", aligned.align.weight[:, :, 0, 0], x) + aligned.align.bias[:, None, None]
    assert torch.allclose(aligned(x), expected, rtol=1e-12)
