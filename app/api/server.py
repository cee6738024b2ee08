"""The API's thread: a bound socket, its own asyncio loop, and uvicorn.

Importing this module is cheap; the web framework is imported on the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading
from typing import TYPE_CHECKING

from app.api.errors import BindError, PortInUseError
from app.api.settings import ApiSettings
from engine.face import EngineFace

if TYPE_CHECKING:
    import uvicorn

    from app.api.service import TurnService

BACKLOG = 512
GRACE_S = 3
"""How long open connections may take to end once the server stops."""
KEEP_ALIVE_S = 75
log = logging.getLogger("stoker.api")


class ApiServer:
    """Serves the HTTP API of one engine from a thread of its own."""

    def __init__(self, engine: EngineFace, settings: ApiSettings) -> None:
        """Prepares a server; nothing is bound or started."""
        self._engine = engine
        self._settings = settings
        self._socket: socket.socket | None = None
        self._port = settings.port
        self._thread = threading.Thread(target=self._run, name="stoker-api", daemon=True)
        self._is_stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._service: TurnService | None = None
        self._lock = threading.Lock()
        self.failure: BaseException | None = None

    @property
    def port(self) -> int:
        """The port that is bound; the configured one before that."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients find the API on this machine."""
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    def bind(self) -> None:
        """Binds and listens, so that early clients wait instead of being refused.

        Raises:
            PortInUseError: Another process has the port.
            BindError: The address cannot be bound for another reason.
        """
        if self._socket is not None:
            return
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio turns Nagle's algorithm off only for sockets that name their protocol; with it,
        # a small piece of a stream waits 40 ms for the client's delayed acknowledgement.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
            bound.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            bound.close()
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise PortInUseError(host, port) from error
            raise BindError(f"cannot listen on {host} port {port}: {error}") from error
        self._socket = bound
        self._port = bound.getsockname()[1]

    def start(self) -> None:
        """Binds, and starts the thread; returns at once.

        Raises:
            BindError: The address cannot be bound, see ``bind``.
        """
        self.bind()
        self._thread.start()

    def stop(self) -> None:
        """Asks the server to end: turns in progress get an error, then the thread ends."""
        with self._lock:
            self._is_stopping.set()
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop_on_loop)
        if not self._thread.is_alive() and self._socket is not None:
            self._socket.close()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the thread to end; False on time-out."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self.failure = error
            log.exception("the API stopped: %s", error)
        finally:
            if self._socket is not None:
                self._socket.close()

    async def _serve(self) -> None:
        import uvicorn

        from app.api.application import build_app
        from app.api.bridge import DeltaBridge
        from app.api.connections import bounded_protocol
        from app.api.refused_connections import RefusedConnections
        from app.api.service import TurnService
        from app.metrics import Metrics

        loop = asyncio.get_running_loop()
        service = TurnService(self._engine, self._settings, DeltaBridge(loop))
        metrics = Metrics(lambda: self._engine.snapshot)
        refused = RefusedConnections(metrics)
        config = uvicorn.Config(
            build_app(service, metrics),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            http=bounded_protocol(self._settings, refused),  # type: ignore[arg-type]
            # Nothing of a connection is trusted to say who is behind it.
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = uvicorn.Server(config)
        with self._lock:
            self._loop, self._server, self._service = loop, server, service
            server.should_exit = self._is_stopping.is_set()
        assert self._socket is not None
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve(sockets=[self._socket])

    def _stop_on_loop(self) -> None:
        if self._service is not None:
            self._service.close()
        if self._server is not None:
            self._server.should_exit = True
