"""Reads how much memory is in use, and gives back what is not."""

from __future__ import annotations

import ctypes
import sys

import mlx.core as mx
import psutil

from engine.memory import MemoryReading


def read_memory() -> MemoryReading:
    """Memory in use now, and its peak since the last ``begin_peak``."""
    return MemoryReading(
        active_bytes=mx.get_active_memory(),
        cache_bytes=mx.get_cache_memory(),
        peak_bytes=mx.get_peak_memory(),
        footprint_bytes=psutil.Process().memory_info().rss,
    )


def read_memory_and_peak() -> MemoryReading:
    """The same; the next peak begins here. For the one reader that follows the peaks."""
    reading = read_memory()
    mx.reset_peak_memory()
    return reading


def give_back_memory() -> None:
    """Gives buffers that were freed back to the system, so that readings see them gone."""
    mx.clear_cache()
    if sys.platform == "linux":
        # Small buffers are freed into the C library's heap, which keeps them to itself.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
