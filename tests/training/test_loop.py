"""Training: what it learns, what it refuses, and in which order it adds up."""

from __future__ import annotations

import dataclasses
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mst
from mst.checkpoints import CheckpointInfo
from mst.data import AugmentConfig, BatchLoader
from mst.neurons import find_sites
from mst.progress import Progress
from mst.training import (
    EpochRecord,
    TrainingDivergedError,
    TrainingObserver,
    TrainingResult,
    evaluate,
    train,
)
from mst.training.loop import _Trainer
from mst.training.order import EpochBatches, SeededImages, first_words, seed_step
from mst.training.state import load_training_state
from mst.training.steps import UPDATED_AT_ONCE
from training_runs import QUICK, after_step, data, fresh, losses, run

pytestmark = pytest.mark.slow


def test_train_learns_and_writes_checkpoints_that_describe_themselves(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**70 + 5])
def test_first_words_are_those_of_numpy(seed: int) -> None:
    places = [0, 1, 5, 60_000, 2**32 - 1]
    expected = [np.random.SeedSequence([seed, 3, 1, place]).generate_state(1)[0] for place in places]
    assert first_words(seed, 3, 1, places) == expected


def test_augmentation_is_a_function_of_seed_epoch_and_image() -> None:
    digits = mst.load_dataset("digits", augment=AugmentConfig(crop_padding=2), train_images=40).train
    images = SeededImages(digits, seed=3)
    epochs = []
    for epoch in range(2):
        images.epoch = epoch
        one_by_one = torch.stack([images[index][0] for index in range(40)])
        for batch_size, num_workers in ((40, 0), (7, 0), (16, 1)):
            batches = BatchLoader(images, batch_size=batch_size, num_workers=num_workers)
            assert torch.equal(torch.cat([seen for seen, _ in batches]), one_by_one)
        epochs.append(one_by_one)
    assert not torch.equal(*epochs)


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


@pytest.mark.parametrize("name", UPDATED_AT_ONCE)
def test_optimizer_gives_all_tensors_at_once_the_values_of_one_after_another(name: str) -> None:
    networks = []
    for at_once in (True, False):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
        optimizer = create_optimizer_v2(network, opt=name, lr=0.01, weight_decay=0.05, foreach=at_once)
        for _ in range(3):
            network(torch.randn(6, 4)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        networks.append(network)
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)


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


def test_observer_receives_progress_and_epochs(tmp_path: Path) -> None:
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
