"""Train Transformers with quantised activations, mask their spikes, convert them to spiking networks, measure them.

Importing this package is quick: each public name is loaded at its first use. The models are registered with timm.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

from mst._timm import register_models_with_timm

__version__ = "0.1.0"


def _public_names() -> dict[str, str]:
    """Public name -> module that it comes from, as `__init__.pyi` lists them."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_MODULE_OF = _public_names()
_ROOMS = {path.stem for path in Path(__file__).parent.glob("[a-z]*") if path.suffix in ("", ".py")}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    """Load a public name, or a room, at its first use (PEP 562)."""
    if name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return import_module(f"mst.{name}")
    raise AttributeError(f"module 'mst' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})


register_models_with_timm()
