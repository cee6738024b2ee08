"""The edge's own errors, and the one table that turns any error into a status and a dialect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    ArchiveError,
    ContextExceededError,
    DeadlineError,
    ForeignArchiveError,
    InvalidRequestError,
    ModelChangeError,
    ModelLoadError,
    ModelNotFoundError,
    NoCacheError,
    NoDiskTierError,
    NotOnDiskError,
    OverloadedError,
    StokerError,
    UnavailableError,
)

MAX_ID_CHARS = 100
"""As much of an id that a client sent is repeated to it."""


class BindError(StokerError):
    """The API's address cannot be bound."""


class PortInUseError(BindError):
    """Another process listens on the API's port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(f"port {port} on {host} is in use; choose another with --port N")


class FieldError(InvalidRequestError):
    """One field of a request is missing or wrong.

    Attributes:
        field: Path of the field, e.g. ``messages.0.content``.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


class UnauthorizedError(StokerError):
    """The API key is missing or wrong."""


class ForbiddenError(StokerError):
    """The request comes from where it must not, or is for another host."""


class TurnAbortedError(StokerError):
    """Somebody at the server ended the turn."""


class BodyTooLargeError(StokerError):
    """The request body is longer than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than {limit_bytes} bytes")


class BodyTimeoutError(StokerError):
    """The request body did not arrive in time."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the request body did not arrive within {timeout_s:g} seconds")


class RequestTimeoutError(StokerError):
    """The turn took longer than a request may."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"this request took longer than {timeout_s:g} seconds (request_timeout_s)")


class TargetTooLongError(StokerError):
    """The path and query of a request are longer than the limit."""


class HeadTooLargeError(StokerError):
    """The headers of a request are too many, or too long."""


class NoConversationError(StokerError):
    """The agent is here, and nothing of what it said is kept."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            f"no conversation of {agent_id!r} is kept here; create it again with POST /v1/agents, "
            "its id and its messages: its cache is still used"
        )


class ConversationTooLongError(InvalidRequestError):
    """A conversation is longer than can be kept."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the conversation would be longer than the {limit_bytes} bytes that are kept; "
            "start a new agent, or keep it yourself and use /v1/messages"
        )


class RateLimitedError(OverloadedError):
    """The caller has sent more requests than it may."""

    def __init__(self, per_minute: int, retry_after_s: float) -> None:
        super().__init__(f"this key may send {per_minute} requests a minute", retry_after_s)


class WrongKeysError(OverloadedError):
    """An address has sent too many wrong keys."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many wrong API keys from this address", retry_after_s)


class TooManyRequestsError(UnavailableError):
    """More requests are in progress than the server takes."""


class UnsupportedMediaTypeError(StokerError):
    """The request body is not declared as what the route takes."""


class RouteNotFoundError(StokerError):
    """No route has this path."""


class MethodNotAllowedError(StokerError):
    """The path exists, with other methods."""


class ResponseNotFoundError(StokerError):
    """No response of that id is stored here, or it is another key's."""

    def __init__(self, response_id: str, advice: str = "") -> None:
        super().__init__(
            f"there is no response {response_id[:MAX_ID_CHARS]!r}: it was not stored, or was "
            f"forgotten since{advice}"
        )


class PreviousResponseNotFoundError(ResponseNotFoundError):
    """A request goes on from a response that is not stored here."""

    def __init__(self, response_id: str) -> None:
        super().__init__(
            response_id, "; send the whole conversation as input, without previous_response_id"
        )


class ClientGoneError(StokerError):
    """The client closed its connection; nobody reads the answer."""


class Dialect(StrEnum):
    """Whose shapes an answer has."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How one class of errors looks on the wire.

    Attributes:
        status: HTTP status.
        anthropic_type: ``error.type`` for Anthropic clients.
        openai_type: ``error.type`` for OpenAI clients.
        openai_code: ``error.code`` for OpenAI clients.
        openai_status: HTTP status for OpenAI clients, where it differs.
    """

    status: int
    anthropic_type: str
    openai_type: str
    openai_code: str | None = None
    openai_status: int | None = None

    def status_in(self, dialect: Dialect) -> int:
        """The HTTP status for clients of one dialect."""
        if dialect is Dialect.OPENAI and self.openai_status is not None:
            return self.openai_status
        return self.status


