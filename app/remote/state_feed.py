"""The snapshots of a Stoker elsewhere, over one connection that is kept open."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any

from app.agents_client import AgentsClient, RefusedError, UnreachableError, refusal
from app.logs import printable
from app.version import __version__
from engine.errors import InvalidRequestError
from engine.snapshot import EngineSnapshot, FormatError, RowReader, VersionGap, from_json

STATE_PATH = "/admin/state"
VERSION_HEADER = "x-stoker-version"
TIMEOUT_S = 10.0
MAX_BODY_BYTES = 1 << 28
_NOT_MODIFIED = 304


class NotStokerError(InvalidRequestError):
    """Something answers at the address, and it is no Stoker."""


class StateFeed:
    """Asks for the newest snapshot, and is told only when there is a new one."""

    def __init__(self, client: AgentsClient) -> None:
        """Names whom to ask; nothing is connected yet."""
        self._client = client
        self._connection: http.client.HTTPConnection | None = None
        self._known = ""
        self._version = __version__
        self._gap = VersionGap()

    def fetch(self) -> EngineSnapshot | None:
        """The newest snapshot; None where it is the one that was fetched before.

        Raises:
            UnreachableError: Nobody answers, or not in time.
            RefusedError: The key is missing or wrong.
            NotStokerError: Something else than a Stoker answers.
            ServerError: The Stoker failed.
        """
        try:
            status, body = self._ask()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._broken(error) from error
        return None if status == _NOT_MODIFIED else self._read(body)

    @property
    def gap_words(self) -> str:
        """How the other version differs from this one, on one line; empty where it does not."""
        if not self._gap:
            return ""
        return (
            f"that Stoker is version {printable(self._version)} and this is {__version__}, "
            f"so some of it is not shown ({printable(self._gap.words)})"
        )

    def close(self) -> None:
        """Lets go of the connection; the next time there is a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self) -> tuple[int, bytes]:
        if self._connection is not None:
            # A server may close a connection at any time between two questions.
            with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected):
                return self._exchange(self._connection)
        self.close()
        self._connection = self._client.connected(TIMEOUT_S)
        return self._exchange(self._connection)

    def _exchange(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        headers = self._client.headers()
        if self._known:
            headers["If-None-Match"] = self._known
        connection.request("GET", self._client.target(STATE_PATH), headers=headers)
        reply = connection.getresponse()
        if reply.status == _NOT_MODIFIED:
            reply.read()
        elif reply.status != http.client.OK:
            error = self._refused(reply)
            self.close()
            raise error
        body = reply.read(MAX_BODY_BYTES)
        if reply.status == http.client.OK:
            self._known = reply.headers.get("etag", "")
            self._version = reply.headers.get(VERSION_HEADER, "another")
        return reply.status, body

    def _refused(self, reply: http.client.HTTPResponse) -> Exception:
        error = refusal(reply)
        is_ours = reply.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
        if isinstance(error, RefusedError) and not is_ours:
            return self._stranger()
        return error

    def _read(self, body: bytes) -> EngineSnapshot:
        reader = RowReader()
        try:
            data: Any = json.loads(body)
            if not isinstance(data, dict) or not {"step", "status"} <= data.keys():
                raise FormatError("no snapshot")
            snapshot = from_json(data, reader)
        except (ValueError, RecursionError) as error:
            self._known = ""
            raise self._stranger() from error
        self._gap = reader.gap
        return snapshot

    def _broken(self, error: Exception) -> Exception:
        if isinstance(error, http.client.RemoteDisconnected | OSError):
            return UnreachableError(f"Stoker at {self._client.url} broke off: {error}")
        return self._stranger()

    def _stranger(self) -> NotStokerError:
        return NotStokerError(f"what answers at {self._client.url} is no Stoker")
