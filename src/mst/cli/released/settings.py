"""The keys of the released YAML, their defaults, and what they mean in our terms.

Keys have the names of the Swin code, from which the released one descends. Later ones override earlier ones:
defaults, the YAML file, --opts, flags. What cannot take effect is refused with the reason.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mst.data import AugmentConfig, dataset_info, find_image_splits
from mst.distributed import runs_on_cpu
from mst.errors import InputError, MissingFileError
from mst.models import MSTConfig
from mst.neurons import check_masking_ratio
from mst.text import note, one_line, suggestion
from mst.training import LAST_CHECKPOINT, TrainConfig

DATASETS = {"imagenet": "imagenet", "cifar10": "cifar10", "cifar100": "cifar100"}
"""The released names, in lower case -> ours."""

BASE_MODEL = "mst_tiny_patch4_window7_224"

DEFAULTS: dict[str, Any] = {
    "OUTPUT": "output",
    "TAG": "default",
    "SEED": 0,
    "AMP_ENABLE": True,
    "DEVICE": "auto",
    "SIM_LEN": 128,
    "ON_BAD_IMAGE": "fail",
    "MODEL.TYPE": "mst",
    "MODEL.NAME": BASE_MODEL,
    "MODEL.PRETRAINED": "",
    "MODEL.RESUME": "",
    "MODEL.DROP_PATH_RATE": 0.2,
    "MODEL.LABEL_SMOOTHING": 0.1,
    "MODEL.MASKING_RATIO": None,
    "MODEL.NUM_LEVELS": 16,
    "MODEL.THRESHOLD": 2.0,
    "MODEL.MLP_BATCH_NORM": True,
    "MODEL.MST.PATCH_SIZE": 4,
    "MODEL.MST.EMBED_DIM": 96,
    "MODEL.MST.DEPTHS": [2, 2, 6, 2],
    "MODEL.MST.NUM_HEADS": [3, 6, 12, 24],
    "MODEL.MST.WINDOW_SIZE": 7,
    "MODEL.MST.MLP_RATIO": 4.0,
    "MODEL.MST.QKV_BIAS": True,
    "MODEL.MST.APE": False,
    "DATA.BATCH_SIZE": 128,
    "DATA.DATA_PATH": "",
    "DATA.DATASET": "imagenet",
    "DATA.IMG_SIZE": 224,
    "DATA.INTERPOLATION": "bicubic",
    "DATA.NUM_WORKERS": 8,
    "DATA.ZIP_MODE": False,
    "DATA.CACHE_MODE": "no",
    "TRAIN.EPOCHS": 300,
    "TRAIN.WARMUP_EPOCHS": 20,
    "TRAIN.WEIGHT_DECAY": 0.05,
    "TRAIN.BASE_LR": 1e-4,
    "TRAIN.WARMUP_LR": 1e-6,
    "TRAIN.MIN_LR": 1e-5,
    "TRAIN.CLIP_GRAD": 5.0,
    "TRAIN.ACCUMULATION_STEPS": 1,
    "TRAIN.USE_CHECKPOINT": False,
    "TRAIN.OPTIMIZER.NAME": "adamw",
    "AUG.COLOR_JITTER": 0.0,
    "AUG.AUTO_AUGMENT": None,
    "AUG.REPROB": None,
    "AUG.MIXUP": 0.8,
    "AUG.CUTMIX": 1.0,
    "TEST.CROP": True,
}
"""Every key and its value by default.

