"""The engine's state over HTTP: exactly what the dashboard draws."""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.answers import answer_of
from app.api.errors import FieldError
from app.api.fields import parse_object
from app.version import __version__
from engine.agent_commands import EvictIdle
from engine.commands import DescribeBlock, SetBatchWindow
from engine.errors import InvalidRequestError
from engine.face import EngineFace
from engine.snapshot import EngineSnapshot, to_json, to_value
from engine.turn_limits import check_batch_window

VERSION_HEADER = "x-stoker-version"
MAX_DIGITS = 12
MAX_AGE_S = 1.0
"""Clocks and readings go on while the engine does nothing; they are sent this often."""


class StatePage:
    """The newest snapshot as a page, written once however many look at it."""

    def __init__(self, engine: EngineFace, clock: Callable[[], float] = time.monotonic) -> None:
        """Has written nothing yet.

        Args:
            engine: Whose snapshot it is.
            clock: Seconds, rising.
        """
        self._engine = engine
        self._clock = clock
        self._written: EngineSnapshot | None = None
        self._written_s = 0.0
        self._body = b""
        self._number = 0
        # Numbers start anew with each process, so they are told apart by its own.
        self._name = uuid.uuid4().hex

    def reply(self, known: str | None) -> Response:
        """The page, or only the word that it is the one that is known.

        Args:
            known: The ``ETag`` that the client has; None where it has none.
        """
        self._write()
        headers = {"etag": f'"{self._name}-{self._number}"', "cache-control": "no-cache"}
        if known == headers["etag"]:
            return Response(status_code=304, headers=headers)
        headers[VERSION_HEADER] = __version__
        return Response(self._body, media_type="application/json", headers=headers)

    def _write(self) -> None:
        snapshot, now_s = self._engine.snapshot, self._clock()
        if snapshot is self._written:
            return
        is_step_known = self._written is not None and snapshot.step == self._written.step
        if is_step_known and now_s - self._written_s < MAX_AGE_S:
            return
        self._body = json.dumps(to_json(snapshot), separators=(",", ":")).encode("ascii")
        self._written, self._written_s = snapshot, now_s
        self._number += 1


def _window_command(body: bytes) -> SetBatchWindow:
    """The batch window that a body asks for.

    Raises:
        InvalidRequestError: The body is no JSON object, or there is no such window.
    """
    fields = parse_object(body)
    if fields.get("window_ms") is None:
        raise fields.error("window_ms", "field required")
    window_ms = fields.number("window_ms", 0.0)
    try:
        return SetBatchWindow(window_ms=check_batch_window(window_ms))
    except InvalidRequestError as error:
        raise FieldError("window_ms", str(error)) from error


def admin_router(engine: EngineFace) -> APIRouter:
    """The routes over the engine as a whole."""
    router = APIRouter(tags=["admin"])
    page = StatePage(engine)

    @router.get("/admin/state", summary="The engine's snapshot", response_model=None)
    async def state(request: Request) -> Response:
        return page.reply(request.headers.get("if-none-match"))

    @router.get("/admin/blocks/{block_id}", summary="One block of the pool", response_model=None)
    async def block(block_id: str) -> Response:
        command = DescribeBlock(block_id=_number(block_id))
        engine.send(command)
        return JSONResponse(to_value(await answer_of(command.done)))

    @router.post("/admin/evict-idle", summary="Evict all idle agents", response_model=None)
    async def evict_idle() -> Response:
        command = EvictIdle()
        engine.send(command)
        eviction = await answer_of(command.done)
        return JSONResponse(dataclasses.asdict(eviction))

    @router.post("/admin/batch-window", summary="Change the batch window", response_model=None)
    async def set_batch_window(request: Request) -> Response:
        command = _window_command(await request.body())
        engine.send(command)
        window_ms = await answer_of(command.done)
        return JSONResponse({"window_ms": window_ms})

    return router


def _number(text: str) -> int:
    """A block's number as it stands in a path.

    Raises:
        InvalidRequestError: It is no number.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise InvalidRequestError("a block is named by its place in the map: 0 for the first")
    return int(text)
