"""The released commands: every flag has its documented effect, or is refused with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import OrderedDict
from functools import partial
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

import mst
from image_data import image_files, write_cifar10, write_cifar100, write_folder, write_zip
from mst.cli.released import main
from mst.cli.released.settings import DEFAULTS, Settings
from mst.measure import measure_throughput
from mst.models import MaskedSpikingTransformer, MSTConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "mst" / "MST.yaml")
SMALL = [
    "MODEL.MST.EMBED_DIM", "8", "MODEL.MST.DEPTHS", "[1, 1]", "MODEL.MST.NUM_HEADS", "[1, 2]", "DATA.IMG_SIZE", "56",
    "TRAIN.EPOCHS", "2", "TRAIN.WARMUP_EPOCHS", "1", "DATA.NUM_WORKERS", "0",
]  # fmt: skip


def command(folder: Path, *flags: str, opts: tuple[str, ...] = ()) -> list[str]:
    fixed = [
        "--cfg",
        CONFIG,
        "--batch-size",
        "4",
        "--output",
        str(folder / "output"),
        "--data-path",
        str(folder / "data"),
    ]
    return [*fixed, *flags, "--opts", *SMALL, *opts]


def fails(arguments: list[str], capfd: pytest.CaptureFixture[str], code: int = 1) -> str:
    assert main(arguments) == code
    error = capfd.readouterr().err.strip().splitlines()
    lines = [line for line in error if line.startswith("main.py: error:")]
    assert len(lines) == 1, error
    return lines[0]


@pytest.fixture(scope="module")
def cifar_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run on stand-in CIFAR-10."""
    folder = tmp_path_factory.mktemp("cifar")
    write_cifar10(folder / "data", 4)
    assert main(command(folder, "--masking_ratio", "0.75", "--dataset", "Cifar10", "--tag", "a", "--seed", "3")) == 0
    return folder


def run_folder(folder: Path, tag: str = "a") -> Path:
    return folder / "output" / "mst_tiny_patch4_window7_224" / tag


def released_pth(folder: Path, classes: int = 10) -> Path:
    """Weights saved as the released code saves them."""
    config = MSTConfig(img_size=56, embed_dim=8, depths=(1, 1), num_heads=(1, 2), num_classes=classes)
    state = MaskedSpikingTransformer(config).state_dict()
    renamed = OrderedDict((name.replace(".threshold", ".up"), tensor) for name, tensor in state.items())
    content = {
        "model": renamed,
        "optimizer": {"state": {}},
        "max_accuracy": 1.0,
        "epoch": 3,
        "config": CfgNode({"A": 1}),
    }
    torch.save(content, folder / "released.pth")
    return folder / "released.pth"


def test_training_writes_checkpoints_with_the_values_of_the_flags(cifar_run: Path) -> None:
    output = run_folder(cifar_run)
    model, info = (
        mst.load_checkpoint(output / "last.safetensors"),
        mst.read_checkpoint_info(output / "best.safetensors"),
    )
    assert (model.config.masking_ratio, model.config.embed_dim, model.num_classes) == (0.75, 8, 10)
    assert (info.dataset, info.provenance["train"]["seed"]) == ("cifar10", 3)
    assert info.provenance["augment"]["crop_padding"] == 4
    assert info.provenance["augment"]["auto_augment"] == ""
    assert info.provenance["train"]["batch_size"] == 4
    assert info.provenance["train"]["mixup"] == 0.8
    assert model.config.drop_path_rate == 0.2


