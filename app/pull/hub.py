"""Talks to a hub over HTTP: one request at a time, redirects by hand, the token to it alone."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import httpx2

from app.pull.errors import HubError, PassingHubError, PullRefusedError
from app.pull.patience import Attempts, Patience
from app.pull.reference import HubAddress, origin_of
from app.version import __version__

MAX_REDIRECTS = 8
MAX_JSON_BYTES = 32 * 2**20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Hub:
    """One hub. Not for several threads."""

    def __init__(self, address: HubAddress, patience: Patience, stop: threading.Event) -> None:
        """Names a hub; nothing is connected yet.

        Args:
            address: Where it is.
            patience: How long it is waited for.
            stop: Set to end waits between tries.
        """
        self.address = address
        self._patience = patience
        self._stop = stop
        self._client = httpx2.Client(
            follow_redirects=False,
            timeout=httpx2.Timeout(patience.silence_s, connect=patience.connect_s),
            # What comes is checked against lengths and checksums of the plain file.
            headers={"user-agent": f"stoker/{__version__}", "accept-encoding": "identity"},
        )

    def __enter__(self) -> Hub:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def attempts(self) -> Attempts:
        """A count of failures, for one thing that is tried."""
        return Attempts(self._patience, self._stop)

    def read_json(self, path: str, subject: str) -> Any:
        """A small answer of the hub, tried a few times.

        Args:
            path: Behind the endpoint, with a slash before it.
            subject: What is asked for, for errors.

        Raises:
            PullRefusedError: The hub has no such thing, or not for us.
            HubError: It cannot be reached, fails, or answers something else.
        """
        attempts = self.attempts()
        while True:
            try:
                return self._read_json(path, subject)
            except PassingHubError as error:
                attempts.failed(error)

    def _read_json(self, path: str, subject: str) -> Any:
        body = bytearray()
        with self.opened(path, subject) as response:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_JSON_BYTES:
                    raise HubError(f"{self.address.host} answers more than a list of files has")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise HubError(
                f"{self.address.host} does not answer as a hub does: is HF_ENDPOINT right?"
            ) from None

    @contextlib.contextmanager
    def opened(self, path: str, subject: str, *, start: int = 0) -> Iterator[httpx2.Response]:
        """An answer whose body has not been read yet.

        Args:
            path: Behind the endpoint, with a slash before it.
            subject: What is asked for, for errors.
            start: The first byte that is wanted.

        Raises:
            PullRefusedError: The hub has no such thing, or not for us.
            PassingHubError: It cannot be reached or fails, now or while the body is read.
            HubError: It sends us in circles or out of TLS.
        """
        headers = {"range": f"bytes={start}-"} if start else {}
        try:
            with self._at_last(f"{self.address.endpoint}{path}", headers) as response:
                self._check(response, subject)
                yield response
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise PassingHubError(self._failure(error)) from error

    @contextlib.contextmanager
    def _at_last(self, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
        """The answer behind all redirects."""
        for _ in range(MAX_REDIRECTS):
            token = self.address.token if self.address.owns(url) else ""
            own = {"authorization": f"Bearer {token}"} if token else {}
            with self._client.stream("GET", url, headers={**headers, **own}) as response:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
                url = self._next(url, response.headers.get("location", ""))
        raise HubError(f"{self.address.host} redirects more than {MAX_REDIRECTS} times")

    def _next(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            scheme = origin_of(target)[0]
        except ValueError:
            raise HubError(f"{self.address.host} redirects to what is no address") from None
        if scheme == "http" and origin_of(url)[0] == "https":
            raise HubError(f"{self.address.host} redirects to an address without encryption")
        return target

    def _check(self, response: httpx2.Response, subject: str) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        if status in _PASSING:
            raise PassingHubError(
                f"{self.address.host} answers {status} to {subject}", _retry_after(response)
            )
        if status in (401, 403, 404):
            raise PullRefusedError(self._refusal(response, subject))
        raise HubError(f"{self.address.host} answers {status} to {subject}")

    def _refusal(self, response: httpx2.Response, subject: str) -> str:
        code = response.headers.get("x-error-code", "")
        host = self.address.host
        if code == "GatedRepo" or response.status_code == 403:
            return (
                f"{subject} is gated at {host}: accept its terms there, and set HF_TOKEN to a "
                "token of that account that may read it"
            )
        if "Invalid credentials" in response.headers.get("x-error-message", ""):
            return f"{host} does not take HF_TOKEN: it is wrong, or no longer valid"
        if code == "RevisionNotFound":
            return f"{host} has no such revision of {subject}"
        if response.status_code == 404:
            return f"{host} has no {subject}"
        hint = "not for this HF_TOKEN" if self.address.token else "or only with HF_TOKEN set"
        return f"{host} has no {subject}, {hint}"

    def _failure(self, error: Exception) -> str:
        host = self.address.host
        if isinstance(error, httpx2.ConnectTimeout | httpx2.ConnectError | httpx2.ProxyError):
            reason = " ".join(str(error).split()) or "no answer"
            return (
                f"cannot reach {host} ({reason}); check the network, or name a mirror in "
                "HF_ENDPOINT"
            )
        if isinstance(error, httpx2.TimeoutException):
            return f"{host} sent nothing for {self._patience.silence_s:g} s"
        return f"the connection to {host} broke off"


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
