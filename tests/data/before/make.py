"""Make the samples in this folder with the code of commit bd582e6; see README.md. Run it in an empty folder."""

# ruff: noqa: SIM905 (long lists of words)

import importlib
import json
import os
import shutil
import signal
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.data import Subset

import mst
from mst.cli.main import main

SIZES = "--model-kwargs.embed_dim 8 --model-kwargs.depths [1] --model-kwargs.num_heads [2] --num-levels 4".split()
TRAINING = (
    "--dataset digits --train-images 200 --train.batch-size 50 --train.epochs 3 --train.learning-rate 1e-2 "
    "--train.trackers [] --train.device cpu"
).split()
CUT = ["train", *SIZES, *TRAINING, "--masking-ratio", "0.5", "--augment.crop-padding", "1", "--output"]


def run(*words: str) -> None:
    assert main(list(words)) == 0, words


def cut_in_the_second_epoch() -> None:
    loop = importlib.import_module("mst.train.loop")
    step, calls = loop._Trainer._step, []

    def stop_at_the_sixth(self, *args):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    loop._Trainer._step = stop_at_the_sixth
    assert main([*CUT, "cut"]) == 143
    loop._Trainer._step = step


def expectations(name: str) -> dict[str, object]:
    """Figures of a checkpoint; its logits go to NAME.logits.safetensors."""
    path = f"{name}/last.safetensors"
    model = mst.load_checkpoint(path)
    data = mst.load_dataset("digits", preprocessing=mst.read_checkpoint_info(path).preprocessing)
    evaluation = mst.evaluate_dataset(model, data.test, seed=0)
    few = Subset(data.test, range(20))
    logits, figures = {"ann": evaluation.logits[:20].contiguous()}, {"accuracy": evaluation.accuracy}
    for coding, options, steps in (("rate", {}, 8), ("lossless", {"burst": 4}, 64)):
        result = mst.simulate_dataset(mst.convert(model, coding, **options), few, num_steps=steps, seed=0)
        logits[coding] = result.logits.contiguous()
        energy = mst.estimate_energy(result)
        figures[coding] = {
            "options": options,
            "num_steps": steps,
            "accuracy": result.accuracy.tolist(),
            "spikes_per_image": result.spikes_per_image,
            "snn_energy_pj": energy.snn.energy_pj,
            "ann_energy_pj": energy.ann.energy_pj,
        }
    save_file(logits, f"{name}.logits.safetensors")
    return figures


if __name__ == "__main__":
    torch.set_num_threads(1)
    longer = ["--train.epochs", "12"]
    run("train", "--output", "mst", *SIZES, *TRAINING, *longer, "--masking-ratio", "0.5")
    cnn = "--model resnet18_small --model-kwargs.width 2 --num-levels 4 --masking-ratio 0.25 --mask-sites layer1.*"
    run("train", "--output", "cnn", *cnn.split(), *TRAINING, *longer)
    cut_in_the_second_epoch()
    run(*CUT, "whole")
    sweep = "--masking-ratios 0,0.5 --time-steps 4,8 --mask-seeds 0,1 --max-images 60"
    run("sweep", "--output", "sweep", *SIZES, *TRAINING, *sweep.split())
    expected = {name: expectations(name) for name in ("mst", "cnn")}
    results = json.loads(Path("whole/run_record.json").read_text())["results"]
    expected["resumed"] = {"loss": [epoch["loss"] for epoch in results["history"]]}
    expected["resumed"]["accuracy"] = [epoch["accuracy"] for epoch in results["history"]]
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.rmtree("whole")
    for pattern in ("*.png", "best.safetensors", "training_state.previous.pt"):
        for path in Path().rglob(pattern):
            path.unlink()
    for path in [*Path().glob("mst/*.pt"), *Path().glob("cnn/*.pt"), *Path().glob("sweep/*/*.pt")]:
        path.unlink()
    for path in Path().glob("sweep/*/last.safetensors"):
        path.unlink()
