"""Talks to a running Stoker about its agents; needs the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from engine.errors import InvalidRequestError, StokerError

TIMEOUT_S = 60.0
TRANSFER_TIMEOUT_S = 900.0
CHUNK_BYTES = 1 << 20


class UnreachableError(InvalidRequestError):
    """Nobody answers at the address."""


class RefusedError(InvalidRequestError):
    """Stoker refuses what was asked; the message is its own."""


class ServerError(StokerError):
    """Stoker failed at what was asked, or something else than Stoker answered."""


class AgentsClient:
    """One running Stoker."""

    def __init__(self, url: str, key: str | None) -> None:
        """Names an address; nothing is connected yet.

        Args:
            url: Where it listens, like ``http://127.0.0.1:8000``.
            key: Its API key; None where it wants none.

        Raises:
            UnreachableError: The address is none.
        """
        self._url = checked_url(url)
        self._key = key
        parts = urlsplit(self._url)
        self._host, self._port = parts.hostname or "", parts.port
        self._is_secure = parts.scheme == "https"
        self._base = parts.path

    def get(self, path: str) -> Any:
        """What a path shows."""
        return self._ask("GET", path)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """What comes of an action."""
        if body is None:
            return self._ask("POST", path)
        return self._ask("POST", path, json.dumps(body).encode(), "application/json")

    def delete(self, path: str) -> Any:
        """What comes of a removal."""
        return self._ask("DELETE", path)

    def upload(self, path: str, file: BinaryIO) -> Any:
        """What comes of sending a file."""
        return self._ask("POST", path, file, "application/octet-stream", TRANSFER_TIMEOUT_S)

    def download(self, path: str, target: Path) -> int:
        """Saves what a path gives as a private file, which appears when it is complete.

        Returns:
            Its length in bytes.

        Raises:
            OSError: It cannot be written.
        """
        part = target.with_name(f".{target.name}.part")
        with self._reply("GET", path, None, "", TRANSFER_TIMEOUT_S) as reply:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                with open(fd, "wb") as file:
                    _copy(reply, file)
                    os.fsync(file.fileno())
                    num_bytes = file.tell()
                os.rename(part, target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return num_bytes

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        content_type: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        with self._reply(method, path, body, content_type, timeout_s) as reply:
            try:
                return json.loads(reply.read())
            except ValueError as error:
                raise ServerError(f"what answers at {self._url} is no Stoker") from error

    @contextmanager
    def _reply(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None,
        content_type: str,
        timeout_s: float,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(timeout_s)
        try:
            # Connected apart from sending: only here it is the address that is wrong.
            connection.connect()
        except OSError as error:
            raise UnreachableError(
                f"no Stoker answers at {self._url} ({error.strerror or error}); "
                "start one with `stoker`, or name another address with --url"
            ) from error
        try:
            reply = self._send(connection, method, path, body, self._headers(content_type))
            if reply.status >= 300:
                raise _refusal(reply)
            yield reply
        except http.client.HTTPException as error:
            raise ServerError(f"what answers at {self._url} is no Stoker, or broke off") from error
        except (TimeoutError, ConnectionError) as error:
            raise ServerError(f"Stoker at {self._url} broke off: {error}") from error
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout_s)

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": "*/*"}
        if content_type:
            headers["Content-Type"] = content_type
        if self._key:
            headers["x-api-key"] = self._key
        return headers

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | BinaryIO | None,
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        if isinstance(body, bytes) or body is None:
            length = len(body or b"")
        else:
            length = os.fstat(body.fileno()).st_size
        headers["Content-Length"] = str(length)
        # A refusal may come before all of a long body was taken; it is read all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, self._base + path, body, headers)
        return connection.getresponse()


def checked_url(given: str) -> str:
    """An address as it was typed, with its scheme and without a slash at the end.

    Raises:
        UnreachableError: It is none.
    """
    url = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UnreachableError(f"{given!r} is no address; it is like http://127.0.0.1:8000")
    return url.rstrip("/")


def agent_path(agent_id: str, action: str = "") -> str:
    """Path of an agent, whatever its id holds."""
    path = f"/v1/agents/{quote(agent_id, safe='')}"
    return f"{path}/{action}" if action else path


def _copy(reply: http.client.HTTPResponse, file: BinaryIO) -> None:
    while chunk := reply.read(CHUNK_BYTES):
        file.write(chunk)
    if reply.length:
        raise ServerError("Stoker broke off before the file was complete")


def _refusal(reply: http.client.HTTPResponse) -> StokerError:
    try:
        message = str(json.loads(reply.read())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the answer was {reply.status} {reply.reason}"
    if reply.status == http.client.UNAUTHORIZED:
        message = f"{message}: give --key KEY, or set STOKER_API_KEY"
    return RefusedError(message) if reply.status < 500 else ServerError(message)
