"""The engine's state over HTTP: exactly what the dashboard draws."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from engine.face import EngineFace
from engine.snapshot import to_json


def admin_router(engine: EngineFace) -> APIRouter:
    """The routes over the engine's snapshot."""
    router = APIRouter(tags=["admin"])

    @router.get("/admin/state", summary="The engine's snapshot", response_model=None)
    async def state() -> Response:
        return JSONResponse(to_json(engine.snapshot))

    return router
