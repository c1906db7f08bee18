"""Measure the benefit of a Swin's weights as a start: train a small Swin, then an MST from it and from scratch.

    python benchmarks/swin_start.py --dataset fashion-mnist --epochs 3 --learning-rates 2e-3

All trainings use the same training images, and all MSTs the same number of epochs. The learning rates are those of the
recipes; each start is tried at each of them, so that the choice favours neither.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.utils.data import DataLoader, Subset

from mst.checkpoints import CheckpointInfo, load_swin
from mst.data import AugmentConfig, load_dataset
from mst.models import MaskedSpikingTransformer
from mst.quantization import calibrate, create_model
from mst.training import TrainConfig, evaluate, train

SHAPES = {"fashion-mnist": "mst_mini_patch2_window7_28", "digits": "mst_nano_patch2_window2_8"}


def train_swin(swin: nn.Module, data: Subset, test: Subset, epochs: int, batch_size: int, rate: float) -> float:
    """Train with AdamW and a cosine schedule; return the test accuracy."""
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(swin.parameters(), lr=rate, weight_decay=0.05)
    steps = epochs * len(loader)
    scheduler = CosineLRScheduler(optimizer, steps, warmup_t=steps // 10, warmup_lr_init=1e-6, t_in_epochs=False)
    done = 0
    for epoch in range(epochs):
        swin.train()
        for images, labels in loader:
            scheduler.step_update(done)
            loss = nn.functional.cross_entropy(swin(images), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
        print(f"swin epoch {epoch + 1}/{epochs}, loss {loss.item():.3f}", flush=True)
    return evaluate(swin, test, batch_size=250).accuracy


def main() -> None:
    """Train the Swin and the MSTs, and print the accuracy of each MST after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(SHAPES), default="fashion-mnist", help="data set")
    parser.add_argument("--train-images", type=int, default=10_000, help="number of training images")
    parser.add_argument("--test-images", type=int, default=10_000, help="number of test images")
    parser.add_argument("--swin-epochs", type=int, default=16, help="epochs of the Swin")
    parser.add_argument("--swin-learning-rate", type=float, default=1e-3, help="learning rate of the Swin")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each MST")
    parser.add_argument("--batch-size", type=int, default=64, help="batch size of every training")
    parser.add_argument(
        "--learning-rates", type=float, nargs="+", default=[2e-3, 6e-3], help="learning rates of the MSTs"
    )
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    splits = load_dataset(arguments.dataset, augment=AugmentConfig())
    images = Subset(splits.train, range(min(arguments.train_images, len(splits.train))))
    test = Subset(splits.test, range(min(arguments.test_images, len(splits.test))))
    name = SHAPES[arguments.dataset]
    options = {"in_chans": 1, "num_classes": 10, "img_size": splits.preprocessing.img_size}

    def fresh() -> MaskedSpikingTransformer:
        torch.manual_seed(1)
        return create_model(name, **options)

    config = fresh().config
    swin = SwinTransformer(
        patch_size=config.patch_size, window_size=config.window_size, embed_dim=config.embed_dim, depths=config.depths,
        num_heads=config.num_heads, mlp_ratio=config.mlp_ratio, **options,
    )  # fmt: skip
    began = time.monotonic()
    swin_accuracy = train_swin(
        swin, images, test, arguments.swin_epochs, arguments.batch_size, arguments.swin_learning_rate
    )
    print(f"swin: {100 * swin_accuracy:.2f} % after {time.monotonic() - began:.0f} s")
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for rate in arguments.learning_rates:
            for start in ("scratch", "swin"):
                model = fresh()
                if start == "swin":
                    load_swin(model, swin.state_dict())
                    calibrate(model, [torch.stack([images[i][0] for i in range(512)])])
                label = f"{start}, learning rate {rate:g}"
                settings = TrainConfig(
                    epochs=arguments.epochs, batch_size=arguments.batch_size, learning_rate=rate, warmup_epochs=1,
                    eval_batch_size=250, trackers=(),
                )  # fmt: skip
                rows[label] = [evaluate(model, test, batch_size=250).accuracy]
                result = train(model, images, test, Path(folder) / label, settings, CheckpointInfo())
                rows[label] += [record.accuracy for record in result.history]
                print(f"{label}: " + "  ".join(f"{100 * a:.2f}" for a in rows[label]), flush=True)
    if arguments.output is not None:
        content = {"swin_accuracy": swin_accuracy, "accuracy_after_epoch": rows, "settings": vars(arguments)}
        arguments.output.write_text(json.dumps(content, indent=2, default=str))


if __name__ == "__main__":
    main()