AUG.AUTO_AUGMENT and AUG.REPROB default to rand-m9-mstd0.5-inc1 and 0.25 on ImageNet and to nothing on CIFAR, where the
released code crops at random with a padding of 4 instead. (With AUTO_AUGMENT timm leaves colour jitter out.)
"""


@dataclass(frozen=True)
class Settings:
    """Key -> value, all sources merged.

    asked: the keys that --opts and flags gave, as against those of the YAML file and the defaults.
    """

    values: dict[str, Any]
    asked: frozenset[str] = frozenset()

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def dataset(self) -> str:
        name = str(self["DATA.DATASET"])
        if name.lower() not in DATASETS:
            raise InputError(f"unknown --dataset {name!r}; choose from imagenet, Cifar10, Cifar100")
        return DATASETS[name.lower()]

    @property
    def weights(self) -> Path | None:
        """The file that evaluation reads: --pretrained, or the run named by --resume."""
        if self["MODEL.PRETRAINED"]:
            return Path(self["MODEL.PRETRAINED"])
        folder = self.resumed
        return None if folder is None else folder / LAST_CHECKPOINT

    @property
    def resumed(self) -> Path | None:
        """The folder of the run that --resume names, itself or by a file in it."""
        if not self["MODEL.RESUME"]:
            return None
        path = Path(self["MODEL.RESUME"])
        if path.suffix == ".pth":
            raise InputError(
                f"{path}: the optimizer of a released training run cannot be taken over; start from its weights with "
                "--pretrained. --resume takes the folder of a run of this package, or a file in it"
            )
        if not path.exists():
            raise MissingFileError(f"nothing to resume: {path} does not exist")
        return path if path.is_dir() else path.parent

    @property
    def output(self) -> Path:
        named = Path(self["OUTPUT"]) / self["MODEL.NAME"] / self["TAG"]
        return named if self.resumed is None or {"OUTPUT", "TAG"} & self.asked else self.resumed

    @property
    def data_path(self) -> Path | None:
        path = Path(self["DATA.DATA_PATH"]) if self["DATA.DATA_PATH"] else None
        if self["DATA.ZIP_MODE"]:
            if self.dataset != "imagenet":
                raise InputError(f"--zip is for imagenet; {self.dataset} has files of its own")
            found = find_image_splits(path) if path is not None else None
            if found is None or {place.suffix for place in found} != {".zip"}:
                raise MissingFileError(
                    f"--zip needs train.zip, train_map.txt, val.zip and val_map.txt in {path}, and no train/ or val/ "
                    "beside them"
                )
        return path

    @property
    def masking_ratio(self) -> float | None:
        """As asked for; None: not at all."""
        ratio = self["MODEL.MASKING_RATIO"]
        return None if ratio is None else check_masking_ratio(ratio)

    @property
    def cache_images(self) -> bool:
        mode = self["DATA.CACHE_MODE"]
        if mode == "part":
            raise InputError(
                "--cache-mode part is refused: it ties every process to its own part of the images, which changes what "
                "is trained. Choose no or full"
            )
        if mode not in ("no", "full"):
            raise InputError(f"--cache-mode must be no or full, got {mode!r}")
        if mode == "full" and self.dataset != "imagenet":
            raise InputError(f"--cache-mode is for imagenet; {self.dataset} lies in memory anyway")
        return bool(mode == "full")

    @property
    def crop_ratio(self) -> float:
        return dataset_info(self.dataset).crop_ratio if self["TEST.CROP"] else 1.0

    def check_sizes(self, config: MSTConfig, weights: Path) -> None:
        """Check that the sizes in --opts are those of these weights.

        Raises:
            ValueError: it is not.
        """
        said = {**self.model_kwargs(), "num_levels": self["MODEL.NUM_LEVELS"]}
        for key in sorted(self.asked):
            name = "absolute_position_embedding" if key == "MODEL.MST.APE" else key.rpartition(".")[2].lower()
            is_size = key.startswith("MODEL.MST.") or key in (
                "MODEL.NUM_LEVELS",
                "MODEL.MLP_BATCH_NORM",
                "DATA.IMG_SIZE",
            )
            actual = getattr(config, name, None)
            if is_size and said[name] != actual:
                raise InputError(f"{key} is {said[name]}, but {weights} holds a network with {actual}")

    def model_kwargs(self) -> dict[str, Any]:
        """Fields of MSTConfig."""
        sizes = {
            name: self[f"MODEL.MST.{name.upper()}"]
            for name in ("patch_size", "embed_dim", "depths", "num_heads", "window_size", "mlp_ratio", "qkv_bias")
        }
        return {
            **sizes,
            "absolute_position_embedding": self["MODEL.MST.APE"],
            "drop_path_rate": self["MODEL.DROP_PATH_RATE"],
            "threshold": self["MODEL.THRESHOLD"],
            "mlp_batch_norm": self["MODEL.MLP_BATCH_NORM"],
            "grad_checkpointing": self["TRAIN.USE_CHECKPOINT"],
            "img_size": self["DATA.IMG_SIZE"],
        }

    def augment(self) -> AugmentConfig:
        """CIFAR: padded random crop; ImageNet: random resized crop, RandAugment, random erasing. Both: flip."""
        policy, erasing = self["AUG.AUTO_AUGMENT"], self["AUG.REPROB"]
        natural = self.dataset == "imagenet"
        return AugmentConfig(
            crop_padding=0 if natural else 4,
            random_resized_crop=0.08 if natural else 0.0,
            horizontal_flip=True,
            auto_augment=(policy or "") if policy is not None else ("rand-m9-mstd0.5-inc1" if natural else ""),
            color_jitter=self["AUG.COLOR_JITTER"],
            erasing_probability=erasing if erasing is not None else (0.25 if natural else 0.0),
        )

    def train_config(self, trackers: tuple[str, ...]) -> TrainConfig:
        """The loop's settings."""
        precision = "fp16" if self["AMP_ENABLE"] else "no"
        if precision == "fp16" and runs_on_cpu(self["DEVICE"]):
            note("mixed precision in fp16 needs an accelerator; on the CPU this runs in float32")
            precision = "no"
        return TrainConfig(
            epochs=self["TRAIN.EPOCHS"],
            batch_size=self["DATA.BATCH_SIZE"],
            accumulation_steps=self["TRAIN.ACCUMULATION_STEPS"],
            optimizer=str(self["TRAIN.OPTIMIZER.NAME"]).lower(),
            learning_rate=self["TRAIN.BASE_LR"],
            min_learning_rate=self["TRAIN.MIN_LR"],
            warmup_epochs=self["TRAIN.WARMUP_EPOCHS"],
            warmup_learning_rate=self["TRAIN.WARMUP_LR"],
            weight_decay=self["TRAIN.WEIGHT_DECAY"],
            clip_grad_norm=self["TRAIN.CLIP_GRAD"],
            label_smoothing=self["MODEL.LABEL_SMOOTHING"],
            mixup=self["AUG.MIXUP"],
            cutmix=self["AUG.CUTMIX"],
            seed=self["SEED"],
            eval_batch_size=self["DATA.BATCH_SIZE"],
            num_workers=self["DATA.NUM_WORKERS"],
            mixed_precision=precision,  # type: ignore[arg-type]
            trackers=trackers,
            device=self["DEVICE"],
        )


