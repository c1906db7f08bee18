"""A training step and an evaluation on a CUDA device without values: no operation mixes devices."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mst
from fake_cuda import fake_cuda
from mst.training.steps import TrainingSteps


def network() -> nn.Module:
    layers = (nn.Conv2d(1, 2, 4, stride=4), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4), nn.ReLU())
    model = mst.quantize(nn.Sequential(*layers, nn.Linear(4, 3)), 4, torch.rand(4, 1, 8, 8), per_channel=True)
    model.num_classes = 3  # type: ignore[assignment]
    return mst.mask_spikes(model, 0.5, "all", "channel")


def accelerator(model: nn.Module) -> Any:
    """As accelerate's on one CUDA device; its backward pass makes gradients of ones."""

    def backward(loss: Tensor) -> None:
        assert loss.device.type == "cuda"
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)

    return SimpleNamespace(
        device=torch.device("cuda"), num_processes=1, process_index=0, scaler=None, prepare=lambda *given: given,
        unwrap_model=lambda wrapped, **_: wrapped, autocast=nullcontext, no_sync=lambda _: nullcontext(),
        backward=backward, clip_grad_norm_=nn.utils.clip_grad_norm_,
    )  # fmt: skip


@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_training_step_on_cuda_keeps_every_tensor_there(mixup: float) -> None:
    model = network().train()
    config = mst.TrainConfig(spike_penalty=0.1, clip_grad_norm=1.0, mixup=mixup, accumulation_steps=2)
    with fake_cuda() as device:
        device.moved(model)
        steps = TrainingSteps(model, config, accelerator(model), steps_per_epoch=2, num_classes=3)
        batches = iter([(torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))] * 2)  # on the CPU
        loss = steps.take(batches, 0, 0)
        assert loss.device.type == "cuda"
        assert not steps.broken_parameters()
        places = {(wait.file, wait.function) for wait in device.waits}
    assert places <= {("training/steps.py", "take")}


def test_evaluation_on_cuda_keeps_every_tensor_there() -> None:
    model = network().eval()
    with fake_cuda() as device:
        device.moved(model)
        result = mst.evaluate(model, (torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)), batch_size=2)
        assert result.logits.device.type == "cpu"
