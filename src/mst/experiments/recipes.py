"""Recipes: configuration files of complete runs that ship with the package, as option objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mst.errors import InputError, MissingFileError
from mst.options import add_group, gather, with_changes
from mst.recipes import recipe_names, recipe_path
from mst.text import one_line

from .options import TrainingOptions
from .sweep_options import SweepOptions

SWEEP = "sweep-"
"""Names of recipes that begin so are sweeps; the others are trainings."""


def load_recipe(name: str | Path, changes: Mapping[str, Any] | None = None) -> TrainingOptions | SweepOptions:
    """The options of a recipe, for `run_training` or, where its name begins with "sweep-", for `run_sweep`.

    Args:
        name: a name of `recipe_names()`, or the path of a YAML file with the options of `mst train`; with a key
            masking_ratios it holds those of `mst sweep`.
        changes: options to change, by their names on the command line ({"train.epochs": 3, "masking_ratio": 0.5}).

    Raises:
        InputError: an unknown recipe or option, or a value that it cannot have.
        MissingFileError: no such file.

    Example:
        recipe = mst.load_recipe("digits-mst", {"train.epochs": 3})
        mst.run_training(recipe, "runs/digits")
    """
    path = _path(str(name))
    values = _read(path)
    is_sweep = path.stem.startswith(SWEEP) or bool({"masking_ratios", "method", "mask_seeds"} & values.keys())
    kind = SweepOptions if is_sweep else TrainingOptions
    options: TrainingOptions | SweepOptions = parse_options(kind, values, str(name))
    return with_changes(options, changes or {})


def parse_options(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """Options of a group from plain values, converted and checked as those of the command line.

    Raises:
        InputError: an unknown option or a value that it cannot have.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    add_group(parser, kind)
    try:
        return gather(kind, vars(parser.parse_object(dict(values))))
    except ArgumentError as error:
        raise InputError(one_line(error), where=where) from error


def _path(name: str) -> Path:
    if name in recipe_names():
        return recipe_path(name)
    if Path(name).is_file():
        return Path(name)
    if Path(name).suffix:
        raise MissingFileError(f"there is no file {name}")
    return recipe_path(name)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not a YAML file ({one_line(error)})", where=str(path)) from error
    if not isinstance(values, dict):
        raise InputError(f"a recipe holds options and values, this file holds {type(values).__name__}", where=str(path))
    return values
