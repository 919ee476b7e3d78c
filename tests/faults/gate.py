"""A door in front of an S3 server that a test opens, slows and shuts, request by request.

Requests are passed on byte for byte, with their signatures; the server behind checks them. What
the door answers by itself is worded as S3 words it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_REFUSAL = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
)
_WORDS = {
    403: ("AccessDenied", "Access Denied."),
    503: ("SlowDown", "Please reduce your request rate."),
}
_WRITES = frozenset({"PUT", "POST", "DELETE"})
_NOT_PASSED_ON = frozenset({"connection", "keep-alive", "transfer-encoding"})


class Gate:
    """Open, until it is told otherwise."""

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        assert address.hostname is not None
        assert address.port is not None
        self.host, self.port = address.hostname, address.port
        self.endpoint = ""
        self.delay = 0.0
        self.refuses = 0
        self.parts: int | None = None
        self.holding = threading.Event()
        self.opened = threading.Event()
        self._lock = threading.Lock()

    def slow(self, seconds: float) -> None:
        """Let every request wait from now on."""
        self.delay = seconds

    def refuse_writes(self, status: int) -> None:
        """Answer what would change something with this status; 503 says it of everything."""
        self.refuses = status

    def hold_after(self, parts: int) -> None:
        """Pass so many more parts of large uploads on; leave the others without an answer."""
        self.parts = parts

    def open(self) -> None:
        """Pass everything on again, at once; what was held is dropped."""
        self.delay, self.refuses, self.parts = 0.0, 0, None
        self.opened.set()

    def refuses_this(self, method: str) -> bool:
        """Whether a request is answered here."""
        return self.refuses == 503 or (self.refuses != 0 and method in _WRITES)

    def holds_this(self, path: str) -> bool:
        """Whether a request is a part of an upload that has to wait."""
        if self.parts is None or "partNumber=" not in path:
            return False
        with self._lock:
            self.parts -= 1
            return self.parts < 0


@contextlib.contextmanager
def gate_before(target: str) -> Iterator[Gate]:
    """A door in front of the server at this address, for the duration of a block."""
    gate = Gate(target)
    server = _Server(("127.0.0.1", 0), type("Door", (_Door,), {"gate": gate}))
    gate.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield gate
    finally:
        gate.open()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # the parts of an upload come all at once


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a head and its body are two writes
    gate: Gate

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # whoever asked is gone
            super().handle()

    def do_GET(self) -> None:
        gate = self.gate
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        time.sleep(gate.delay)
        if gate.refuses_this(self.command):
            code, message = _WORDS[gate.refuses]
            xml = _REFUSAL.format(code=code, message=message).encode()
            self._answer(gate.refuses, {"content-type": "application/xml"}, xml)
        elif gate.holds_this(self.path):
            gate.holding.set()
            gate.opened.wait()
            self.close_connection = True
        else:
            self._pass_on(body)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _pass_on(self, body: bytes) -> None:
        with contextlib.closing(HTTPConnection(self.gate.host, self.gate.port)) as behind:
            try:
                behind.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in _NOT_PASSED_ON:
                        behind.putheader(name, value)
                behind.endheaders(body)
                answer = behind.getresponse()
                found = answer.read()
            except (OSError, HTTPException):
                self.close_connection = True
                return
        kept = {n: v for n, v in answer.getheaders() if n.lower() not in _NOT_PASSED_ON}
        self._answer(answer.status, kept, found)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        sized = {name for name in headers if name.lower() == "content-length"}
        if self.command != "HEAD":
            headers = {name: value for name, value in headers.items() if name not in sized}
            if status != 204:
                headers["content-length"] = str(len(body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
