"""Waiting for the engine's answer to a command."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

from engine.errors import UnavailableError

COMMAND_TIMEOUT_S = 30.0
T = TypeVar("T")


async def answer_of(done: Future[T], timeout_s: float = COMMAND_TIMEOUT_S) -> T:
    """The engine's answer to a command.

    The future itself is never cancelled: the engine still has to be able to answer it.

    Args:
        done: The command's future.
        timeout_s: How long to wait for it.

    Raises:
        UnavailableError: The engine gave none in time.
    """
    waiting = asyncio.shield(asyncio.wrap_future(done))
    try:
        return await asyncio.wait_for(waiting, timeout_s)
    except TimeoutError as error:
        raise UnavailableError("the engine did not answer in time") from error
