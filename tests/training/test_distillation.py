"""A network learns from a teacher's answers: the loss, what is refused, and runs that continue."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mst.checkpoints import CheckpointInfo
from mst.errors import InputError
from mst.training import TrainConfig, TrainingStoppedError, train
from mst.training.distillation import Teacher
from training_runs import QUICK, after_step, data, fresh, losses, run

pytestmark = pytest.mark.slow

DISTILLED = dataclasses.replace(QUICK, epochs=2, distillation=0.5)


def teacher(seed: int = 1, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, num_classes))


def test_teacher_loss_is_the_one_of_its_equation() -> None:
    network, images = teacher(), torch.randn(5, 1, 8, 8)
    distilling = Teacher(network, TrainConfig(distillation=0.25, distillation_temperature=3.0))
    logits = torch.randn(5, 3, requires_grad=True)
    labels = torch.arange(5) % 3
    label_loss = F.cross_entropy(logits, labels)
    wanted = torch.softmax(network[2](images.flatten(1)) / 3, dim=1)  # without dropout
    divergence = (wanted * (wanted.log() - torch.log_softmax(logits / 3, dim=1))).sum(dim=1).mean()
    found = distilling.loss(label_loss, logits, images)
    torch.testing.assert_close(found, 0.75 * label_loss + 0.25 * 9 * divergence)
    found.backward()
    assert logits.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training


def test_train_by_the_teacher_alone_ignores_the_labels(tmp_path: Path) -> None:
    config, labelled, images = dataclasses.replace(DISTILLED, distillation=1.0), data(), data()
    images.tensors = (images.tensors[0], images.tensors[1].roll(1))
    results = [
        train(fresh(), each, data(), tmp_path / name, config, CheckpointInfo(), teacher=teacher())  # type: ignore[arg-type]
        for name, each in (("a", labelled), ("b", images))
    ]
    assert losses(results[0]) == losses(results[1])


def test_train_with_a_teacher_resumes_and_refuses_another_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", DISTILLED, teacher=teacher())

    def interrupt(steps: int) -> None:
        if steps == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError):
        run(tmp_path / "cut", DISTILLED, teacher=teacher(), observer=after_step(interrupt))
    with pytest.raises(InputError, match="other settings.*teacher: "):
        run(tmp_path / "cut", DISTILLED, teacher=teacher(seed=2), resume=True)
    assert losses(run(tmp_path / "cut", DISTILLED, teacher=teacher(), resume=True)) == losses(whole)


def test_train_distillation_without_a_fitting_teacher_is_refused(tmp_path: Path) -> None:
    model = fresh()
    refused: list[tuple[TrainConfig, dict[str, Any], str]] = [
        (DISTILLED, {}, "distillation needs a teacher"),
        (QUICK, {"teacher": teacher()}, "a teacher has no effect without distillation"),
        (DISTILLED, {"teacher": model}, "shares weights with the network that is trained"),
        (DISTILLED, {"teacher": teacher(num_classes=4)}, "the teacher has 4 classes, the network 3"),
    ]
    for config, given, message in refused:
        with pytest.raises(InputError, match=message):
            run(tmp_path, config, model, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation": 1.5}, r"distillation must be in \[0, 1\]"),
        ({"distillation": 0.5, "distillation_temperature": 0.0}, "distillation_temperature must be above 0"),
        ({"distillation_temperature": 4.0}, "has no effect without distillation"),
    ],
)
def test_config_distillation_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**options)
