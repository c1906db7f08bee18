"""Train Transformers with quantised activations, mask their spikes, convert them to spiking networks, measure them.

Importing this package is quick: each public name is loaded at its first use. The models are registered with timm.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from mst._lazy import lazy_names
from mst._timm import register_models_with_timm

__version__ = "0.1.0"

_get, _names, _public = lazy_names(__name__, __file__)
_ROOMS = {path.stem for path in Path(__file__).parent.glob("[a-z]*") if path.suffix in ("", ".py")}

__all__ = ["__version__", *_public]


def __getattr__(name: str) -> Any:
    """Load a public name, or a room, at its first use."""
    if name in _ROOMS and name not in _public:
        return import_module(f"mst.{name}")
    return _get(name)


def __dir__() -> list[str]:
    return sorted({*_names(), *_ROOMS})


register_models_with_timm()
