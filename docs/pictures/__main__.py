"""Draws every picture anew: ``python -m docs.pictures FOLDER``. Run by ``make screenshots``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from docs.pictures.gallery import PICTURES, take
from docs.pictures.motion import save_recording
from docs.pictures.raster import save_still
from docs.pictures.recording import play
from docs.pictures.vector import to_svg

USAGE = "usage: python -m docs.pictures FOLDER"


def main(arguments: list[str]) -> int:
    """Writes every picture into the folder that is named; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write(f"{USAGE}\n")
        return 1
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        grid = asyncio.run(take(picture))
        (folder / f"{picture.name}.svg").write_text(to_svg(grid, picture.title), encoding="utf-8")
        save_still(grid, folder / f"{picture.name}.png")
        sys.stdout.write(f"{folder / picture.name}.svg .png\n")
    save_recording(asyncio.run(play()), folder / "recording.png")
    sys.stdout.write(f"{folder / 'recording.png'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
