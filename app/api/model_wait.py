"""Requests that come while the model changes: they wait for the new one, up to a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from engine.errors import ModelChangedError, SwapInProgressError
from engine.face import EngineFace
from engine.snapshot import EngineSnapshot, EngineStatus

POLL_S = 0.05
DEFAULT_RETRY_S = 5.0
MAX_RETRY_S = 60.0
T = TypeVar("T")


async def with_model(engine: EngineFace, wait_s: float, attempt: Callable[[], Awaitable[T]]) -> T:
    """Does what needs one model from its prompt to its place in the queue.

    Where the model goes in between, it is done anew: a prompt is tokens of one model. How many may
    wait is bounded by the requests that may be in progress.

    Args:
        engine: Has the model.
        wait_s: How long a change of model is waited for, all in all.
        attempt: Renders a prompt and queues its turn; may be called again.

    Raises:
        SwapInProgressError: The change takes longer; says when to try again.
        StokerError: What the attempt raises.
    """
    until_s = time.monotonic() + wait_s
    while True:
        await _await_model(engine, until_s)
        try:
            return await attempt()
        except (SwapInProgressError, ModelChangedError):
            if time.monotonic() >= until_s:
                raise
            await asyncio.sleep(POLL_S)


async def _await_model(engine: EngineFace, until_s: float) -> None:
    while (snapshot := engine.snapshot).status is EngineStatus.SWAPPING:
        eta_s = snapshot.swap.eta_s if snapshot.swap is not None else None
        if time.monotonic() + (eta_s or 0.0) >= until_s:
            raise swap_in_progress(snapshot)
        await asyncio.sleep(POLL_S)


def swap_in_progress(snapshot: EngineSnapshot) -> SwapInProgressError:
    """What a request is told while the model changes."""
    to_model = snapshot.swap.to_model if snapshot.swap is not None else "another model"
    return SwapInProgressError(to_model, swap_retry_s(snapshot))


def swap_retry_s(snapshot: EngineSnapshot) -> float:
    """Seconds until a request should find the new model; between 1 and 60."""
    eta_s = snapshot.swap.eta_s if snapshot.swap is not None else None
    return DEFAULT_RETRY_S if eta_s is None else min(MAX_RETRY_S, max(1.0, eta_s))
