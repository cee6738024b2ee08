"""``stoker attach --web``: the dashboard in a browser, a process per tab, an engine for all.

A tab's process only follows the Stoker that runs; no engine is ever started for one.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from textual_serve.server import Server, to_int

from app.web.child import KEY_VARIABLE
from app.web.guard import TOKEN_PARAMETER, WebGuard
from engine.errors import InvalidRequestError

HOST = "127.0.0.1"
MAX_TABS = 8
END_S = 3.0
_ROOT = Path(__file__).resolve().parent.parent.parent
# What lies in the current folder must not be taken for our own modules.
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from app.web.child import main; "
    "sys.exit(main(sys.argv[1:]))"
)


class WebServer(Server):  # type: ignore[misc, unused-ignore]
    """Serves the page, and a dashboard for each tab.

    Args:
        url: The Stoker that is shown.
        key: Its API key; None where it wants none.
        flags: What else each tab's dashboard is told.
        port: Where to listen, on this machine only; 0 takes any.
    """

    def __init__(self, url: str, key: str | None, flags: Sequence[str], port: int) -> None:
        self._socket = _bound(port)
        number: int = self._socket.getsockname()[1]
        child = [sys.executable, "-P", "-c", _START, str(_ROOT), url, *flags]
        super().__init__(shlex.join(child), host=HOST, port=number, title="Stoker")
        self.templates_path = Path(__file__).parent
        self._guard = WebGuard(frozenset({f"{HOST}:{number}", f"localhost:{number}"}))
        self._num_tabs = 0
        # A command line can be read by everybody on the machine, an environment cannot.
        os.environ.pop(KEY_VARIABLE, None)
        if key is not None:
            os.environ[KEY_VARIABLE] = key

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.port}/?{TOKEN_PARAMETER}={self._guard.token}"

    def run(self) -> None:
        """Serves until a signal comes."""
        web.run_app(
            self._make_app(),
            sock=self._socket,
            access_log=None,
            print=None,
            shutdown_timeout=END_S,
        )

    async def _make_app(self) -> web.Application:
        guard = self._guard

        @web.middleware
        async def guarded(request: web.Request, handler: Any) -> web.StreamResponse:
            return await guard(request, handler)

        app = web.Application(middlewares=[guarded])
        aiohttp_jinja2.setup(
            app, loader=jinja2.FileSystemLoader(self.templates_path), autoescape=True
        )
        app.add_routes(
            [
                web.get("/", self.handle_index, name="index"),
                web.get("/ws", self.handle_websocket, name="websocket"),
                web.get("/download/{key}", self.handle_download, name="download"),
                web.static("/static", self.statics_path, name="static"),
            ]
        )
        return app

    async def handle_index(self, request: web.Request) -> web.Response:
        """The page of one tab."""
        context = {
            "app_websocket_url": f"ws://{request.host}/ws",
            "font_size": max(6, min(64, to_int(request.query.get("fontsize", "14"), 14))),
        }
        return aiohttp_jinja2.render_template("page.html", request, context)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """A tab's dashboard, from its first key to its end."""
        if self._num_tabs >= MAX_TABS:
            raise web.HTTPServiceUnavailable(
                text=f"{MAX_TABS} tabs are open already; close one", headers={"retry-after": "5"}
            )
        self._num_tabs += 1
        try:
            return await super().handle_websocket(request)
        finally:
            self._num_tabs -= 1


def _bound(port: int) -> socket.socket:
    """A socket of this machine's own.

    Raises:
        InvalidRequestError: The port cannot be had.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen()  # whoever opens the address at once is kept waiting, not turned away
    except OSError as error:
        sock.close()
        raise InvalidRequestError(
            f"{HOST}:{port} cannot be had ({error.strerror}); choose another with --web-port"
        ) from error
    return sock