def test_snnvalidate_prints_the_accuracy_at_every_step(cifar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(run_folder(cifar_run) / "last.safetensors")
    flags = ["--snnvalidate", "True", "--sim_len", "3", "--pretrained", weights, "--dataset", "Cifar10", "--tag", "v"]
    assert main(command(cifar_run, *flags, "--masking_ratio", "0.5")) == 0
    printed = capsys.readouterr()
    assert [line.split()[:2] for line in printed.out.splitlines() if line.startswith("step ")] == [
        ["step", "1"], ["step", "2"], ["step", "3"]
    ]  # fmt: skip
    assert "was made with masking ratio 0.75; it runs with 0.5" in printed.err
    result = json.loads((run_folder(cifar_run, "v") / "simulation.json").read_text())
    assert (result["num_steps"], result["num_images"], result["masking_ratio"]) == (3, 4, 0.5)


def test_validation_checks_what_is_stated_about_the_network(cifar_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--eval", "--resume", str(run_folder(cifar_run)), "--dataset", "Cifar10"]
    line = fails(command(cifar_run, *flags, opts=("MODEL.NUM_LEVELS", "4")), capfd)
    assert "MODEL.NUM_LEVELS is 4, but" in line
    assert "holds a network with 16" in line
    other = [flag for flag in flags if flag != "--eval"]
    assert "--output and --tag say" in fails(command(cifar_run, *other, "--tag", "elsewhere"), capfd)


def test_eval_evaluates_and_resume_names_a_run(cifar_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(run_folder(cifar_run))
    assert main(command(cifar_run, "--eval", "--resume", folder, "--dataset", "Cifar10")) == 0
    assert "ANN on cifar10: top-1" in capsys.readouterr().out
    same = ["--dataset", "Cifar10", "--masking_ratio", "0.75", "--seed", "3", "--tag", "a"]
    assert main(command(cifar_run, "--resume", folder, *same)) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_released_pth_is_validated_and_its_missing_ratio_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar100(tmp_path / "data", 4)
    weights = str(released_pth(tmp_path, 100))
    flags = ["--snnvalidate", "True", "--sim_len", "2", "--pretrained", weights, "--dataset", "Cifar100"]
    assert main(command(tmp_path, *flags)) == 0
    assert "stores no masking ratio and none is given: 0 is assumed" in capsys.readouterr().err
    assert main(command(tmp_path, *flags, "--masking_ratio", "0.75", "--tag", "b")) == 0
    assert json.loads((run_folder(tmp_path, "b") / "simulation.json").read_text())["masking_ratio"] == 0.75


def test_training_from_released_weights_with_other_classes_then_validates_what_it_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10(tmp_path / "data", 4)
    weights = str(released_pth(tmp_path, 7))
    assert main(command(tmp_path, "--pretrained", weights, "--dataset", "Cifar10", "--tag", "f")) == 0
    assert (
        main(command(tmp_path, "--resume", str(run_folder(tmp_path, "f")), "--dataset", "Cifar10", "--tag", "f")) == 0
    )
    assert "starting from" in (printed := capsys.readouterr().err)
    assert "its head is for other classes" in printed
    flags = ["--snnvalidate", "True", "--sim_len", "2", "--dataset", "cifar10", "--tag", "t"]
    assert main(command(tmp_path, *flags)) == 0
    assert "step    2  top-1" in capsys.readouterr().out


def test_imagenet_from_zip_and_throughput(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(tmp_path / "data", image_files(classes=3, train=3, test=1))
    assert (
        main(
            command(
                tmp_path,
                "--zip",
                "--cache-mode",
                "full",
                "--tag",
                "z",
                "--use-checkpoint",
                "--disable_amp",
                "--accumulation-steps",
                "2",
                "--optim",
                "sgd",
                "-lr",
                "0.01",
                "--threshold",
                "1.5",
            )
        )
        == 0
    )
    info = mst.read_checkpoint_info(run_folder(tmp_path, "z") / "last.safetensors")
    assert info.provenance["train"]["optimizer"] == "sgd"
    assert info.provenance["train"]["accumulation_steps"] == 2
    assert info.provenance["train"]["learning_rate"] == 0.01
    assert info.provenance["augment"]["auto_augment"] == "rand-m9-mstd0.5-inc1"
    model = mst.load_checkpoint(run_folder(tmp_path, "z") / "last.safetensors")
    assert (model.config.threshold, model.config.grad_checkpointing) == (1.5, True)
    capsys.readouterr()
    monkeypatch.setattr("mst.cli.released.command.measure_throughput", partial(measure_throughput, seconds=0))
    data = str(tmp_path / "data")
    arguments = ["--cfg", CONFIG, "--batch-size", "4", "--data-path", data, "--throughput", "--opts", *SMALL]
    assert main(arguments) == 0
    assert "batch size 4: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "opts", "message"),
    [
        (["--dataset", "MNIST"], [], "unknown --dataset 'MNIST'; choose from imagenet, Cifar10, Cifar100"),
        (["--masking_ratio", "75"], [], "for 75 % write 0.75"),
        (["--cache-mode", "part"], [], "--cache-mode part is refused: it ties"),
        (["--zip"], [], "--zip needs train.zip"),
        (["--zip", "--dataset", "Cifar10"], [], "--zip is for imagenet"),
        (["--cache-mode", "full", "--dataset", "Cifar10"], [], "lies in memory anyway"),
        (["--eval"], [], "--eval needs weights"),
        (["--sim_len", "64"], [], "--sim_len is the number of steps of --snnvalidate True, which is not given"),
        (["--eval", "--pretrained", "x.pth", "--optim", "sgd"], [], "--optim would have no effect: nothing is trained"),
        (["--pretrained", "a", "--resume", "b"], [], "give one of them"),
        (["--resume", "x.pth"], [], "cannot be taken over; start from its weights with --pretrained"),
        (["--resume", "nowhere"], [], "nothing to resume: nowhere does not exist"),
        (["--throughput", "--eval", "--pretrained", "x.pth"], [], "--throughput measures and ends"),
        (["--optim", "adamq"], [], "unknown optimizer 'adamq'"),
        (["--snnvalidate", "True", "--pretrained", "none.pth", "--dataset", "Cifar10"], [], "no such"),
        ([], ["TRAIN.EPOCH", "3"], "--opts: unknown key 'TRAIN.EPOCH'; did you mean TRAIN.EPOCHS"),
        ([], ["TRAIN.EPOCHS"], "--opts takes pairs"),
        ([], ["TRAIN.EPOCHS", "many"], "TRAIN.EPOCHS must be of the kind int"),
        ([], ["MODEL.TYPE", "vit"], "MODEL.TYPE 'vit' is not built here"),
        (["--snnvalidate", "True", "--sim_len", "0"], [], "SIM_LEN must be at least 1"),
        (["--throughput", "--optim", "sgd"], [], "--optim, --output would have no effect"),
        ([], ["TAG", "["], "--opts TAG: '[' is not a value in YAML"),
        ([], [], "imagenet is not in"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_the_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    flags: list[str],
    opts: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(command(tmp_path, *flags, opts=tuple(opts)), capfd)


def test_wrong_flags_exit_with_two(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "--cfg" in fails([], capfd, 2)
    assert "must be True or False" in fails(["--cfg", CONFIG, "--snnvalidate", "yes"], capfd, 2)
    assert "unrecognized arguments: --fuse" in fails(["--cfg", CONFIG, "--fuse"], capfd, 2)
    assert "--amp-opt-level is refused: apex" in fails(["--cfg", CONFIG, "--amp-opt-level", "O1"], capfd, 2)
    (tmp_path / "bad.yaml").write_text("a: [")
    assert "not a YAML file" in fails(["--cfg", str(tmp_path / "bad.yaml")], capfd)
    (tmp_path / "list.yaml").write_text("[1]")
    assert "must hold keys and values" in fails(["--cfg", str(tmp_path / "list.yaml")], capfd)


ALIVE = {
    "SEED": 5, "MODEL.DROP_PATH_RATE": 0.1, "MODEL.LABEL_SMOOTHING": 0.2, "MODEL.MASKING_RATIO": 0.5,
    "MODEL.NUM_LEVELS": 8, "MODEL.THRESHOLD": 1.0, "MODEL.MLP_BATCH_NORM": False, "MODEL.MST.PATCH_SIZE": 2,
    "MODEL.MST.EMBED_DIM": 48, "MODEL.MST.DEPTHS": (1, 1), "MODEL.MST.NUM_HEADS": (1, 1), "MODEL.MST.WINDOW_SIZE": 5,
    "MODEL.MST.MLP_RATIO": 2.0, "MODEL.MST.QKV_BIAS": False, "MODEL.MST.APE": True, "DATA.BATCH_SIZE": 6,
    "DATA.DATA_PATH": "x", "DATA.DATASET": "cifar10", "DATA.IMG_SIZE": 112, "DATA.INTERPOLATION": "bilinear",
    "DATA.NUM_WORKERS": 1, "DATA.CACHE_MODE": "full", "TRAIN.EPOCHS": 30, "TRAIN.WARMUP_EPOCHS": 2,
    "TRAIN.WEIGHT_DECAY": 0.1, "TRAIN.BASE_LR": 1e-3, "TRAIN.WARMUP_LR": 1e-5, "TRAIN.MIN_LR": 1e-6,
    "TRAIN.CLIP_GRAD": 1.0, "TRAIN.ACCUMULATION_STEPS": 2, "TRAIN.USE_CHECKPOINT": True, "TRAIN.OPTIMIZER.NAME": "sgd",
    "AUG.COLOR_JITTER": 0.4, "AUG.AUTO_AUGMENT": "rand-m5", "AUG.REPROB": 0.5, "AUG.MIXUP": 0.0, "AUG.CUTMIX": 0.0,
    "TEST.CROP": False, "OUTPUT": "o", "TAG": "t", "MODEL.NAME": "n", "MODEL.RESUME": ".", "MODEL.PRETRAINED": "p",
    "DEVICE": "cpu", "ON_BAD_IMAGE": "skip",
}  # fmt: skip


def test_every_key_of_the_yaml_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing a key changes what training, or validation, is called with."""
    from mst.cli.released import command

    def called(values: dict[str, object]) -> dict[str, object]:
        seen: dict[str, object] = {}
        monkeypatch.setattr(command, "train_and_report", lambda options, output, **kw: seen.update(o=options, f=output))
        settings = Settings({**DEFAULTS, "TRACKERS": ("tensorboard",), **values})
        command._train(settings)
        return seen | {"weights": settings.weights}

    monkeypatch.chdir(tmp_path)
    (tmp_path / "options.json").write_text('{"init_from": "start.pth"}')
    plain = called({})
    elsewhere = {"AMP_ENABLE", "DATA.ZIP_MODE", "SIM_LEN", "MODEL.TYPE"}  # in the tests above; AMP acts on a GPU only
    assert set(ALIVE) | elsewhere == set(DEFAULTS)
    for key, value in ALIVE.items():
        assert called({key: value}) != plain, key
    monkeypatch.setattr("mst.cli.released.settings.runs_on_cpu", lambda device: False)
    assert called({"AMP_ENABLE": False})["o"].train.mixed_precision == "no"  # type: ignore[attr-defined]
    assert called({})["o"].train.mixed_precision == "fp16"  # type: ignore[attr-defined]


def test_released_commands_run_in_two_processes(tmp_path: Path) -> None:
    """Training and SNN validation under torchrun, on stand-in ImageNet in class folders."""
    write_folder(tmp_path / "data", image_files(classes=3, train=6, test=1))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    flags = ["--snnvalidate", "True", "--sim_len", "2", "--masking_ratio", "0.75", "--tag", "a"]
    done = subprocess.run(
        [*torchrun, str(ROOT / "main.py"), *command(tmp_path, *flags)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("step    2  top-1") == 1  # only one process prints
    assert json.loads((run_folder(tmp_path) / "simulation.json").read_text())["num_images"] == 3
