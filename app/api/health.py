"""Signs of life for supervisors and for clients that knock before they talk."""

from __future__ import annotations

from math import ceil

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.model_wait import swap_retry_s
from app.version import __version__
from engine.face import EngineFace
from engine.snapshot import EngineSnapshot, EngineStatus

_BEFORE_LOADED = (EngineStatus.STARTING, EngineStatus.LOADING, EngineStatus.FAILED)


def _reply(snapshot: EngineSnapshot, is_ok: bool) -> Response:
    swap = snapshot.swap if snapshot.status is EngineStatus.SWAPPING else None
    headers = {} if is_ok or swap is None else {"retry-after": str(ceil(swap_retry_s(snapshot)))}
    body = {
        "status": snapshot.status.value,
        "text": snapshot.status_text,
        "progress": swap.progress if swap is not None else snapshot.progress,
        "model": snapshot.model,
        "to_model": swap.to_model if swap is not None else None,
        "eta_s": swap.eta_s if swap is not None else None,
        "disk": _disk(snapshot),
    }
    return JSONResponse(body, status_code=200 if is_ok else 503, headers=headers)


def _disk(snapshot: EngineSnapshot) -> str:
    """Whether caches survive a restart now; a Stoker without that serves all the same.

    The reason may name places on this machine, and who asks here needs no key.
    """
    disk = snapshot.disk
    if disk.is_on:
        return "on"
    return "off" if disk.reason_off else "not wanted"


def health_router(engine: EngineFace) -> APIRouter:
    """The routes that need no key."""
    router = APIRouter(tags=["health"])

    @router.get("/health/live", summary="Does the engine run?", response_model=None)
    async def live() -> Response:
        snapshot = engine.snapshot
        return _reply(snapshot, snapshot.status is not EngineStatus.FAILED)

    @router.get("/health/ready", summary="Does it take requests?", response_model=None)
    async def ready() -> Response:
        snapshot = engine.snapshot
        is_ready = snapshot.status is EngineStatus.SERVING and engine.chat_format is not None
        return _reply(snapshot, is_ready)

    @router.get("/health/startup", summary="Has a model been loaded?", response_model=None)
    async def startup() -> Response:
        snapshot = engine.snapshot
        return _reply(snapshot, snapshot.status not in _BEFORE_LOADED)

    @router.head("/", include_in_schema=False, response_model=None)
    @router.get("/", summary="Name and version", response_model=None)
    async def root() -> Response:
        return JSONResponse({"name": "stoker", "version": __version__})

    @router.head("/api/hello", include_in_schema=False, response_model=None)
    @router.get("/api/hello", summary="Name and version", response_model=None)
    async def hello() -> Response:
        return JSONResponse({"name": "stoker", "version": __version__})

    return router