def resolve(flags: argparse.Namespace) -> Settings:
    """Defaults, YAML, --opts and flags, merged; unknown keys are refused."""
    path = Path(flags.cfg)
    if not path.is_file():
        raise MissingFileError(f"no configuration file: {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not a YAML file ({one_line(error)})", where=str(path)) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold keys and values, it holds {type(content).__name__}")
    from_file = {_known(str(key), str(path)): value for key, value in _flatten(content).items()}
    given: dict[str, Any] = {}
    if len(flags.opts) % 2:
        raise InputError(f"--opts takes pairs of KEY VALUE, got {' '.join(flags.opts)}")
    for key, text in zip(flags.opts[::2], flags.opts[1::2], strict=True):
        try:
            given[_known(key, "--opts")] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--opts {key}: {text!r} is not a value in YAML") from error
    by_flag = {
        "DATA.BATCH_SIZE": flags.batch_size, "DATA.DATA_PATH": flags.data_path, "DATA.DATASET": flags.dataset,
        "DATA.ZIP_MODE": flags.zip or None, "DATA.CACHE_MODE": flags.cache_mode, "MODEL.PRETRAINED": flags.pretrained,
        "MODEL.RESUME": flags.resume, "MODEL.MASKING_RATIO": flags.masking_ratio, "MODEL.THRESHOLD": flags.threshold,
        "TRAIN.ACCUMULATION_STEPS": flags.accumulation_steps, "TRAIN.USE_CHECKPOINT": flags.use_checkpoint or None,
        "TRAIN.BASE_LR": flags.learning_rate, "TRAIN.OPTIMIZER.NAME": flags.optim, "OUTPUT": flags.output,
        "TAG": flags.tag, "SEED": flags.seed, "SIM_LEN": flags.sim_len,
        "AMP_ENABLE": False if flags.disable_amp else None, "ON_BAD_IMAGE": flags.on_bad_image,
    }  # fmt: skip
    given |= {key: value for key, value in by_flag.items() if value is not None}
    values = {**DEFAULTS, **{key: _typed(key, value) for key, value in {**from_file, **given}.items()}}
    values["TRACKERS"] = ("tensorboard", "wandb") if flags.wandb else ("tensorboard",)
    if values["MODEL.TYPE"] not in ("mst", "swin"):
        raise InputError(f"MODEL.TYPE {values['MODEL.TYPE']!r} is not built here; mst is")
    for key in ("SIM_LEN", "DATA.BATCH_SIZE"):
        if values[key] < 1:
            raise InputError(f"{key} must be at least 1, got {values[key]}")
    settings = Settings(values, frozenset(given))
    _refuse_what_has_no_effect(flags, settings)
    return settings


