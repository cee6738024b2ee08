"""Agents as files over HTTP: streamed out of a file and into one, never held in memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from app.agents_client import TOKENS_HEADER
from app.api.agents import agent_name, namespace_of
from app.api.answers import answer_of
from app.exports import ARCHIVE_SUFFIX, archive_name
from engine.agent_commands import ExportAgent, ImportAgent, ImportedAgent
from engine.errors import NoDiskTierError
from engine.face import EngineFace

MEDIA_TYPE = "application/octet-stream"
CHUNK_BYTES = 1 << 20
TRANSFER_TIMEOUT_S = 600.0
_TEMP_PREFIX = "transfer-"


class TransferFolder:
    """Where files lie while they go out or come in. Nobody else puts anything there."""

    def __init__(self, engine: EngineFace, folder: Path | None) -> None:
        """Names the folder; it is made when it is first needed.

        Args:
            engine: Writes and reads the files.
            folder: The folder; None where no agents travel.
        """
        self._engine = engine
        self._folder = folder

    async def send(self, agent_id: str, namespace: str) -> StreamingResponse:
        """An agent's file as a response.

        Raises:
            StokerError: As ``ExportAgent`` says.
        """
        path = self._new_path("export")
        command = ExportAgent(agent_id=agent_id, path=path, namespace=namespace)
        self._engine.send(command)
        try:
            exported = await answer_of(command.done, TRANSFER_TIMEOUT_S)
            file = path.open("rb")
        finally:
            # Open files outlive their names, so nothing is left to tidy up later.
            _unlink_when_done(path, command.done)
        num_bytes = os.fstat(file.fileno()).st_size
        return StreamingResponse(
            _chunks(file),
            media_type=MEDIA_TYPE,
            headers={
                "content-length": str(num_bytes),
                "content-disposition": _disposition(agent_id),
                TOKENS_HEADER: str(exported.num_tokens),
            },
        )

    async def receive(
        self, request: Request, agent_id: str | None, namespace: str
    ) -> ImportedAgent:
        """Takes an agent in from a request's body.

        Raises:
            StokerError: As ``ImportAgent`` says.
        """
        path = self._new_path("import")
        with self._created(path) as file:
            try:
                async for chunk in request.stream():
                    await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(file.flush)
            except OSError as error:
                raise NoDiskTierError("import an agent", _reason(error)) from error
        command = ImportAgent(path=path, agent_id=agent_id, namespace=namespace)
        self._engine.send(command)
        try:
            return await answer_of(command.done, TRANSFER_TIMEOUT_S)
        finally:
            _unlink_when_done(path, command.done)

    def _new_path(self, action: str) -> Path:
        if self._folder is None or not self._engine.snapshot.disk.bytes_budget:
            raise NoDiskTierError(f"{action} an agent")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise NoDiskTierError(f"{action} an agent", _reason(error)) from error
        return self._folder / f"{_TEMP_PREFIX}{uuid.uuid4().hex}{ARCHIVE_SUFFIX}"

    @contextmanager
    def _created(self, path: Path) -> Iterator[BinaryIO]:
        """A private file to fill; it goes again if that fails."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NoDiskTierError("import an agent", _reason(error)) from error
        try:
            with open(fd, "wb") as file:
                yield file
        except BaseException:
            _unlink(path)
            raise

    def tidy_up(self) -> None:
        """Removes what a process that was killed has left."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                for path in self._folder.glob(f"*{_TEMP_PREFIX}*"):
                    _unlink(path)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _unlink_when_done(path: Path, done: Future[Any]) -> None:
    """Removes a file now, or when the engine is done with it, if nobody waited for that."""
    done.add_done_callback(lambda _: _unlink(path))


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def _disposition(agent_id: str) -> str:
    """A file name for whoever saves the reply; ids may hold anything, so a plain one goes first."""
    name = quote(f"{agent_id}{ARCHIVE_SUFFIX}", safe="")
    return f"attachment; filename=\"{archive_name(agent_id)}\"; filename*=UTF-8''{name}"


def transfers_router(engine: EngineFace, folder: Path | None) -> APIRouter:
    """The routes of agents' files. They go before those that take any path for an agent's id.

    Args:
        engine: Whose agents they are.
        folder: Where the files lie on the way out or in; None where no agents travel.
    """
    router = APIRouter(tags=["agents"])
    files = TransferFolder(engine, folder)
    files.tidy_up()

    @router.get("/v1/agents/{agent_id:path}/export", summary="Export", response_model=None)
    async def export_agent(agent_id: str, request: Request) -> Response:
        return await files.send(agent_id, namespace_of(request))

    @router.post("/v1/agents/import", summary="Import", status_code=201, response_model=None)
    async def import_agent(request: Request) -> Response:
        name = agent_name(request.query_params.get("id"))
        imported = await files.receive(request, name, namespace_of(request))
        return JSONResponse(dataclasses.asdict(imported), status_code=201)

    return router
