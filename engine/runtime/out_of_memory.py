"""Tells a lack of memory from other failures of the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import OutOfMemoryError

_SIGNS = ("malloc", "allocate", "out of memory", "bad_alloc")
"""In the messages of mlx's allocators for CPU, Metal and CUDA, which have no type of their own."""


@contextmanager
def told_apart() -> Iterator[None]:
    """Runs a computation on the device.

    Raises:
        OutOfMemoryError: It found no memory. Other failures pass as they are.
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(str(error) or "no memory") from error
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in _SIGNS):
            raise OutOfMemoryError(str(error)) from error
        raise
