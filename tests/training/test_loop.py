from __future__ import annotations

import dataclasses
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mst
from conftest import tiny_config
from mst.checkpoints import CheckpointInfo
from mst.models import MaskedSpikingTransformer
from mst.neurons import find_sites
from mst.progress import Progress
from mst.threads import intra_op_threads
from mst.training import (
    EpochRecord,
    TrainConfig,
    TrainingDivergedError,
    TrainingObserver,
    TrainingResult,
    TrainingStoppedError,
    evaluate,
    train,
)
from mst.training.config import COMMON_OPTIMIZERS
from mst.training.folder import TrainingFolder
from mst.training.loop import _Trainer
from mst.training.order import EpochBatches, SeededImages, seed_step
from mst.training.state import PREVIOUS_STATE_FILE, STATE_FILE, load_training_state

QUICK = TrainConfig(epochs=4, batch_size=8, learning_rate=5e-3, warmup_epochs=1, eval_batch_size=16, trackers=())


def data(count: int = 32) -> TensorDataset:
    """Three classes told apart by which third of the image is bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    images = torch.rand(count, 1, 8, 8, generator=generator) - 0.5
    for i, label in enumerate(labels):
        images[i, :, 2 * int(label) : 2 * int(label) + 3] += 1.0
    return TensorDataset(images, labels)


def fresh(**options: Any) -> MaskedSpikingTransformer:
    torch.manual_seed(0)
    return MaskedSpikingTransformer(tiny_config(threshold=0.5, **options))


def run(
    output: Path, config: TrainConfig = QUICK, model: MaskedSpikingTransformer | None = None, **kw: Any
) -> TrainingResult:
    return train(model or fresh(), data(), data(), output, config, CheckpointInfo("three"), **kw)  # type: ignore[arg-type]


def after_step(call: Callable[[int], object]) -> TrainingObserver:
    """An observer that calls `call` with the number of steps done, after each step and when a run is resumed."""
    return TrainingObserver(lambda progress: call(progress.done) if progress.done else None)


def losses(result: TrainingResult) -> list[float]:
    return [record.loss for record in result.history]


def test_train_learns_and_writes_checkpoints_that_say_what_they_are(tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, epochs=12, learning_rate=1e-2, trackers=("tensorboard",))
    result = run(tmp_path, config)
    assert losses(result)[-1] < 0.8 * losses(result)[0]
    assert result.best_accuracy >= 0.9
    best = mst.load_checkpoint(result.best_checkpoint)
    assert evaluate(best, data()).accuracy == result.best_accuracy  # type: ignore[arg-type]
    info = mst.read_checkpoint_info(result.last_checkpoint)
    assert info.dataset == "three"
    assert info.provenance["epochs"] == 12
    assert any(path.name.startswith("events.out.tfevents") for path in tmp_path.rglob("*"))


def test_train_adds_up_gradients_in_one_order_and_leaves_the_setting_as_it_was(tmp_path: Path) -> None:
    seen: list[bool] = []
    run(tmp_path, observer=TrainingObserver(lambda report: seen.append(torch.backends.cudnn.deterministic)))
    assert set(seen) == {True}
    assert not torch.backends.cudnn.deterministic


@pytest.mark.gpu
def test_train_can_be_repeated_on_a_gpu(tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, epochs=12, device="cuda")
    images = TensorDataset(torch.randn(64, 1, 16, 16), torch.arange(64) % 3)

    def losses_of(name: str) -> list[float]:
        torch.manual_seed(0)
        model = mst.create_model("resnet18_small", width=8, num_classes=3, in_chans=1)
        return losses(train(model, images, images, tmp_path / name, config, CheckpointInfo("noise")))  # type: ignore[arg-type]

    assert losses_of("a") == losses_of("b")


@pytest.mark.parametrize("options", [{}, {"masking_ratio": 0.5, "drop_path_rate": 0.3}], ids=["plain", "random"])
@pytest.mark.parametrize("mixing", [False, True])
def test_train_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, options: dict[str, Any], mixing: bool) -> None:
    config = dataclasses.replace(QUICK, mixup=0.8, cutmix=1.0) if mixing else QUICK
    whole = run(tmp_path / "whole", config, fresh(**options))

    class Stop(Exception):  # noqa: N818
        pass

    def stop_in_the_third_epoch(steps: int) -> None:
        if steps == 2 * 4 + 2:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "cut", config, fresh(**options), observer=after_step(stop_in_the_third_epoch))
    assert mst.read_checkpoint_info(tmp_path / "cut" / "last.safetensors").provenance["epochs"] == 2
    torch.manual_seed(99)  # independent of what the process did before
    steps: list[int] = []
    resumed = run(tmp_path / "cut", config, fresh(**options), resume=True, observer=after_step(steps.append))
    assert steps == [*range(2 * 4, 4 * 4 + 1)]
    assert losses(resumed) == losses(whole)
    a, b = mst.load_checkpoint(whole.last_checkpoint), mst.load_checkpoint(resumed.last_checkpoint)
    torch.testing.assert_close(a.state_dict(), b.state_dict(), rtol=0, atol=0)


def test_train_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(FileExistsError, match="already holds a run; continue it with --resume"):
        run(tmp_path)


def test_train_resume_needs_a_run_with_the_same_settings(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        run(tmp_path / "empty", resume=True)
    run(tmp_path)
    with pytest.raises(ValueError, match=r"other settings.*train.learning_rate: 0.005 -> 0.1"):
        run(tmp_path, dataclasses.replace(QUICK, learning_rate=0.1), resume=True)
    other_data = CheckpointInfo("three", provenance={"data_fingerprint": "abc"})
    with pytest.raises(ValueError, match=r"provenance.data_fingerprint: None -> abc"):
        train(fresh(), data(), data(), tmp_path, QUICK, other_data, resume=True)  # type: ignore[arg-type]
    run(tmp_path, dataclasses.replace(QUICK, eval_batch_size=3, device="cpu"), resume=True)  # no number changes
    with pytest.raises(ValueError, match=r"model.config.masking_ratio: 0.0 -> 0.5"):
        run(tmp_path, QUICK, fresh(masking_ratio=0.5), resume=True)


def test_train_resumes_a_run_from_before_an_option_existed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = TrainingFolder.settings

    def without_alignment(self: Any) -> dict[str, Any]:
        settings = genuine(self)
        del settings["model"]["config"]["align_chans"]
        return settings

    with monkeypatch.context() as patch:
        patch.setattr(TrainingFolder, "settings", without_alignment)
        run(tmp_path)
    run(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"model.config.align_chans: None -> 3"):
        run(tmp_path, QUICK, fresh(align_chans=3), resume=True)


def test_train_truncated_state_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run(tmp_path)
    last = (tmp_path / "last.safetensors").read_bytes()
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:1000])
    (tmp_path / "last.safetensors").write_bytes(last[:5000])
    steps: list[int] = []
    resumed = run(tmp_path, resume=True, observer=after_step(steps.append))
    assert "continuing from the state before it" in caplog.text
    assert steps[0] == 3 * 4
    assert losses(resumed) == losses(whole)
    assert load_training_state(tmp_path)[0]["epoch"] == 4
    path.unlink()  # the damaged state has not been kept as the one to fall back to
    assert load_training_state(tmp_path)[0]["epoch"] == 3
    for one, two in zip(mst.load_checkpoint(resumed.last_checkpoint).parameters(), fresh().parameters(), strict=True):
        assert one.shape == two.shape
    (tmp_path / "last.safetensors").write_bytes(last[:5000])  # of a finished run: written again from its state
    run(tmp_path, resume=True)
    mst.load_checkpoint(tmp_path / "last.safetensors")


def test_train_damaged_states_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    for name in (STATE_FILE, PREVIOUS_STATE_FILE):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{STATE_FILE}: not a torch file.*{PREVIOUS_STATE_FILE}: "):
        run(tmp_path, resume=True)
    torch.save({"epoch": 1}, tmp_path / STATE_FILE)
    with pytest.raises(ValueError, match="is not a training state of this version of mst"):
        load_training_state(tmp_path)


def test_train_full_disk_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole")
    saves: list[object] = []

    def full(state: object, path: str) -> None:
        saves.append(path)
        if len(saves) == 3:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", path)
        original(state, path)

    original = torch.save
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(tmp_path / "full")
    monkeypatch.undo()
    assert not list((tmp_path / "full").glob(".*.partial"))
    assert losses(run(tmp_path / "full", resume=True)) == losses(whole)


@pytest.mark.parametrize(("mixing", "workers"), [(False, 0), (True, 2)])
def test_train_sigterm_in_an_epoch_saves_and_the_resumed_run_is_the_same(
    tmp_path: Path, mixing: bool, workers: int
) -> None:
    config = dataclasses.replace(QUICK, num_workers=workers)
    config = dataclasses.replace(config, mixup=0.8, cutmix=1.0) if mixing else config
    options: dict[str, Any] = {"masking_ratio": 0.5, "drop_path_rate": 0.3}
    whole = run(tmp_path / "whole", dataclasses.replace(config, num_workers=0), fresh(**options))

    def terminate(steps: int) -> None:
        if steps == 4 + 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(
        TrainingStoppedError, match="stopped after 1 epoch and 2 steps; .*--resume continues"
    ) as stopped:
        run(tmp_path / "cut", config, fresh(**options), observer=after_step(terminate))
    assert (stopped.value.epochs_done, stopped.value.steps_done, stopped.value.signal) == (1, 2, signal.SIGTERM)
    assert str(pickle.loads(pickle.dumps(stopped.value))) == str(stopped.value)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    steps: list[int] = []
    resumed = run(tmp_path / "cut", config, fresh(**options), resume=True, observer=after_step(steps.append))
    assert steps[0] == 4 + 2
    assert losses(resumed) == losses(whole)


def test_train_writes_its_state_within_a_long_epoch(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(steps: int) -> None:
        if (tmp_path / STATE_FILE).exists():
            seen.append(load_training_state(tmp_path)[0]["step"])

    run(tmp_path, dataclasses.replace(QUICK, checkpoint_minutes=0.0), observer=after_step(look))
    assert {1, 2} <= set(seen)


def test_train_accumulated_gradients_are_those_of_the_larger_batch(tmp_path: Path) -> None:
    """Without BatchNorm, whose statistics differ from batch to batch, the two are equal."""
    models = []
    for options in ({"batch_size": 8}, {"batch_size": 4, "accumulation_steps": 2}):
        model = fresh().double()
        model.train = lambda mode=True, model=model: nn.Module.train(model, False)  # type: ignore[method-assign, misc]
        images, labels = data().tensors
        config = dataclasses.replace(QUICK, epochs=2, **options)  # type: ignore[arg-type]
        train_data = TensorDataset(images.double(), labels)
        output = tmp_path / str(config.batch_size)
        train(model, train_data, train_data, output, config, CheckpointInfo())  # type: ignore[arg-type]
        models.append(model)
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_images_and_steps_have_random_numbers_of_their_own() -> None:
    class Noise(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.tensor([torch.rand(()).item(), np.random.rand(), random.random()]), index  # noqa: NPY002

    images = SeededImages(Noise(), seed=3)
    first = [images[i][0] for i in range(12)]
    assert len({tuple(value.tolist()) for value in first}) == 12
    loader = DataLoader(images, 3, num_workers=2)
    torch.testing.assert_close(torch.cat([values for values, _ in loader]), torch.stack(first), rtol=0, atol=0)
    images.epoch = 1
    assert not torch.equal(images[0][0], first[0])
    draws = set()
    for place in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
        seed_step(*place)
        draws.add((torch.rand(()).item(), np.random.rand(), random.random()))  # noqa: NPY002
    assert len(draws) == 5


def test_batches_of_several_processes_are_those_of_one_with_larger_batches() -> None:
    one = EpochBatches(50, 12, 1, seed=0, num_processes=1, process=0)
    shares = [EpochBatches(50, 3, 2, seed=0, num_processes=2, process=p) for p in range(2)]
    for batches in (one, *shares):
        batches.begin(epoch=2, first_step=1)
    assert one.num_steps == shares[0].num_steps == 4
    assert [len(list(share)) for share in shares] == [len(share) for share in shares] == [6, 6]
    together = [sorted(i for s in shares for b in list(s)[2 * k : 2 * k + 2] for i in b) for k in range(3)]
    assert together == [sorted(batch) for batch in one]
    whole = EpochBatches(50, 12, 1, seed=0, num_processes=1, process=0)
    whole.begin(epoch=2)
    assert list(whole)[1:] == list(one)


def test_train_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    model = fresh()

    def poison(steps: int) -> None:
        if steps == 6:
            with torch.no_grad():
                model.head.bias.fill_(float("nan"))

    config = dataclasses.replace(QUICK, checkpoint_minutes=0.0)
    with pytest.raises(TrainingDivergedError, match="head.bias became NaN or infinite"):
        run(tmp_path, config, model, observer=after_step(poison))
    kept = load_training_state(tmp_path)[0]
    assert all(bool(torch.isfinite(t).all()) for t in kept["model"].values())


def test_train_stops_clearly_on_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    model = fresh()
    with torch.no_grad():
        model.head.weight.fill_(3e38)  # a finite number, whose products are not
    with pytest.raises(TrainingDivergedError, match="the loss became nan in epoch 0, step 0.*No epoch was finished"):
        run(tmp_path, model=model)


def test_train_weights_that_break_in_the_last_step_do_not_replace_the_last_checkpoint(tmp_path: Path) -> None:
    """The loss of the last step is still finite; the update after it is not."""
    model = fresh()

    def poison(steps: int) -> None:
        if steps == 2 * 4:  # the last step of the second epoch
            with torch.no_grad():
                model.head.weight.fill_(float("inf"))

    with pytest.raises(TrainingDivergedError, match="the logits became NaN or infinite in epoch 1, step 3"):
        run(tmp_path, model=model, observer=after_step(poison))
    kept = mst.load_checkpoint(tmp_path / "last.safetensors")
    assert all(bool(torch.isfinite(p).all()) for p in kept.parameters())
    assert mst.read_checkpoint_info(tmp_path / "last.safetensors").provenance["epochs"] == 1


def test_train_in_mixed_precision_leaves_a_float32_model_behind(tmp_path: Path) -> None:
    model = fresh()
    plain, mixed = run(tmp_path / "a"), run(tmp_path / "b", dataclasses.replace(QUICK, mixed_precision="bf16"), model)
    assert losses(mixed) != losses(plain)
    assert losses(mixed)[-1] < losses(mixed)[0]
    model.eval()
    seen: list[torch.dtype] = []
    model.head.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    model(data().tensors[0])
    assert seen == [torch.float32]
    reloaded = evaluate(mst.load_checkpoint(mixed.last_checkpoint), [data().tensors])  # type: ignore[list-item]
    assert reloaded.accuracy == mixed.history[-1].accuracy


def test_train_too_few_images_for_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"32 training images do not fill one step of 64 \(1 process\(es\)"):
        run(tmp_path, dataclasses.replace(QUICK, batch_size=64))


def test_train_weight_decay_spares_vectors_thresholds_and_position_tables(tmp_path: Path) -> None:
    model = fresh(absolute_position_embedding=True)
    trainer = _Trainer(model, data(), data(), tmp_path, QUICK, CheckpointInfo())  # type: ignore[arg-type]
    names = {id(p): n for n, p in model.named_parameters()}
    by_decay = {g["weight_decay"]: {names[id(p)] for p in g["params"]} for g in trainer.steps.optimizer.param_groups}
    assert set(by_decay) == {0.0, 0.05}
    assert all(n.endswith("weight") and "norm" not in n for n in by_decay[0.05])
    spared = by_decay[0.0]
    assert "absolute_pos_embed" in spared
    assert {n for n in names.values() if n.endswith(("threshold", "bias_table", ".bias"))} <= spared


def test_train_learning_rate_warms_up_and_follows_a_cosine(tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, epochs=10, warmup_epochs=2, learning_rate=1.0, min_learning_rate=0.1)
    trainer = _Trainer(fresh(), data(), data(), tmp_path, config, CheckpointInfo())  # type: ignore[arg-type]
    rates = []
    for step in range(40):
        trainer.steps.scheduler.step_update(step)
        rates.append(trainer.steps.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1e-6)
    assert rates[4] == pytest.approx(0.5, abs=1e-3)
    assert rates[:8] == sorted(rates[:8])
    assert rates[8:] == sorted(rates[8:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.02)


SHORT = dataclasses.replace(QUICK, epochs=2)
"""Two epochs: one warms up, one follows the cosine."""

FIELDS = {
    "epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "min_learning_rate": 4e-3, "warmup_epochs": 0,
    "warmup_learning_rate": 1e-3, "weight_decay": 2.0, "clip_grad_norm": 0.01, "label_smoothing": 0.3,
    "mixup": 0.8, "cutmix": 1.0, "seed": 7, "accumulation_steps": 2, "optimizer": "sgd",
    "spike_penalty": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def short_losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of `SHORT`, computed on one thread as every test does."""
    with intra_op_threads(1):
        return losses(run(tmp_path_factory.mktemp("short"), SHORT))


