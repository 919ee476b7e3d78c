"""A port of this machine's loopback that leads into a bed's network namespace.

``python forward.py PORT HOST TARGET_PORT NAMESPACE`` listens on 127.0.0.1:PORT where it was
started, then enters the namespace, so that it connects there. Bytes are passed on as they are,
TLS and signatures with them. Runs as a script of its own, on the standard library alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys

_NETWORK_NAMESPACE = 0x40000000  # CLONE_NEWNET
_CHUNK = 1 << 16


def enter(namespace: str) -> None:
    """Make this process a member of the network namespace; open sockets stay where they are."""
    handle = os.open(namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, _NETWORK_NAMESPACE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {namespace}: {os.strerror(number)}")
    finally:
        os.close(handle)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        # The other direction may still have something to say.
        if writer.can_write_eof():
            writer.write_eof()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Pass every connection on until the process ends."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                far_reader, far_writer = await asyncio.open_connection(host, port)
            except OSError:
                return
            with contextlib.closing(far_writer):
                await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    async with await asyncio.start_server(connected, sock=listener) as server:
        await server.serve_forever()


def main(port: str, host: str, target_port: str, namespace: str) -> None:
    """Listen here, connect there."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(256)
    enter(namespace)
    asyncio.run(serve(listener, host, int(target_port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
