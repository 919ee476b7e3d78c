"""Pushing to the Hub: the real client against a small server that plays the Hub's endpoints."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tunefleet.api.errors import MachineError, SpecError
from tunefleet.verbs.export import export


@dataclass(slots=True)
class Hub:
    """What the server holds: the files of its one repository, and what it was asked."""

    url: str = ""
    refuses: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    created: dict[str, object] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    tokens: dict[str, str | None] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        """The documented answers of huggingface.co to what an upload asks."""
        if self.refuses:
            return 403, {"error": "You do not have the rights to write here"}
        if path == "/api/repos/create":
            self.created = json.loads(body)
            return 200, {"url": f"{self.url}/acme/reviews"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in asked
            ]
            return 200, {"files": files}
        if path.endswith("/commit/main"):
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "header":
                    self.messages.append(item["value"]["summary"])
                if item["key"] == "file":
                    value = item["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            commit = f"{self.url}/acme/reviews/commit/{'c' * 40}"
            return 200, {"commitUrl": commit, "commitOid": "c" * 40, "success": True}
        if method == "GET" and path.startswith("/api/models/acme/reviews"):
            siblings = [{"rfilename": name} for name in self.files]
            info = {"id": "acme/reviews", "sha": "c" * 40, "siblings": siblings, "private": True}
            tree = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in self.files]
            return 200, tree if "/tree/" in path else info
        return 404, {"error": f"{method} {path} is not played"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    played = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            played.tokens[path] = self.headers.get("Authorization")
            status, value = played.answer(self.command, path, body)
            answer = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    played.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", played.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_plain_folder_with_its_card_arrives_in_one_commit(classifier: Path, hub: Hub) -> None:
    done = export(classifier, "hub", repo="acme/reviews")
    sent = {
        path.relative_to(classifier).as_posix(): path.read_bytes()
        for path in classifier.iterdir()
        if path.is_file()
    }
    assert hub.files == sent
    assert hub.created["visibility"] == "private"
    assert hub.messages == [f"tunefleet bundle {done.digest}"]
    assert done.out == f"{hub.url}/acme/reviews/commit/{'c' * 40}"
    for path in ("/api/repos/create", "/api/models/acme/reviews/commit/main"):
        assert hub.tokens[path] == "Bearer hf_secret"


def test_a_repository_that_holds_files_is_left_alone_without_force(
    classifier: Path, hub: Hub
) -> None:
    hub.files = {"README.md": b"", ".gitattributes": b"", "model.safetensors": b"old"}
    with pytest.raises(SpecError, match="acme/reviews holds 1 files already"):
        export(classifier, "hub", repo="acme/reviews")
    assert hub.files["model.safetensors"] == b"old"
    export(classifier, "hub", repo="acme/reviews", force=True)
    assert hub.files["model.safetensors"] != b"old"


def test_what_the_hub_refuses_is_told_without_the_token(classifier: Path, hub: Hub) -> None:
    hub.refuses = True
    with pytest.raises(MachineError, match="the Hub refused acme/reviews") as caught:
        export(classifier, "hub", repo="acme/reviews")
    assert "HF_TOKEN" in caught.value.remedy
    assert "hf_secret" not in str(caught.value)


def test_offline_and_a_wrong_name_are_told(
    classifier: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with pytest.raises(SpecError, match="is no repository's name"):
        export(classifier, "hub", repo="a/b/c")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="HF_HUB_OFFLINE"):
        export(classifier, "hub", repo="acme/reviews")