@pytest.mark.parametrize("field", FIELDS)
def test_config_every_training_field_is_alive(tmp_path: Path, short_losses: list[float], field: str) -> None:
    assert losses(run(tmp_path, dataclasses.replace(SHORT, **{field: FIELDS[field]}))) != short_losses


def test_train_can_be_repeated(tmp_path: Path, short_losses: list[float]) -> None:
    assert losses(run(tmp_path, SHORT)) == short_losses


def test_config_the_other_fields_are_alive(tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, mixed_precision="bf16", num_workers=2, eval_batch_size=5)
    trainer = _Trainer(fresh(), data(), data(), tmp_path, config, CheckpointInfo())  # type: ignore[arg-type]
    assert trainer.accelerator.mixed_precision == "bf16"
    assert trainer.loader._loader.num_workers == 2
    assert {f.name for f in dataclasses.fields(TrainConfig)} == {
        *FIELDS, "mixed_precision", "num_workers", "eval_batch_size", "device", "sync_batch_norm", "trackers",
        "checkpoint_minutes",
    }  # fmt: skip


def test_config_device_is_taken_or_refused(tmp_path: Path) -> None:
    on_cpu = dataclasses.replace(QUICK, device="cpu")
    trainer = _Trainer(fresh(), data(), data(), tmp_path, on_cpu, CheckpointInfo())  # type: ignore[arg-type]
    assert trainer.accelerator.device.type == "cpu"
    with pytest.raises(ValueError, match="device 'abacus' is not available for training here"):
        run(tmp_path, dataclasses.replace(QUICK, device="abacus"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
        ({"epochs": 3, "warmup_epochs": 3}, "warmup_epochs 3 leave no epoch of 3"),
        ({"mixup": 0.5, "batch_size": 7}, "batch_size must be even"),
    ],
)
def test_config_value_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


