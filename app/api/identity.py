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
    OpenAI's ``session_id`` and ``user``. What Claude Code and opencode ask beside a conversation,
    under the same session, is an agent of its own: ``<session>/side``.

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

SIDE = "side"
"""Stands for the requests that a coding agent makes beside its conversation."""

_CODING_AGENTS = ("claude-cli/", "opencode/")


def _claude_code(headers: Headers, body: Fields) -> Found:
    session = _header_value(headers, "X-Claude-Code-Session-Id")
    if session is None:
        return None
    sub_agent = _header_value(headers, "x-claude-code-agent-id")
    agent_id = f"{session}/{sub_agent}" if sub_agent else _with_side(session, headers, body)
    return "X-Claude-Code-Session-Id", agent_id


def _session_header(headers: Headers, body: Fields) -> Found:
    session = _header_value(headers, "x-session-id")
    return None if session is None else ("x-session-id", _with_side(session, headers, body))


def _with_side(session: str, headers: Headers, body: Fields) -> str:
    """The session, or a name beside it for a request that is none of the conversation's.

    Coding agents ask for titles and summaries under the session of the conversation. Those
    requests offer no tools and mark nothing for caching; the conversation's do the one or the
    other.
    """
    is_coding = headers.get("user-agent", "").startswith(_CODING_AGENTS)
    is_side = is_coding and not _offers_tools(body) and not _marks_cache(body)
    return f"{session}/{SIDE}" if is_side else session


def _offers_tools(body: Fields) -> bool:
    tools = body.get("tools")
    # Tools of the vendor's servers, which have a type of their own, come with a search on the side.
    return isinstance(tools, list) and any(
        isinstance(tool, dict) and tool.get("type") in (None, "custom", "function")
        for tool in tools
    )


def _marks_cache(body: Fields) -> bool:
    blocks: list[object] = []
    for holder in (body.values, *_objects(body.get("messages"))):
        blocks += (holder, *_objects(holder.get("system")), *_objects(holder.get("content")))
    return any(isinstance(block, dict) and block.get("cache_control") for block in blocks)


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _anthropic_metadata(headers: Headers, body: Fields) -> Found:
    metadata = body.child("metadata")
    user_id = metadata.get("user_id") if metadata else None
    if not isinstance(user_id, str) or len(user_id) > MAX_USER_ID_CHARS:
        return None
    session = _session_in(user_id)
    return ("metadata.user_id", _with_side(session, headers, body)) if session else None


def _session_in(user_id: str) -> str:
    """The session in a user id of Claude Code's two forms; any other text is a valid id too."""
    legacy = _LEGACY_SESSION.search(user_id)
    if legacy:
        return legacy.group(1)
    try:
        value = from_json(user_id)
    except ValueError:
        return ""
    session = value.get("session_id") if isinstance(value, dict) else None
    return session if isinstance(session, str) else ""


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
    _session_header,
    _field("session_id"),
    _field("user"),
)
