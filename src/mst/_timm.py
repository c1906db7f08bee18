"""Registers our models with timm as soon as timm is loaded, without loading it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def register_models_with_timm() -> None:
    """Register now if timm is loaded; otherwise right after somebody imports it."""
    if "timm" in sys.modules:
        import_module("mst.models.registry")
    else:
        sys.meta_path.insert(0, _BeforeTimm())


class _BeforeTimm(MetaPathFinder):
    """Finds timm as everyone else would, and registers our models once its code has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if "mst.models" not in sys.modules:  # otherwise our models are being loaded, and import timm themselves
            import_module("mst.models.registry")

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)
