"""Connections before there is a request on them: how many there may be, and how long they wait."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api.refused_connections import RefusedConnections
from app.api.settings import ApiSettings

SPARE_FILES = 128
"""Files that are left for everything else that the process has open."""


def connection_limit(max_connections: int) -> int:
    """How many connections there may be, within what the system lets the process open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return max_connections
    return max(1, min(max_connections, soft - SPARE_FILES))


def bounded_protocol(
    settings: ApiSettings, refused: RefusedConnections
) -> Callable[..., BoundedProtocol]:
    """Makes the protocol of a server's connections, within the bounds of its settings.

    Args:
        settings: The bounds.
        refused: Takes note of the connections that are beyond them.
    """
    return partial(
        BoundedProtocol,
        refused=refused,
        limit=connection_limit(settings.max_connections),
        head_timeout_s=settings.head_timeout_s,
    )


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol; refuses connections beyond a number, and heads that do not arrive."""

    def __init__(
        self,
        *,
        refused: RefusedConnections,
        limit: int,
        head_timeout_s: float,
        **uvicorn_arguments: Any,
    ) -> None:
        """Prepares for one connection.

        Args:
            refused: Takes note of what is refused.
            limit: Connections that there may be at once.
            head_timeout_s: Seconds that the head of a request may take to arrive.
            uvicorn_arguments: What uvicorn gives to its own protocol.
        """
        super().__init__(**uvicorn_arguments)
        self._refused = refused
        self._limit = limit
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Lets a connection in, or not."""
        super().connection_made(transport)
        if len(self.connections) > self._limit:
            self._refuse(503, "server_busy", "there are too many connections")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock of a connection that is gone."""
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes; a head that begins has so long to become complete."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._forget_head()
        elif self._head_timer is None and not self._is_answering:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Ends a connection on which something came that is no request."""
        self._refuse(400, "bad_request", "this is no HTTP request that is read here")

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._head_timeout_s, self._cut_off)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut_off(self) -> None:
        self._refuse(408, "request_timeout", "no request arrived in time")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Says why, unless that would fall into the middle of a reply, and closes."""
        self._forget_head()
        if self.transport.is_closing():
            return
        self._refused.note(status, message, self.client[0] if self.client else "")
        if not self._is_answering:
            self.transport.write(_refusal(status, code, message))
        self.transport.close()


def _refusal(status: int, code: str, message: str) -> bytes:
    """A reply before anything is known of the dialect, so it has what either of them has."""
    error = {"type": "api_error", "message": message, "param": None, "code": code}
    content = json.dumps({"type": "error", "error": error}).encode("ascii")
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + content
