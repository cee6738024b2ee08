"""What a request's head may be: its target, its host, and how much of it there is."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.datastructures import Headers

from app.api.errors import HeadTooLargeError, TargetTooLongError
from app.api.telemetry import Scope
from engine.errors import InvalidRequestError

MAX_TARGET_BYTES = 8192
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)


def check_head(scope: Scope) -> None:
    """Refuses a head that is too large, or whose target is no path.

    A target may name a server of its own (``http://elsewhere/v1/models``), which proxies obey
    instead of ``Host``; nothing of that is served here.

    Raises:
        TargetTooLongError: The path with its query is too long.
        HeadTooLargeError: There are too many headers, or too much in them.
        InvalidRequestError: The target is no path of this server.
    """
    raw_path: bytes = scope["raw_path"]
    if len(raw_path) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        raise TargetTooLongError(f"the path is longer than {MAX_TARGET_BYTES} bytes")
    headers = scope["headers"]
    num_bytes = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or num_bytes > MAX_HEADER_BYTES:
        raise HeadTooLargeError(
            f"there are more than {MAX_HEADERS} headers, or more than {MAX_HEADER_BYTES} bytes"
        )
    if not raw_path.startswith(b"/") or raw_path.startswith(b"//"):
        raise InvalidRequestError("the request target must be a path of this server, like /v1/...")


def host_of(headers: Headers) -> str:
    """The name in the ``Host`` header, lower case, without port and brackets.

    Returns:
        The name; empty where there is not exactly one host, or it is none: what other software
        might read as a user, a path or a query is not taken apart here.
    """
    given = headers.getlist("host")
    match = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return match["name"].strip("[]").lower() if match else ""


def is_plain(headers: Mapping[str, str]) -> bool:
    """Whether a body is sent as it is. A compressed one could grow without bound in here."""
    return headers.get("content-encoding", "").strip().lower() in ("", "identity")
