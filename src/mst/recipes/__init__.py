"""A name comes in; the configuration file of a complete run goes out. The files hold values only."""

from pathlib import Path

from mst.errors import InputError
from mst.text import suggestion

_FOLDER = Path(__file__).parent


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that ship with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def recipe_path(name: str) -> Path:
    """The file of recipe `name`.

    Raises:
        InputError: there is none of that name (suggests the nearest).
    """
    path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = recipe_names()
        raise InputError(f"unknown recipe {name!r}", remedy=suggestion(name, known, f"known: {', '.join(known)}"))
    return path


__all__ = ["recipe_names", "recipe_path"]
