"""Frames as one moving picture."""

from __future__ import annotations

from pathlib import Path

from docs.pictures.palette import palette_of, with_palette
from docs.pictures.raster import to_pixels
from docs.pictures.recording import Frame


def save_recording(frames: list[Frame], path: Path) -> None:
    """Writes an animated PNG that repeats for ever."""
    palette = palette_of(frame.grid for frame in frames)
    images = [with_palette(to_pixels(frame.grid), palette) for frame in frames]
    images[0].save(
        path,
        save_all=True,
        append_images=images[1:],
        duration=[frame.hold_ms for frame in frames],
        loop=0,
        optimize=True,
    )