CLIENT_GONE_STATUS = 499
_INVALID = "invalid_request_error"
_INTERNAL = ErrorKind(500, "api_error", "server_error")
_KINDS: tuple[tuple[type[StokerError], ErrorKind], ...] = (
    (ContextExceededError, ErrorKind(400, _INVALID, _INVALID, "context_length_exceeded")),
    (InvalidRequestError, ErrorKind(400, _INVALID, _INVALID)),
    (UnauthorizedError, ErrorKind(401, "authentication_error", "authentication_error")),
    (ForbiddenError, ErrorKind(403, "permission_error", "permission_error")),
    # Final for every known client: whoever aborted the turn does not want it sent again.
    (TurnAbortedError, ErrorKind(403, "permission_error", "permission_error", "turn_aborted")),
    (ModelNotFoundError, ErrorKind(404, "not_found_error", _INVALID, "model_not_found")),
    (AgentNotFoundError, ErrorKind(404, "not_found_error", _INVALID, "agent_not_found")),
    (
        PreviousResponseNotFoundError,
        ErrorKind(404, "not_found_error", _INVALID, "previous_response_not_found"),
    ),
    (ResponseNotFoundError, ErrorKind(404, "not_found_error", _INVALID, "response_not_found")),
    (RouteNotFoundError, ErrorKind(404, "not_found_error", _INVALID, "not_found")),
    (MethodNotAllowedError, ErrorKind(405, _INVALID, _INVALID, "method_not_allowed")),
    (ModelLoadError, ErrorKind(422, _INVALID, _INVALID, "model_not_loaded")),
    (ModelChangeError, ErrorKind(409, _INVALID, _INVALID, "model_fixed")),
    (AgentBusyError, ErrorKind(409, _INVALID, _INVALID, "agent_busy")),
    (NotOnDiskError, ErrorKind(409, _INVALID, _INVALID, "not_on_disk")),
    (NoCacheError, ErrorKind(409, _INVALID, _INVALID, "no_cache")),
    (NoDiskTierError, ErrorKind(409, _INVALID, _INVALID, "no_disk")),
    (ForeignArchiveError, ErrorKind(409, _INVALID, _INVALID, "other_model")),
    (ArchiveError, ErrorKind(400, _INVALID, _INVALID, "bad_archive")),
    (BodyTooLargeError, ErrorKind(413, "request_too_large", _INVALID)),
    (UnsupportedMediaTypeError, ErrorKind(415, _INVALID, _INVALID)),
    (NoConversationError, ErrorKind(409, _INVALID, _INVALID, "no_conversation")),
    (BodyTimeoutError, ErrorKind(408, _INVALID, _INVALID, "request_timeout")),
    (RequestTimeoutError, ErrorKind(408, "timeout_error", "timeout_error", "request_timeout")),
    (DeadlineError, ErrorKind(408, "timeout_error", "timeout_error", "request_timeout")),
    (TargetTooLongError, ErrorKind(414, _INVALID, _INVALID)),
    (HeadTooLargeError, ErrorKind(431, _INVALID, _INVALID)),
    (WrongKeysError, ErrorKind(429, "rate_limit_error", "rate_limit_exceeded")),
    (RateLimitedError, ErrorKind(429, "rate_limit_error", "rate_limit_exceeded")),
    (OverloadedError, ErrorKind(529, "overloaded_error", "server_overloaded", None, 429)),
    (UnavailableError, ErrorKind(503, "api_error", "service_unavailable")),
    (ClientGoneError, ErrorKind(CLIENT_GONE_STATUS, _INVALID, _INVALID)),
)


def kind_of(error: Exception) -> ErrorKind:
    """The wire look of an error; 500 for what is not Stoker's own."""
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), _INTERNAL)


def error_message(error: Exception, request_id: str) -> str:
    """What the client is told; causes that are not meant for it stay in the log."""
    if isinstance(error, StokerError):
        return str(error)
    return f"internal error; see request {request_id} in the server's log"


def error_body(error: Exception, dialect: Dialect, request_id: str) -> dict[str, Any]:
    """The JSON body of an error in a client's dialect."""
    kind = kind_of(error)
    message = error_message(error, request_id)
    if dialect is Dialect.ANTHROPIC:
        return {
            "type": "error",
            "error": {"type": kind.anthropic_type, "message": message},
            "request_id": request_id,
        }
    return {
        "error": {
            "message": message,
            "type": kind.openai_type,
            "param": error.field if isinstance(error, FieldError) else None,
            "code": kind.openai_code,
        }
    }


def retry_after(error: Exception) -> int | None:
    """Whole seconds for the ``retry-after`` header, or None where trying again is no use."""
    if isinstance(error, OverloadedError | UnavailableError):
        return max(1, math.ceil(error.retry_after_s))
    return None


def dialect_of(path: str, has_anthropic_version: bool) -> Dialect:
    """Whose dialect a path speaks; shared paths go by the ``anthropic-version`` header."""
    if path.startswith("/v1/messages") or has_anthropic_version:
        return Dialect.ANTHROPIC
    return Dialect.OPENAI
