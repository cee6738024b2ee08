"""Answers to commands: the caller's own errors go to the caller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from engine.errors import StokerError


def answer(future: Future[Any], action: Callable[[], object]) -> None:
    """Does something for a future and puts the result, or the StokerError, into it."""
    if future.set_running_or_notify_cancel():
        finish(future, action)


def answer_later(future: Future[Any], action: Callable[[], None]) -> None:
    """Starts something that will put its result into the future; a StokerError goes there now."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        action()
    except StokerError as error:
        future.set_exception(error)


def finish(future: Future[Any], action: Callable[[], object]) -> None:
    """Does the last thing for a future that was taken up earlier."""
    try:
        result = action()
    except StokerError as error:
        future.set_exception(error)
    else:
        future.set_result(result)
