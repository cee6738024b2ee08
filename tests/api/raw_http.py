"""Requests byte by byte, for what no HTTP client would send."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any


def head(method: str, path: str, *lines: str, host: str = "localhost") -> bytes:
    """The head of a request, with one ``Host``."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {host}", *lines, "", ""]).encode()


def exchange(port: int, request: bytes, *, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """Sends bytes on a connection of their own.

    Returns:
        The status, 0 where the server closed without one, and the body.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request)
        return read_reply(client)


def read_reply(client: socket.socket) -> tuple[int, bytes]:
    """The next reply on a connection whose length is given or that is closed after it."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while not _is_whole(received):
            piece = client.recv(65536)
            if not piece:
                break
            received += piece
    if not received:
        return 0, b""
    first, _, body = received.partition(b"\r\n\r\n")
    return int(first.split(b" ", 2)[1]), body


def _is_whole(received: bytes) -> bool:
    first, mark, body = received.partition(b"\r\n\r\n")
    if not mark:
        return False
    for line in first.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
    return b"transfer-encoding" in first.lower() and body.endswith(b"0\r\n\r\n")


def post(path: str, body: Any, *lines: str) -> bytes:
    """A whole request with a JSON body."""
    content = json.dumps(body).encode()
    extra = ("content-type: application/json", f"content-length: {len(content)}", *lines)
    return head("POST", path, *extra) + content
