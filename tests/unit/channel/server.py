"""One object of an API server: it takes merge patches of its status and answers with it all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tunefleet.channel.attempt import Attempt


def a_spec(**changes: object) -> dict[str, object]:
    """The spec of an attempt as the server hands it out."""
    return {
        "job": "reviews",
        "owner": "uid",
        "number": 1,
        "stage": "Train",
        "manifest": {"kind": "FineTuneJob"},
        "command": "None",
        "sequence": 0,
        **changes,
    }


@dataclass
class OneObject:
    """What the server holds and what it was asked. ``answers`` are statuses to refuse with."""

    attempt: Attempt
    spec: dict[str, object] = field(default_factory=a_spec)
    status: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@contextmanager
def one_object(folder: Path) -> Iterator[OneObject]:
    """A server with one attempt, and the pod's account in ``folder``."""
    (folder / "token").write_text("first\n")
    held: list[OneObject] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            it = held[0]
            kind = self.headers["Content-Type"]
            it.requests.append((self.path, kind, self.headers["Authorization"]))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            code = it.answers.pop(0) if it.answers else 200
            if code == 200:
                it.status = merged(it.status, body["status"])
                reply: dict[str, object] = {"spec": it.spec, "status": it.status}
            else:
                reply = {"kind": "Status", "message": f"refused with {code}"}
            text = json.dumps(reply).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    held.append(OneObject(Attempt(address, "team", "reviews-1", account=folder)))
    try:
        yield held[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    new = dict(old)
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        elif isinstance(value, dict):
            known = new.get(name)
            new[name] = merged(known if isinstance(known, dict) else {}, value)
        else:
            new[name] = value
    return new
