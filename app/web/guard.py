"""Who may use the dashboard in a browser: whoever has the address with its token, nobody else.

A page of another site can send requests to this machine, and so can another person's program on
it. What is drawn here can evict caches and read replies, so neither may come in.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

COOKIE = "stoker-web"
TOKEN_PARAMETER = "token"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self' ws:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebGuard:
    """Lets requests in that know the token, and are for this address and from it.

    Args:
        hosts: What a request may call this server, with the port.
    """

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self.token = secrets.token_urlsafe(24)
        """What a browser has to show; new for every server."""

    async def __call__(self, request: web.Request, handle: Handle) -> web.StreamResponse:
        """Passes a request on, or refuses it."""
        if request.host not in self._hosts:
            raise web.HTTPForbidden(text="this server is not called that")
        if not self._is_own(request.headers.get("origin")):
            raise web.HTTPForbidden(text="this request comes from another site")
        if request.path == "/" and self._is_token(request.query.get(TOKEN_PARAMETER)):
            return self._welcome()
        if not self._is_token(request.cookies.get(self._cookie(request))):
            raise web.HTTPForbidden(text="open the address that `stoker attach --web` has printed")
        response = await handle(request)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _welcome(self) -> web.Response:
        """Keeps the token where scripts do not see it, and takes it out of the address."""
        response = web.HTTPSeeOther("/", headers=HEADERS)
        port = next(iter(self._hosts)).rpartition(":")[2]
        response.set_cookie(
            f"{COOKIE}-{port}", self.token, httponly=True, samesite="Strict", path="/"
        )
        return response

    def _cookie(self, request: web.Request) -> str:
        """Browsers keep one jar for all ports of a machine."""
        return f"{COOKIE}-{request.host.rpartition(':')[2]}"

    def _is_own(self, origin: str | None) -> bool:
        return origin is None or urlsplit(origin).netloc in self._hosts

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())
