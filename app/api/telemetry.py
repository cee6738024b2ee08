"""What every request leaves behind: an id, a log line, and counts. No prompt, no reply."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from structlog.contextvars import bound_contextvars

from app.api.errors import CLIENT_GONE_STATUS
from app.logs import printable
from app.metrics import Metrics
from engine.request import Delta, Usage
from engine.snapshot import MissRow

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_LOGGED_PATH_CHARS = 300
_RECORD = "stoker.record"
_LINE_BEGINS_WITH = ("request_id", "method", "path", "status")
_QUIET_PATHS = ("/", "/metrics", "/admin/state", "/api/hello")
log = logging.getLogger("stoker.api.request")


@dataclass(slots=True)
class RequestRecord:
    """One request, as the log and the metrics will see it.

    Attributes:
        request_id: Its id, also in the reply's headers.
        metrics: Where its counts go.
        started: ``time.perf_counter()`` at its arrival.
        namespace: Name of the key it came with; empty for the simple key, or none.
        model_id: The model that served it; empty where none did.
        asked_model: The name the client asked for, where it is another one.
        agent_id: The agent it belongs to.
        usage: Token counts of its turn.
        status: HTTP status of the reply; 0 before it.
        is_answered: Whether the last byte of the reply was handed over.
        is_client_gone: Whether the client left before the end.
        error: Why it failed, in words.
        gaps: What of its tools' schemas calls are not held to.
        headers: What the reply's headers say beside its id and model.
    """

    request_id: str
    metrics: Metrics
    started: float = field(default_factory=time.perf_counter)
    namespace: str = ""
    model_id: str = ""
    asked_model: str = ""
    agent_id: str = ""
    usage: Usage | None = None
    status: int = 0
    is_answered: bool = False
    is_client_gone: bool = False
    error: str = ""
    gaps: tuple[str, ...] = ()
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    _last_token_at: float | None = None

    def note_deltas(self, deltas: Sequence[Delta]) -> None:
        """Takes counts and times from the newest deltas of its turn."""
        self.usage = deltas[-1].usage
        num_tokens = sum(len(delta.token_ids) for delta in deltas)
        if not num_tokens:
            return
        now = time.perf_counter()
        if self._last_token_at is None:
            self.metrics.ttft_s.observe(now - self.started)
        else:
            self.metrics.inter_token_s.observe((now - self._last_token_at) / num_tokens)
        self._last_token_at = now


def record_of(scope: Scope) -> RequestRecord:
    """The record of the request with this scope."""
    record: RequestRecord = scope[_RECORD]
    return record


class Telemetry:
    """The outermost layer: gives every request its id, and writes down how it went."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        """Wraps an ASGI application."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            return
        record = RequestRecord(f"req_{uuid.uuid4().hex}", self._metrics)
        scope[_RECORD] = record

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_headers_of(record)]
            elif not message.get("more_body"):
                record.is_answered = True
            await send(message)

        with bound_contextvars(request_id=record.request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:
                if not record.is_answered:
                    raise  # the server has to break off the reply
                log.exception("%s failed: %r", record.request_id, error)
            finally:
                self._write_down(scope, record)

    def _write_down(self, scope: Scope, record: RequestRecord) -> None:
        status = CLIENT_GONE_STATUS if record.is_client_gone else record.status or 500
        duration_s = time.perf_counter() - record.started
        self._metrics.requests.labels(record.model_id, str(status)).inc()
        if record.usage is not None:
            self._metrics.turn_duration_s.observe(duration_s)
            self._metrics.queue_s.observe(record.usage.queue_s)
        path: str = scope["path"]
        is_quiet = path.startswith("/health/") or (status < 400 and path in _QUIET_PATHS)
        level = logging.DEBUG if is_quiet else logging.INFO
        fields = _fields(
            scope["method"], printable(path[:MAX_LOGGED_PATH_CHARS]), status, duration_s, record
        )
        log.log(level, "%s", _line(fields), extra={"fields": fields})


def _headers_of(record: RequestRecord) -> list[tuple[bytes, bytes]]:
    request_id = record.request_id.encode("ascii")
    headers = [(b"request-id", request_id), (b"x-request-id", request_id), *record.headers]
    if record.model_id:
        # A folder may have any name; a header value may not.
        model = "".join(c if c.isascii() and c.isprintable() else "?" for c in record.model_id)
        headers.append((b"x-stoker-model", model.encode("ascii")))
    return headers


def _fields(
    method: str, path: str, status: int, duration_s: float, record: RequestRecord
) -> dict[str, Any]:
    """What the log says of a request; what there is nothing to say of is left out."""
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "method": method,
        "path": path,
        "status": status,
        "duration_s": round(duration_s, 6),
        "key": record.namespace,
        "model": record.model_id,
        "asked": record.asked_model,
        "agent": record.agent_id,
    }
    if record.usage is not None:
        fields |= _usage_fields(record.usage)
    if record.gaps:
        fields |= {"gaps": len(record.gaps), "first_gap": record.gaps[0][:MAX_LOGGED_PATH_CHARS]}
    fields["error"] = record.error
    return {name: value for name, value in fields.items() if value not in ("", None)}


def _usage_fields(usage: Usage) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "prompt": usage.num_prompt_tokens,
        "cached": usage.num_cached_tokens,
        "generated": usage.num_generated_tokens,
        "queue_s": usage.queue_s,
    }
    if usage.miss.num_prompt_tokens:
        fields |= _miss_fields(usage.miss)
    return {**fields, "ttft_s": usage.ttft_s}


def _miss_fields(miss: MissRow) -> dict[str, Any]:
    """Where the prompt's tokens came from and, where known ones were lost, why."""
    fields: dict[str, Any] = {
        "hot": miss.num_hot_tokens,
        "warm": miss.num_warm_tokens,
        "lost": miss.num_lost_tokens,
        "new": miss.num_new_tokens,
    }
    if miss.is_miss:
        fields |= {
            "miss": miss.cause.value,
            "part": miss.part,
            "changed_at": miss.changed_token,
            "lost_s": miss.lost_s,
        }
    return fields


def _line(fields: Mapping[str, Any]) -> str:
    """The fields for people: the first without their names, texts from outside in quotes."""
    words = [str(fields[name]) for name in _LINE_BEGINS_WITH]
    words.append(f"{fields['duration_s']:.3f}s")
    named = (name for name in fields if name not in (*_LINE_BEGINS_WITH, "duration_s", "key"))
    if "key" in fields:
        words.append(f"key={fields['key']}")
    return " ".join([*words, *(f"{name}={_word(fields[name])}" for name in named)])


def _word(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else repr(value)
