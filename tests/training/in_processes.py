"""Work that `test_processes.py` does in one process and in two: `in_processes.py OUTPUT BATCH_SIZE`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import TensorDataset

import mst
from conftest import randomise, tiny_config
from mst.checkpoints import CheckpointInfo
from mst.distributed import is_main_process, join_processes, leave_processes
from mst.models import MaskedSpikingTransformer
from mst.progress import Progress
from mst.training import TrainConfig, TrainingObserver, TrainingResult, TrainingStoppedError, train


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(37, 1, 8, 8, generator=generator).double(), torch.arange(37) % 3)


def fresh(**options: object) -> MaskedSpikingTransformer:
    torch.manual_seed(0)
    return MaskedSpikingTransformer(tiny_config(threshold=0.5, **options)).double()


def gradients_of_the_first_step(seen: list[Tensor]) -> Any:
    def hook(optimizer: Optimizer, *args: object) -> None:
        if not seen:
            seen.extend(p.grad.clone() for g in optimizer.param_groups for p in g["params"] if p.grad is not None)

    return register_optimizer_step_pre_hook(hook)


def outcome(model: nn.Module, result: TrainingResult) -> dict[str, Any]:
    return {
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "losses": [record.loss for record in result.history],
        "accuracies": [record.accuracy for record in result.history],
    }


def main(output: Path, batch_size: int) -> None:
    torch.set_num_threads(1)
    join_processes("cpu")
    config = TrainConfig(
        epochs=2, batch_size=batch_size, learning_rate=5e-3, warmup_epochs=1, eval_batch_size=5, device="cpu"
    )
    results: dict[str, Any] = {}

    gradients: list[Tensor] = []
    model = fresh()
    model.train = lambda mode=True: nn.Module.train(model, False)  # type: ignore[assignment, method-assign, misc]
    handle = gradients_of_the_first_step(gradients)
    results["frozen"] = outcome(model, train(model, data(), data(), output / "a", config, CheckpointInfo()))  # type: ignore[arg-type]
    handle.remove()
    results["gradients"] = gradients

    model = fresh()
    together = replace(config, sync_batch_norm=True)
    results["together"] = outcome(model, train(model, data(), data(), output / "b", together, CheckpointInfo()))  # type: ignore[arg-type]

    random: dict[str, object] = {"masking_ratio": 0.5, "drop_path_rate": 0.3}
    model = fresh(**random)
    results["whole"] = outcome(model, train(model, data(), data(), output / "c", config, CheckpointInfo()))  # type: ignore[arg-type]

    def stop_in_the_second_epoch(progress: Progress) -> None:
        if progress.done == 3 and is_main_process():
            os.kill(os.getpid(), signal.SIGTERM)

    model = fresh(**random)
    try:
        train(
            model,
            data(),
            data(),
            output / "d",
            config,
            CheckpointInfo(),
            observer=TrainingObserver(stop_in_the_second_epoch),
        )
        raise AssertionError("was not stopped")
    except TrainingStoppedError as stop:
        results["stopped"] = str(stop)
    model = fresh(**random)
    resumed = train(model, data(), data(), output / "d", config, CheckpointInfo(), resume=True)  # type: ignore[arg-type]
    results["resumed"] = outcome(model, resumed)

    model = fresh(masking_ratio=0.5).eval()
    randomise(model)
    images, labels = data().tensors
    seven = TensorDataset(images[:7], labels[:7])
    results["evaluation"] = mst.evaluate(model, seven, batch_size=2, seed=3)  # type: ignore[arg-type]
    results["simulation"] = mst.simulate(mst.convert(model), seven, 6, batch_size=2, seed=3)  # type: ignore[arg-type]
    lossless = mst.convert(model, "lossless", burst=2)
    results["lossless"] = mst.simulate(lossless, seven, 60, batch_size=2, seed=3, keep_step_logits=True)  # type: ignore[arg-type]
    results["early exit"] = mst.simulate(
        mst.convert(model),
        seven,  # type: ignore[arg-type]
        20,
        batch_size=2,
        seed=3,
        early_exit=mst.EarlyExit("stability", 4),
    )
    one = TensorDataset(images[:1], labels[:1])
    results["one image"] = mst.simulate(mst.convert(model), one, 3)  # type: ignore[arg-type]

    if is_main_process():
        torch.save(results, output / "results.pt")
    leave_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