def _refuse_what_has_no_effect(flags: argparse.Namespace, settings: Settings) -> None:
    _ = settings.masking_ratio, settings.dataset, settings.cache_images  # raise, if they must, before any work
    if settings["MODEL.RESUME"] and settings["MODEL.PRETRAINED"]:
        raise InputError("--resume continues a run and --pretrained starts one; give one of them")
    validates = flags.eval or (flags.snnvalidate and settings.weights is not None)
    if flags.eval and settings.weights is None:
        raise InputError("--eval needs weights: --pretrained FILE, or --resume with the folder of a run")
    if flags.sim_len is not None and not flags.snnvalidate:
        raise InputError("--sim_len is the number of steps of --snnvalidate True, which is not given")
    if flags.throughput and (validates or flags.snnvalidate):
        raise InputError("--throughput measures and ends; leave out --eval and --snnvalidate")
    if settings.resumed is not None and not validates and settings.output != settings.resumed:
        raise InputError(
            f"--resume continues the run in {settings.resumed} where it is; --output and --tag say {settings.output}"
        )
    training_only = {
        "--threshold": flags.threshold, "--optim": flags.optim, "--learning_rate": flags.learning_rate,
        "--accumulation-steps": flags.accumulation_steps, "--use-checkpoint": flags.use_checkpoint or None,
        "--wandb": flags.wandb or None,
    }  # fmt: skip
    if flags.throughput:
        elsewhere = {"--output": flags.output, "--tag": flags.tag, "--cache-mode": flags.cache_mode}
        training_only |= elsewhere | {"--disable_amp": flags.disable_amp or None}
    if validates or flags.throughput:
        idle = [flag for flag, value in training_only.items() if value is not None]
        if idle:
            raise InputError(f"{', '.join(idle)} would have no effect: nothing is trained by this command")


def _flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _known(key: str, where: str) -> str:
    ours = key.replace("MODEL.SWIN.", "MODEL.MST.")
    if ours not in DEFAULTS:
        raise InputError(f"unknown key {key!r}", where=where, remedy=suggestion(key, list(DEFAULTS)))
    return ours


def _typed(key: str, value: Any) -> Any:
    """`value` as the kind of thing that the default is; YAML reads 1e-4 as text."""
    default = DEFAULTS[key]
    try:
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise ValueError
            return value
        if isinstance(default, float):
            return float(value)
        if isinstance(default, int):
            if isinstance(value, bool) or int(value) != float(value):
                raise ValueError
            return int(value)
        if isinstance(default, str):
            return str(value)
        if isinstance(default, list):
            return tuple(int(entry) for entry in value)
        return float(value) if key in ("MODEL.MASKING_RATIO", "AUG.REPROB") and value is not None else value
    except (TypeError, ValueError):
        kind = type(default).__name__ if default is not None else "number"
        raise InputError(f"{key} must be of the kind {kind}, got {value!r}") from None
