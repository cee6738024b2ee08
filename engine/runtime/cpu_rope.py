"""Rotary angles by position, read off a model's own rope module."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models import rope_utils

from engine.runtime.cpu_ops import Rotation, host_array

FIRST_POSITIONS = 1024


class RotaryAngles:
    """A table of cosines and sines that grows as positions are asked for.

    A rope module is linear in its input, so what it does to (1, 0) at a position is the cosine and
    sine there: scaling variants need no code of their own, and the angles are the module's to the
    last bit.
    """

    def __init__(self, module: Any, width: int) -> None:
        """Makes the table.

        Args:
            module: A rope module for which ``is_known_rope`` holds.
            width: Width of a head.
        """
        self._module = module
        self._width = width
        self._num_positions = 0
        self._rotation: Rotation | None = None

    def up_to(self, num_positions: int) -> Rotation:
        """The angles of at least that many positions."""
        if self._rotation is None or num_positions > self._num_positions:
            self._num_positions = max(FIRST_POSITIONS, 2 * num_positions)
            self._rotation = self._measure(self._num_positions)
        return self._rotation

    def _measure(self, num_positions: int) -> Rotation:
        interleaved = bool(getattr(self._module, "traditional", False))
        half = _turned_width(self._module) // 2
        first = slice(0, 2 * half, 2) if interleaved else slice(0, half)
        second = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
        probe = np.zeros((1, 1, num_positions, self._width), np.float32)
        probe[..., first] = 1.0
        turned = np.array(self._module(mx.array(probe), offset=0))[0, 0]
        cosines, sines = host_array(turned[:, first]), host_array(turned[:, second])
        return Rotation(cosines, sines, half, interleaved)


def is_known_rope(module: Any) -> bool:
    """Whether the module turns by angles that depend on nothing but the position."""
    known = (
        nn.RoPE,
        rope_utils.SuScaledRoPE,
        rope_utils.Llama3RoPE,
        rope_utils.YarnRoPE,
    )
    return isinstance(module, known) and _turned_width(module) > 0


def rope_key(module: Any) -> tuple[object, ...]:
    """Equal for modules that turn alike, so that layers share one table."""
    settings = {**dict(module), **vars(module)}
    parts = [
        (name, value.tobytes() if isinstance(value := _plain(setting), np.ndarray) else value)
        for name, setting in sorted(settings.items())
        if isinstance(setting, bool | int | float | mx.array)
    ]
    return (type(module), *parts)


def _plain(setting: Any) -> Any:
    return np.array(setting) if isinstance(setting, mx.array) else setting


def _turned_width(module: Any) -> int:
    return int(getattr(module, "dims", 0) or getattr(module, "dim", 0))
