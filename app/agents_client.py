"""Talks to a running Stoker about its agents; needs the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from engine.errors import InvalidRequestError, StokerError

TIMEOUT_S = 60.0
TRANSFER_TIMEOUT_S = 900.0
SWAP_TIMEOUT_S = 930.0
"""Longer than the server waits for a change of model, so that its words arrive."""
CHUNK_BYTES = 1 << 20
TOKENS_HEADER = "x-stoker-tokens"


class UnreachableError(InvalidRequestError):
    """Nobody answers at the address."""


class RefusedError(InvalidRequestError):
    """Stoker refuses what was asked; the message is its own."""


class ServerError(StokerError):
    """Stoker failed at what was asked, or something else than Stoker answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that was saved.

    Attributes:
        num_bytes: Its length.
        num_tokens: Tokens of the cache in it; 0 where the server does not say.
    """

    num_bytes: int
    num_tokens: int


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

    @property
    def url(self) -> str:
        """Where it is, as it was named."""
        return self._url

    def get(self, path: str) -> Any:
        """What a path shows."""
        return self._ask("GET", path)

    def post(
        self, path: str, body: Mapping[str, object] | None = None, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """What comes of an action."""
        if body is None:
            return self._ask("POST", path)
        content = json.dumps(body).encode()
        return self._ask("POST", path, content, "application/json", timeout_s)

    def delete(self, path: str) -> Any:
        """What comes of a removal."""
        return self._ask("DELETE", path)

    def upload(self, path: str, file: BinaryIO) -> Any:
        """What comes of sending a file."""
        return self._ask("POST", path, file, "application/octet-stream", TRANSFER_TIMEOUT_S)

    def download(self, path: str, target: Path) -> Download:
        """Saves what a path gives as a private file, which appears when it is complete.

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
            return Download(num_bytes=num_bytes, num_tokens=_count(reply, TOKENS_HEADER))

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
        connection = self.connected(timeout_s)
        try:
            reply = self._send(connection, method, path, body, self.headers(content_type))
            if reply.status >= 300:
                raise refusal(reply)
            yield reply
        except http.client.HTTPException as error:
            raise ServerError(f"what answers at {self._url} is no Stoker, or broke off") from error
        except (TimeoutError, ConnectionError) as error:
            raise ServerError(f"Stoker at {self._url} broke off: {error}") from error
        finally:
            connection.close()

    def connected(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection to it, still unused. Here it shows whether the address is wrong.

        Raises:
            UnreachableError: Nobody can be reached there.
        """
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise UnreachableError(self._why_unreachable(error)) from error
        return connection

    def _why_unreachable(self, error: OSError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate of {self._url} is not trusted: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            plain = self._url.replace("https://", "http://", 1)
            return f"what answers at {self._url} does not speak TLS; try {plain}"
        return (
            f"no Stoker answers at {self._url} ({error.strerror or error}); "
            "start one with `stoker`, or give another address"
        )

    def target(self, path: str) -> str:
        """What is asked for with a path, behind whatever stands before it."""
        return self._base + path

    def headers(self, content_type: str = "") -> dict[str, str]:
        """What goes with every request."""
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
            connection.request(method, self.target(path), body, headers)
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


def _count(reply: http.client.HTTPResponse, header: str) -> int:
    text = reply.headers.get(header, "")
    return int(text) if text.isdecimal() else 0


def _copy(reply: http.client.HTTPResponse, file: BinaryIO) -> None:
    while chunk := reply.read(CHUNK_BYTES):
        file.write(chunk)
    if reply.length:
        raise ServerError("Stoker broke off before the file was complete")


def refusal(reply: http.client.HTTPResponse) -> StokerError:
    """The error that a reply stands for, in Stoker's own words where it is Stoker's."""
    try:
        message = str(json.loads(reply.read())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the answer was {reply.status} {reply.reason}"
    if reply.status == http.client.UNAUTHORIZED:
        message = f"{message}: give --key KEY, or set STOKER_API_KEY"
    return RefusedError(message) if reply.status < 500 else ServerError(message)
