"""Who is asking: the conversation a request belongs to, from what known clients send."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pydantic_core import from_json

from app.api.errors import FieldError
from app.api.fields import Fields
from engine.errors import InvalidRequestError
from engine.request import check_agent_id

MAX_USER_ID_CHARS = 4096
_LEGACY_SESSION = re.compile(r"_session_([0-9A-Za-z-]+)$")

Headers = Mapping[str, str]
"""Header values by lower-case name."""


def agent_id_of(headers: Headers, body: Fields) -> str | None:
    """The agent id of a request, verbatim as the client sent it, or None.

    The first source that is there wins: ``X-Agent-ID``; Claude Code's session and sub-agent
    headers; the session in ``metadata.user_id``; Codex's thread; ``x-session-id`` (opencode);
    OpenAI's ``session_id`` and ``user``.

    Raises:
        FieldError: The id is not printable, or too long; the error names its source.
    """
    for source in _SOURCES:
        found = source(headers, body)
        if found is not None:
            name, agent_id = found
            return _checked(name, agent_id)
    return None


def _checked(name: str, agent_id: str) -> str:
    try:
        check_agent_id(agent_id)
    except InvalidRequestError as error:
        raise FieldError(name, str(error)) from error
    return agent_id


def _header_value(headers: Headers, name: str) -> str | None:
    """Headers arrive decoded as latin-1; clients that send other scripts send UTF-8."""
    value = headers.get(name.lower())
    if value is None:
        return None
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


Found = tuple[str, str] | None


def _claude_code(headers: Headers, body: Fields) -> Found:
    session = _header_value(headers, "X-Claude-Code-Session-Id")
    if session is None:
        return None
    sub_agent = _header_value(headers, "x-claude-code-agent-id")
    agent_id = f"{session}/{sub_agent}" if sub_agent else session
    return "X-Claude-Code-Session-Id", agent_id


def _anthropic_metadata(headers: Headers, body: Fields) -> Found:
    metadata = body.child("metadata")
    user_id = metadata.get("user_id") if metadata else None
    if not isinstance(user_id, str) or len(user_id) > MAX_USER_ID_CHARS:
        return None
    session = _session_in(user_id)
    return ("metadata.user_id", session) if session else None


def _session_in(user_id: str) -> str | None:
    legacy = _LEGACY_SESSION.search(user_id)
    if legacy:
        return legacy.group(1)
    try:
        value = from_json(user_id)
    except ValueError:
        return None  # any text is a valid user id; only these two forms carry a session
    session = value.get("session_id") if isinstance(value, dict) else None
    return session if isinstance(session, str) else None


def _header(name: str) -> Callable[[Headers, Fields], Found]:
    def source(headers: Headers, body: Fields) -> Found:
        value = _header_value(headers, name)
        return None if value is None else (name, value)

    return source


def _field(name: str) -> Callable[[Headers, Fields], Found]:
    def source(headers: Headers, body: Fields) -> Found:
        value = body.text(name)
        return None if not value else (name, value)

    return source


_SOURCES: tuple[Callable[[Headers, Fields], Found], ...] = (
    _header("X-Agent-ID"),
    _claude_code,
    _anthropic_metadata,
    _header("thread-id"),
    _field("prompt_cache_key"),
    _header("x-session-id"),
    _field("session_id"),
    _field("user"),
)
