"""Traces of a run of a checkpoint, their limits, and their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mst
from mst.data import Preprocessing
from mst.errors import InputError, MissingFileError
from mst.experiments import StepOptions, TraceOptions, read_traces, run_simulation, write_traces
from mst.experiments.traces import picture_of
from run_records import add_traces, write_run


@pytest.fixture(scope="module")
def run() -> mst.SimulationRun:
    opened = mst.open_checkpoint(mst.CheckpointOptions(Path("zoo:digits-mst"), max_images=4))
    tracing = TraceOptions(("patch", "query"), (1, 3), trace_neurons=16)
    return run_simulation(opened, StepOptions(time_steps=4), tracing=tracing)


def test_traces_of_a_run_hold_the_images_and_sites_asked_for(run: mst.SimulationRun) -> None:
    assert run.traces is not None
    assert [image.trace.index for image in run.traces.images] == [1, 3]
    for image in run.traces.images:
        assert list(image.trace.sites) == [
            "patch_embed.proj_if", "layers.0.blocks.0.attn.q_if", "layers.1.blocks.0.attn.q_if"
        ]  # fmt: skip
        assert {site.sent.shape for site in image.trace.sites.values()} == {(4, 16)}
        assert image.label == run.opened.images[image.trace.index][1]
        assert torch.allclose(image.ann_scores, run.evaluation.logits[image.trace.index])
        assert int(image.picture.max()) > 200
    assert run.traces.class_names[7] == "7"
    assert run.traces.score_difference is not None
    assert run.traces.score_difference < 1e-5


def test_traces_that_are_written_are_read_back(run: mst.SimulationRun, tmp_path: Path) -> None:
    assert run.traces is not None
    found = read_traces(write_traces(tmp_path / "traces.safetensors", run.traces))
    assert (found.class_names, found.sends_changes, found.notes, found.score_difference) == (
        run.traces.class_names, False, (), run.traces.score_difference
    )  # fmt: skip
    for one, other in zip(found.images, run.traces.images, strict=True):
        assert (one.label, one.trace.index) == (other.label, other.trace.index)
        assert torch.equal(one.picture, other.picture)
        assert torch.equal(one.trace.scores, other.trace.scores)
        assert list(one.trace.sites) == list(other.trace.sites)
        for mine, theirs in zip(one.trace.sites.values(), other.trace.sites.values(), strict=True):
            assert mine.num_neurons == theirs.num_neurons
            assert mine.potential is not None
            assert theirs.potential is not None
            assert torch.equal(mine.potential, theirs.potential)
        assert all(torch.equal(one.trace.attention[name], each) for name, each in other.trace.attention.items())


def test_traces_keep_within_their_limits(run: mst.SimulationRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mst.experiments.traces.MOST_SITES", 2)
    monkeypatch.setattr("mst.experiments.traces.MOST_VALUES", 48)
    cut = run_simulation(run.opened, StepOptions(time_steps=4), tracing=TraceOptions(("all",), (0,)))
    assert cut.traces is not None
    assert cut.traces.notes == (
        "Traces hold the first 2 of 22 sites that were selected.",
        "Traces hold 6 instead of 64 neurons of a site, 48 numbers in all.",
    )
    (image,) = cut.traces.images
    assert [site.sent.shape for site in image.trace.sites.values()] == [(4, 6), (4, 6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trace_sites": ("nothing",)}, "no site matches 'nothing'"),
        ({"trace_images": (4,)}, "there is no image 4 among the 4 test images"),
    ],
)
def test_traces_of_what_is_not_there_are_refused(run: mst.SimulationRun, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_simulation(run.opened, StepOptions(time_steps=4), tracing=TraceOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trace_images": (-1,)}, "trace_images are 1 to 16 numbers of images from 0"),
        ({"trace_images": tuple(range(17))}, "trace_images are 1 to 16 numbers of images from 0"),
        ({"trace_sites": ()}, "trace_sites names no site"),
        ({"trace_sites": ("all",), "trace_neurons": 0}, "trace_neurons must be from 1 to 1024, got 0"),
        ({"trace_neurons": 8}, "trace_neurons has no effect without trace_sites"),
    ],
)
def test_trace_options_are_checked(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TraceOptions(**options)


def test_pictures_undo_what_was_done_to_the_image() -> None:
    grey = Preprocessing(2, 1, (0.5,), (0.25,))
    assert picture_of(torch.tensor([[[-2.0, 2.0], [0.0, 9.0]]]), grey).tolist() == [[0, 255], [128, 255]]
    colours = Preprocessing(1, 3, (0.0,) * 3, (1.0,) * 3)
    assert picture_of(torch.tensor([0.0, 0.2, 1.0]).view(3, 1, 1), colours).tolist() == [[[0, 51, 255]]]
    assert picture_of(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), Preprocessing(1, 1, (0.0,), (1.0,))).tolist() == [
        [128]
    ]


@pytest.mark.parametrize("change", ["no scores", "other steps", "no description"])
def test_traces_in_a_damaged_file_are_refused(change: str, tmp_path: Path) -> None:
    path = add_traces(write_run(tmp_path)) / "traces.safetensors"
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    if change == "no scores":
        del tensors["image0.scores"]
    if change == "other steps":
        tensors["image0.site0.sent"] = tensors["image0.site0.sent"][:1]
    save_file(tensors, path, None if change == "no description" else metadata)
    with pytest.raises(InputError, match="traces.safetensors: it cannot be read"):
        read_traces(path)
    path.unlink()
    with pytest.raises(MissingFileError, match="the file is missing"):
        read_traces(path)
