"""Heavy packages are loaded where they are used, judged by the modules that fresh processes have loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mst

HEAVY = ("accelerate", "matplotlib", "pandas", "scipy", "sklearn", "tensorboard", "tonic")
LIGHT_ROOMS = (
    "data", "neurons", "models", "quantization", "checkpoints", "dataflow", "operations", "conversion", "simulation",
    "measure",
)  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after `code`."""
    script = f"{code}\nimport sys; print('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_import_mst_loads_no_heavy_package() -> None:
    assert not loaded_by("import mst; dir(mst)") & {*HEAVY, "torch", "torchvision", "timm", "numpy"}


def test_help_loads_no_heavy_package() -> None:
    assert not loaded_by("from mst.cli.main import main; main(['--help'])") & {*HEAVY, "torch", "timm", "numpy"}


def test_options_of_data_sets_load_no_torch() -> None:
    assert not loaded_by("import mst.data.options, mst.data.unreadable") & {*HEAVY, "torch", "timm", "PIL"}


STAGES = {
    "torch and timm": "import torch, timm",
    "rooms": f"""
import mst
for room in {LIGHT_ROOMS}: getattr(mst, room)
mst.convert, mst.simulate, mst.estimate_energy, mst.load_checkpoint, mst.load_dataset, mst.data.DATASETS
assert timm.is_model("mst_nano_patch2_window2_8") and timm.is_model("resnet18_small")
""",
    "report": "import mst.report",
    "drawing": "from pathlib import Path; mst.report.firing_rates({'a': 0.1}, 0.1, Path(sys.argv[1]))",
}
"""Code that one process executes in this order."""


@pytest.fixture(scope="module")
def loaded_at(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Stage -> top-level modules that a process has loaded after it."""
    script = "import sys\n" + "\n".join(
        f"{code}\nprint('LOADED', *{{name.partition('.')[0] for name in sys.modules}})" for code in STAGES.values()
    )
    figure = tmp_path_factory.mktemp("drawing") / "figure.png"
    done = subprocess.run([sys.executable, "-c", script, str(figure)], capture_output=True, text=True, check=True)
    assert figure.is_file()
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("LOADED")]
    return {stage: set(names) for stage, names in zip(STAGES, lines, strict=True)}


@pytest.mark.slow
def test_rooms_load_nothing_heavier_than_torch_and_timm(loaded_at: dict[str, set[str]]) -> None:
    """safetensors, torchvision and PIL come with timm."""
    added = {name for name in loaded_at["rooms"] - loaded_at["torch and timm"] if name not in sys.stdlib_module_names}
    assert added == {"mst"}


@pytest.mark.slow
def test_report_loads_matplotlib_to_draw_only(loaded_at: dict[str, set[str]]) -> None:
    assert "matplotlib" not in loaded_at["report"]
    assert "matplotlib" in loaded_at["drawing"]


@pytest.mark.slow
def test_models_are_registered_with_timm_when_mst_is_imported_first() -> None:
    """The stages above import timm first."""
    code = "import mst, timm.layers, timm\nassert timm.is_model('mst_nano_patch2_window2_8')"
    assert "timm" in loaded_by(f"{code} and timm.is_model('resnet18_small')")


def test_public_names_exist_and_are_those_of_the_stub() -> None:
    stub = ast.parse(Path(mst.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    listed = next(node for node in stub.body if isinstance(node, ast.Assign))
    assert sorted(mst.__all__) == sorted(ast.literal_eval(listed.value))
    for name in mst.__all__:
        getattr(mst, name)
    assert set(mst.__all__) <= set(dir(mst))


def test_rooms_are_attributes_and_other_names_are_not() -> None:
    assert mst.conversion is import_module("mst.conversion")
    with pytest.raises(AttributeError, match="module 'mst' has no attribute 'convertt'"):
        mst.convertt  # noqa: B018


def test_names_of_the_data_room_are_loaded_at_first_use() -> None:
    for name in mst.data.__all__:
        getattr(mst.data, name)
    assert set(mst.data.__all__) <= set(dir(mst.data))
    with pytest.raises(AttributeError, match="module 'mst.data' has no attribute 'load_datasets'"):
        mst.data.load_datasets  # noqa: B018
