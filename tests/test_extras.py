"""The command that installs an extra, for each way in which mst can be there."""

from __future__ import annotations

import json
import shlex
import tomllib
from importlib.metadata import PackageNotFoundError, PathDistribution
from pathlib import Path

import pytest

from mst import extras

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def installed_from(origin: dict[str, object] | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the installation be one whose direct_url.json holds `origin`; None writes no such file."""
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: masked-spiking-transformer\nVersion: 0.1.0\n")
    if origin is not None:
        (folder / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.setattr(extras, "distribution", {extras.PACKAGE: PathDistribution(folder)}.__getitem__)


@pytest.mark.parametrize(
    "origin",
    [
        None,  # from an index
        {"archive_info": {}, "url": "file:///wheels/masked_spiking_transformer-0.1.0-py3-none-any.whl"},
        {"dir_info": {}, "url": "file:///home/ada/mst"},
        {"dir_info": {"editable": False}, "url": "file:///home/ada/mst"},
        {"vcs_info": {"vcs": "git"}, "url": "https://example.org/mst.git"},
    ],
)
def test_installed_package_is_named(
    origin: dict[str, object] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed_from(origin, tmp_path, monkeypatch)
    assert extras.install_command("fast") == 'pip install "masked-spiking-transformer[fast]"'


def test_clone_is_named_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "my clone"
    installed_from({"dir_info": {"editable": True}, "url": clone.as_uri()}, tmp_path, monkeypatch)
    assert shlex.split(extras.install_command("report")) == ["pip", "install", "-e", f"{clone}[report]"]


def test_sources_without_an_installation_are_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "distribution", missing)
    sources = Path(extras.__file__).parents[2]
    assert extras.install_command("demo") == f'pip install -e "{sources}[demo]"'


def test_package_is_that_of_the_project() -> None:
    assert tomllib.loads(PYPROJECT.read_text())["project"]["name"] == extras.PACKAGE