def test_thresholds_are_trained(tmp_path: Path) -> None:
    model = fresh()
    before = {n: s.threshold.item() for n, s in find_sites(model).items()}
    run(tmp_path, model=model)
    after = {n: s.threshold.item() for n, s in find_sites(model).items()}
    assert all(after[n] != before[n] for n in before)


def test_train_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    results: list[TrainingResult] = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path)))
    thread.start()
    thread.join()
    assert len(results[0].history) == QUICK.epochs


def test_config_trackers_and_optimizer_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'adamv'; did you mean"):
        TrainConfig(optimizer="adamv")
    with pytest.raises(ValueError, match="unknown tracker 'paper'; choose from tensorboard, wandb"):
        TrainConfig(trackers=("paper",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the tracker wandb needs its package; pip install wandb"):
        TrainConfig(trackers=("wandb",))


def test_config_accumulation_of_the_launcher_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ValueError, match="asks for 4 accumulation steps; set train.accumulation_steps instead"):
        run(tmp_path)


def test_config_common_optimizers_are_known_to_timm() -> None:
    from timm.optim import list_optimizers

    assert set(COMMON_OPTIMIZERS) <= set(list_optimizers())


def test_config_can_be_made_without_loading_what_a_training_needs() -> None:
    """The command line reads the options before it knows whether anything is to be trained."""
    heavy = ("accelerate", "tensorboard", "timm", "torch")
    script = (
        "import sys, types, importlib.util\n"
        "package = types.ModuleType('mst'); package.__path__ = [sys.argv[1]]; sys.modules['mst'] = package\n"
        "from mst.training import TrainConfig, TrainingObserver; TrainConfig()\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(Path(mst.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_observer_is_told_of_progress_and_epochs(tmp_path: Path) -> None:
    seen: list[Progress] = []
    epochs: list[EpochRecord] = []
    result = run(tmp_path, observer=TrainingObserver(seen.append, epochs.append))
    assert tuple(epochs) == result.history
    assert [each.done for each in seen] == list(range(4 * 4 + 1))
    assert (seen[0].stage, seen[0].total, seen[0].unit) == (
        "training MaskedSpikingTransformer on three",
        4 * 4,
        "steps",
    )
    assert seen[-1].detail.startswith("loss ")
