"""What to pull, and from where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from app.pull.errors import PullRefusedError

DEFAULT_ENDPOINT = "https://huggingface.co"
MAIN = "main"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,127}", re.ASCII)
_TOKEN = re.compile(r"[!-~]{1,1024}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model of a hub.

    Attributes:
        organisation: Whose it is.
        name: Its name there.
        revision: A branch, a tag or a commit.
    """

    organisation: str
    name: str
    revision: str = MAIN

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Reads ``ORG/NAME`` or ``ORG/NAME@REVISION``.

        Raises:
            PullRefusedError: It is not of this form.
        """
        repository, at, revision = text.partition("@")
        names = repository.split("/")
        is_named = len(names) == 2 and all(map(_is_name, names))
        if not is_named or (at and not _is_revision(revision)):
            raise PullRefusedError(
                f"{text!r} is not a model of a hub: name it as ORG/NAME or ORG/NAME@REVISION"
            )
        return cls(names[0], names[1], revision or MAIN)

    @property
    def repository(self) -> str:
        """Its id on the hub."""
        return f"{self.organisation}/{self.name}"


def _is_name(text: str) -> bool:
    # Two hyphens stand for the slash in the names of the cache's folders.
    is_plain = ".." not in text and "--" not in text and text[-1:] not in (".", "-")
    return _NAME.fullmatch(text) is not None and is_plain


def _is_revision(text: str) -> bool:
    parts = text.split("/")
    return _REVISION.fullmatch(text) is not None and all(
        part and not part.startswith(".") and ".." not in part for part in parts
    )


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where a hub is, and what lets one in.

    Attributes:
        endpoint: Its address, without a slash at the end.
        token: Sent to that address alone; empty for none.
    """

    endpoint: str = DEFAULT_ENDPOINT
    token: str = field(default="", repr=False)

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> HubAddress:
        """``HF_ENDPOINT`` and ``HF_TOKEN``.

        Raises:
            PullRefusedError: They cannot be used, or ``HF_HUB_OFFLINE`` forbids the network.
        """
        if environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise PullRefusedError("HF_HUB_OFFLINE is set, so nothing is pulled: unset it")
        endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT
        token = environ.get("HF_TOKEN", "").strip()
        parts = _split(endpoint)
        if token and not _TOKEN.fullmatch(token):
            raise PullRefusedError("HF_TOKEN holds characters that no token has")
        if token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise PullRefusedError(
                "HF_TOKEN would cross the network unencrypted: give HF_ENDPOINT as https, or unset "
                "HF_TOKEN"
            )
        return cls(endpoint, token)

    @property
    def host(self) -> str:
        """Its name, for a person."""
        return urlsplit(self.endpoint).netloc

    def owns(self, url: str) -> bool:
        """Whether an address is the hub's own: of its scheme, host and port."""
        return origin_of(url) == origin_of(self.endpoint)


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address.

    Raises:
        ValueError: It is not one of ``http`` or ``https``.
    """
    parts = urlsplit(url)
    port = {"http": 80, "https": 443}.get(parts.scheme)
    if port is None or not parts.hostname:
        raise ValueError("not an address of http or https")
    return parts.scheme, parts.hostname, parts.port or port


def _split(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint)
        origin_of(endpoint)
    except ValueError:
        raise PullRefusedError(
            "HF_ENDPOINT is not an address like https://huggingface.co"
        ) from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise PullRefusedError("HF_ENDPOINT is a plain address: no name, password or query")
    return parts
