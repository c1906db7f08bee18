"""A stand-in for the Hugging Face hub: the requests that fetch a file and publish a commit, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest


@dataclass
class Repository:
    """Commits of a repository, oldest first."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    is_gated: bool = False
    is_private: bool = False

    def add(self, files: dict[str, bytes]) -> str:
        """A new commit with these files beside those of the last; returns its name."""
        before = list(self.commits.values())[-1] if self.commits else {}
        oid = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[oid] = before | files
        return oid


@dataclass
class Hub:
    """All that the stand-in knows."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    token: str = "a-token"
    requests: list[str] = field(default_factory=list)
    is_down: bool = False
    cuts_files: bool = False
    changes_files: bool = False

    def repository(self, name: str) -> Repository:
        """The repository of this name; a new one if there is none."""
        return self.repositories.setdefault(name, Repository())


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: object = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def do_HEAD(self) -> None:
        """A file's facts."""
        self._file()

    def do_GET(self) -> None:
        """A file."""
        self._file()

    def _file(self) -> None:
        if self.hub.is_down:
            self._answer(503, {"error": "out of order"})
            return
        parts = unquote(self.path).strip("/").split("/", 4)
        if len(parts) < 5 or parts[2] != "resolve":
            self._about(parts)
            return
        user, name, _, revision, path = parts
        self.hub.requests.append(f"{self.command} {path}")
        repository = self.hub.repositories.get(f"{user}/{name}")
        if repository is None or (repository.is_private and not self._is_known()):
            self._refuse(401, "RepoNotFound")
        elif repository.is_gated:
            self._refuse(403, "GatedRepo")
        else:
            oid = list(repository.commits)[-1] if revision == "main" else revision
            files = repository.commits.get(oid)
            if files is None:
                self._refuse(404, "RevisionNotFound")
            elif path not in files:
                self._refuse(404, "EntryNotFound")
            else:
                content, digest = files[path], hashlib.sha256(files[path]).hexdigest()
                length = str(len(content))
                if self.command == "GET" and self.hub.changes_files:
                    content = bytes([content[0] ^ 1]) + content[1:]
                if self.command == "GET" and self.hub.cuts_files:
                    content = content[:99]
                self._answer(200, content, X_Repo_Commit=oid, ETag=f'"{digest}"', Content_Length=length)

    def _about(self, parts: list[str]) -> None:
        """What is asked about a repository before it is read or changed."""
        self.hub.requests.append(f"{self.command} {'/'.join(parts)}")
        repository = self.hub.repositories.get("/".join(parts[2:4]))
        is_hidden = repository is None or (repository.is_private and not self._is_known())
        if parts[:2] != ["api", "models"] or repository is None or is_hidden:
            self._refuse(401, "RepoNotFound")
            return
        revision = parts[4].removeprefix("revision/") if len(parts) > 4 else "main"
        oid = next(reversed(repository.commits), None) if revision == "main" else revision
        if revision != "main" and oid not in repository.commits:
            self._refuse(404, "RevisionNotFound")
            return
        files = [{"rfilename": path} for path in repository.commits.get(oid or "", {})]
        self._answer(200, {"id": "/".join(parts[2:4]), "sha": oid, "private": repository.is_private, "siblings": files})

    def do_POST(self) -> None:
        """A new repository, or the parts of a commit."""
        body = self._body()
        path = unquote(self.path)
        if path == "/api/validate-yaml":
            errors = [{"message": "license must be one of mit"}] if b"license: no" in body else []
            self._answer(400 if errors else 200, {"errors": errors, "warnings": []})
        elif not self._is_known():
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.hub.url}/upload/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._answer(200, {"transfer": "basic", "objects": objects})
        elif "/preupload/" in path:
            kinds = [
                {"path": each["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular"}
                for each in json.loads(body)["files"]
            ]  # fmt: skip
            self._answer(200, {"files": kinds})
        elif "/commit/" in path:
            self._commit("/".join(path.split("/")[3:5]), body)
        else:
            self._answer(404, {"error": path})

    def do_PUT(self) -> None:
        """The content of a large file."""
        self.hub.uploads[self.path.rpartition("/")[2]] = self._body()
        self._answer(200, {})

    def _create(self, wanted: dict[str, str]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != "me":
            self._answer(403, {"error": "You don't have the rights to create a model under this namespace"})
            return
        if name in self.hub.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        self.hub.repository(name).is_private = wanted.get("visibility") == "private"
        self._answer(200, {"url": f"{self.hub.url}/{name}"})

    def _commit(self, name: str, body: bytes) -> None:
        files: dict[str, bytes] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if value.get("parentCommit", oid := next(reversed(self.hub.repository(name).commits), None)) != oid:
                self._answer(412, {"error": "A commit has happened since"})
                return
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        oid = self.hub.repository(name).add(files)
        self._answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})


@contextmanager
def serving(patch: pytest.MonkeyPatch, cache: str) -> Iterator[Hub]:
    """Point huggingface_hub at a stand-in while the block runs, with an empty cache and no token stored."""
    from huggingface_hub import constants

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", cache)
    patch.setattr(constants, "HF_TOKEN_PATH", f"{cache}/token")
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        patch.delenv(name, raising=False)
    patch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
