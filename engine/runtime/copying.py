"""Large copies on a CPU, on two cores."""

from __future__ import annotations

import threading

import mlx.core as mx


class _Side(threading.local):
    """A thread's second stream; a stream belongs to the thread that made it."""

    def __init__(self) -> None:
        self.stream = mx.new_stream(mx.cpu)


_side = _Side()


def copying(index: int) -> mx.StreamContext:
    """Where the copy of that number is made: a context in which its operations are built.

    mlx copies on one core per stream, and what a restored cache costs is mostly memory that its
    process has not touched before. A GPU has one queue, and needs no second one.

    Args:
        index: Which of many copies.
    """
    device = mx.default_device()
    is_aside = index % 2 and device == mx.Device(mx.cpu)
    return mx.stream(_side.stream if is_aside else mx.default_stream(device))
