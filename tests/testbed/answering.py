"""Tiny HTTP servers that stand where an object store is expected."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<html><body>Welcome! Please log in.</body></html>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Page(_Handler):
    def do_GET(self) -> None:
        self.body()
        self.answer(200, PAGE, {"content-type": "text/html"})

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET


class _Unconditional(_Handler):
    """Keeps objects like S3 and ignores If-None-Match."""

    kept: dict[str, bytes]

    def do_PUT(self) -> None:
        self.kept[self.path] = self.body()
        self.answer(200, b"", {"etag": '"1"'})

    def do_GET(self) -> None:
        body = self.kept.get(self.path)
        dated = {"etag": '"1"', "last-modified": "Fri, 27 Nov 2026 12:00:00 GMT"}
        self.answer(200, body, dated) if body is not None else self.answer(404, b"", {})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.body()
        self.kept.clear()
        self.answer(200, b"<DeleteResult></DeleteResult>", {})


@contextlib.contextmanager
def web_page() -> Iterator[str]:
    """The address of a server that answers everything with the same page."""
    with _serving(_Page) as address:
        yield address


@contextlib.contextmanager
def store_without_conditions() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of an object store without conditional writes, and what it keeps."""
    kept: dict[str, bytes] = {}
    with _serving(type("Kept", (_Unconditional,), {"kept": kept})) as address:
        yield address, kept


@contextlib.contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
