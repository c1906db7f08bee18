"""Checkpoints on the hub, against a stand-in on this machine."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mst
from hub_stand_in import Hub, serving
from mst.checkpoints import hub as hub_module
from mst.checkpoints import publish, read_state_dict
from mst.checkpoints.hub import FILE_NAME
from mst.checkpoints.references import checkpoint_file, pinned_reference
from mst.zoo import zoo_file

REPOSITORY = "me/digits-mst"


UPLOADS = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub itself


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    hub_module.fetch.cache_clear()
    with serving(monkeypatch, str(tmp_path / "cache")) as found:
        yield found
    hub_module.fetch.cache_clear()


def weights() -> bytes:
    return zoo_file("digits-mst").read_bytes()


def test_load_fetches_a_checkpoint_once(hub: Hub) -> None:
    first = hub.repository(REPOSITORY).add({FILE_NAME: weights()})
    network, image = mst.load(f"hf:{REPOSITORY}"), torch.rand(2, 1, 8, 8)
    assert torch.equal(network(image), mst.load("digits-mst")(image))
    assert mst.read_checkpoint_info(Path(f"hf:{REPOSITORY}")).dataset == "digits"
    assert read_state_dict(Path(f"hf:{REPOSITORY}@{first}")).keys() == network.state_dict().keys()
    assert hub.requests.count(f"GET {FILE_NAME}") == 1


def test_pinned_reference_stays_with_its_revision(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="mst")
    repository = hub.repository(REPOSITORY)
    first = repository.add({FILE_NAME: weights()})
    pinned = pinned_reference(Path(f"hf:{REPOSITORY}"))
    assert str(pinned) == f"hf:{REPOSITORY}@{first}"
    assert first in caplog.text
    repository.add({FILE_NAME: weights() + b" "})
    hub_module.fetch.cache_clear()
    assert checkpoint_file(pinned).read_bytes() == weights()
    assert checkpoint_file(f"hf:{REPOSITORY}").read_bytes() == weights() + b" "
    assert pinned_reference(Path("zoo:digits-mst")) == Path("zoo:digits-mst")


def test_copy_in_the_cache_does_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repository(REPOSITORY).add({FILE_NAME: weights()})
    copy = checkpoint_file(f"hf:{REPOSITORY}")
    hub_module.fetch.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert checkpoint_file(f"hf:{REPOSITORY}") == copy
    with pytest.raises(mst.InputError, match=r"hf:me/other: the hub cannot be reached.*HF_HUB_OFFLINE"):
        checkpoint_file("hf:me/other")


def test_repository_without_safetensors_is_refused(hub: Hub) -> None:
    hub.repository(REPOSITORY).add({"pytorch_model.bin": pickle.dumps({"a": 1})})
    with pytest.raises(
        mst.MissingFileError,
        match=r"only pytorch_model.bin, a pickle; it is not read, a pickle can run code.*mst import",
    ):
        mst.load(f"hf:{REPOSITORY}")
    assert not any(request.endswith((".bin", FILE_NAME)) for request in hub.requests)
    hub.repository("me/other").add({"last.safetensors": weights()})
    with pytest.raises(mst.MissingFileError, match=r"holds no model.safetensors"):
        mst.load("hf:me/other")


def test_pickle_under_the_name_of_a_safetensors_file_is_refused(hub: Hub) -> None:
    hub.repository(REPOSITORY).add({FILE_NAME: pickle.dumps({"a": 1})})
    with pytest.raises(mst.InputError, match=f"hf:{REPOSITORY}: not a .safetensors file"):
        mst.load(f"hf:{REPOSITORY}")


def test_what_is_not_on_the_hub_is_named(hub: Hub) -> None:
    hub.repository(REPOSITORY).add({FILE_NAME: weights()})
    hub.repository("me/gated").is_gated = True
    hub.repository("me/private").is_private = True
    for reference, message in {
        f"{REPOSITORY}@v2": f"hf:{REPOSITORY}@v2: the repository has no such revision",
        "me/other": "hf:me/other: no such repository, or it is private.*hf auth login",
        "me/private": "no such repository, or it is private",
        "me/gated": "gives access on request only.*hf auth login",
        "digits-mst": "is USER/NAME or USER/NAME@REVISION, got 'digits-mst'",
        "me/a--b": "hf:me/a--b: ",
    }.items():
        with pytest.raises((mst.InputError, mst.MissingFileError), match=message):
            mst.load(f"hf:{reference}")


def test_hub_out_of_reach_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub_module.fetch.cache_clear()
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between the attempts of huggingface_hub
    with serving(monkeypatch, str(tmp_path)):
        pass  # it has gone
    with pytest.raises(mst.InputError, match=r"hf:me/other: the hub cannot be reached.*check the network"):
        mst.load("hf:me/other")
    monkeypatch.setenv("HF_TOKEN", "a-token")
    with pytest.raises(mst.InputError, match=r"hf:me/other: the hub cannot be reached"):
        publish(zoo_file("digits-mst"), "me/other", "a card")


@UPLOADS
def test_published_checkpoint_is_what_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    reference = publish(zoo_file("digits-mst"), REPOSITORY, "# A card", private=True)
    assert hub.repositories[REPOSITORY].is_private
    assert list(hub.repositories[REPOSITORY].commits.values()) == [{FILE_NAME: weights(), "README.md": b"# A card"}]
    assert checkpoint_file(f"hf:{reference}").read_bytes() == weights()
    again = publish(zoo_file("digits-dvs-mst"), REPOSITORY, "# Another card", replace=True)
    assert again != reference
    assert checkpoint_file(f"hf:{again}").read_bytes() == zoo_file("digits-dvs-mst").read_bytes()


@pytest.mark.parametrize(
    ("token", "repository", "message"),
    [
        (None, REPOSITORY, "hf auth login"),
        ("a-token", "you/digits-mst", "refuses with status 403.*hf auth login"),
        ("a-token", f"{REPOSITORY}@main", "published as a new revision"),
        ("a-token", "digits-mst", "USER/NAME"),
    ],
)
def test_publish_without_access_publishes_nothing(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None, repository: str, message: str
) -> None:
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(mst.InputError, match=message):
        publish(zoo_file("digits-mst"), repository, "# A card")
    assert not hub.repositories


@pytest.mark.parametrize("trouble", ["offline", "out of order"])
def test_copy_in_the_cache_is_read_with_a_note(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    caplog.set_level("INFO", logger="mst")
    commit = hub.repository(REPOSITORY).add({FILE_NAME: weights()})
    copy = checkpoint_file(f"hf:{REPOSITORY}")
    hub_module.fetch.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", trouble == "offline")
    hub.is_down = True
    assert checkpoint_file(f"hf:{REPOSITORY}@{commit}") == copy
    assert "cannot be reached" not in caplog.text
    assert checkpoint_file(f"hf:{REPOSITORY}") == copy
    assert "cannot be reached; the copy in its cache is read" in caplog.text


def test_file_with_another_digest_is_refused(hub: Hub) -> None:
    hub.repository(REPOSITORY).add({FILE_NAME: weights()})
    hub.changes_files = True
    with pytest.raises(mst.InputError, match=r"not the one that the hub announced.*delete"):
        mst.load(f"hf:{REPOSITORY}")


def test_digest_of_a_small_file_is_that_of_git(tmp_path: Path) -> None:
    blob = tmp_path / "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # of an empty file
    blob.write_bytes(b"")
    hub_module._check_digest(blob, "here")
    blob.write_bytes(b"x")
    with pytest.raises(mst.InputError, match="digest"):
        hub_module._check_digest(blob, "here")


def test_cut_download_leaves_nothing_behind(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between the attempts of huggingface_hub
    hub.repository(REPOSITORY).add({FILE_NAME: weights()})
    hub.cuts_files = True
    with pytest.raises(mst.InputError, match="check the network"):
        checkpoint_file(f"hf:{REPOSITORY}")
    assert not capfd.readouterr().err
    hub.cuts_files = False
    assert checkpoint_file(f"hf:{REPOSITORY}").read_bytes() == weights()


@UPLOADS
def test_publish_replaces_files_only_when_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    publish(zoo_file("digits-mst"), REPOSITORY, "# One")
    with pytest.raises(mst.FileConflictError, match=r"model.safetensors and README.md already.*--replace"):
        publish(zoo_file("digits-mst"), REPOSITORY, "# Two")
    publish(zoo_file("digits-mst"), REPOSITORY, "# Two", replace=True)
    cards = [files["README.md"] for files in hub.repositories[REPOSITORY].commits.values()]
    assert cards == [b"# One", b"# Two"]


@UPLOADS
def test_publish_does_not_write_over_a_commit_made_meanwhile(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    repository = hub.repository(REPOSITORY)
    seen = repository.add({"a.txt": b"1"})
    repository.add({"b.txt": b"2"})
    monkeypatch.setattr(hub_module, "_newest_commit", lambda *_arguments: seen)
    with pytest.raises(mst.InputError, match="status 412"):
        publish(zoo_file("digits-mst"), REPOSITORY, "# One")
    assert len(repository.commits) == 2


def test_publish_refuses_a_public_repository_where_a_private_one_is_asked_for(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    repository = hub.repository(REPOSITORY)
    repository.add({"a.txt": b"1"})
    with pytest.raises(mst.InputError, match="exists and is public"):
        publish(zoo_file("digits-mst"), REPOSITORY, "# One", private=True)
    assert len(repository.commits) == 1


def test_publish_reports_metadata_that_the_hub_refuses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with pytest.raises(mst.InputError, match="refuses the files.*license must be one of mit"):
        publish(zoo_file("digits-mst"), REPOSITORY, "license: no")
    assert not hub.repositories[REPOSITORY].commits
