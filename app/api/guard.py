"""Who may talk to the API, and with what: hosts, origins, keys, rates, sizes and times."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.api.body_limits import BodyLimits
from app.api.callers import Caller, Callers
from app.api.errors import (
    BodyTimeoutError,
    ForbiddenError,
    RateLimitedError,
    TooManyRequestsError,
    UnauthorizedError,
    dialect_of,
    error_body,
    kind_of,
    retry_after,
)
from app.api.head_limits import check_head, host_of
from app.api.rate_limits import RateLimits
from app.api.settings import ApiSettings
from app.api.telemetry import App, Receive, Scope, Send, record_of
from app.api.wrong_keys import WrongKeys, address_of
from engine.errors import StokerError

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARD_BINDS = ("", "0.0.0.0", "::")
_OPEN_PATHS = frozenset({"/", "/api/hello", "/health/live", "/health/ready", "/health/startup"})
_FILE_PATHS = frozenset({"/v1/agents/import"})
_OPERATOR_PATHS = ("/admin", "/metrics")


def error_response(error: Exception, request: Request) -> JSONResponse:
    """The reply for an error, in the dialect of the route."""
    record = record_of(request.scope)
    record.error = str(error)
    dialect = dialect_of(request.url.path, "anthropic-version" in request.headers)
    after_s = retry_after(error)
    headers = {"retry-after": str(after_s)} if after_s is not None else {}
    if isinstance(error, BodyTimeoutError):
        headers["connection"] = "close"  # the rest of the body is not waited for
    return JSONResponse(
        error_body(error, dialect, record.request_id),
        status_code=kind_of(error).status_in(dialect),
        headers=headers,
    )


class Guard:
    """The layer that refuses a request before any route sees it.

    The host list keeps a web page from reaching the API through a name that it re-points here
    (DNS rebinding); the origin and content-type checks keep it from posting directly.
    """

    def __init__(self, app: App, settings: ApiSettings) -> None:
        """Wraps an ASGI application."""
        self._app = app
        self._body = BodyLimits(
            "application/json", settings.body_limit_bytes, settings.body_timeout_s
        )
        self._file = BodyLimits(
            "application/octet-stream",
            settings.transfer_limit_bytes,
            settings.body_timeout_s,
            is_timed_by_piece=True,
        )
        self._callers = Callers(settings)
        self._rates = RateLimits(settings.rate_limit_per_minute)
        self._wrong_keys = WrongKeys()
        self._max_requests = settings.max_requests
        self._num_requests = 0
        hosts = {host.lower() for host in settings.allowed_hosts}
        self._is_any_host = "*" in hosts
        own = set() if settings.host in _WILDCARD_BINDS else {settings.host.lower()}
        self._hosts = LOOPBACK_HOSTS | hosts | own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves or refuses one request."""
        headers = Headers(scope=scope)
        try:
            check_head(scope)
            self._check_host(headers)
            self._check_origin(headers)
            self._admit(scope, headers)
            limits = self._file if scope["path"] in _FILE_PATHS else self._body
            limits.check(headers, scope["method"])
        except StokerError as error:
            await error_response(error, Request(scope))(scope, receive, send)
            return
        self._num_requests += 1
        try:
            await self._app(scope, limits.limited(receive), send)
        finally:
            self._num_requests -= 1

    def _check_host(self, headers: Headers) -> None:
        host = host_of(headers)
        if not host or not (self._is_any_host or host in self._hosts):
            sent = headers.get("host", "")[:100]
            raise ForbiddenError(
                f"host {sent!r} is not allowed; add its name to allowed_hosts in the configuration"
            )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is not None and origin_host(origin) != headers.get("host", "").lower():
            raise ForbiddenError("requests from other web pages are not allowed")

    def _admit(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Lets a caller in, unless it has sent too much, or everybody together has."""
        path: str = scope["path"]
        if path in _OPEN_PATHS:
            return
        record = record_of(scope)
        caller = self._identify(scope, headers)
        record.namespace = caller.namespace
        allowance = self._rates.take(caller)
        if allowance is not None:
            dialect = dialect_of(path, "anthropic-version" in headers)
            record.headers += allowance.headers(dialect)
            if allowance.wait_s:
                raise RateLimitedError(allowance.per_minute, allowance.wait_s)
        if self._num_requests >= self._max_requests:
            raise TooManyRequestsError(
                f"{self._max_requests} requests are in progress; send it again in a moment",
                retry_after_s=1.0,
            )

    def _identify(self, scope: Scope, headers: Mapping[str, str]) -> Caller:
        address = address_of(scope)
        self._wrong_keys.check(address)
        try:
            caller = self._callers.identify(headers)
        except UnauthorizedError:
            self._wrong_keys.take(address)
            raise
        if not caller.is_operator and scope["path"].startswith(_OPERATOR_PATHS):
            raise ForbiddenError("this shows everybody's agents; it takes the operator's key")
        return caller


def origin_host(origin: str) -> str:
    """The host and port of an origin; empty where it has none (``null``, say)."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
