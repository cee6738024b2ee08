"""The pictures of README and pages: the same from the same code, and none of them missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from docs.pictures.cells import BACKGROUND, FOREGROUND, Cell, Grid
from docs.pictures.gallery import PICTURES, Picture, take
from docs.pictures.motion import save_recording
from docs.pictures.raster import UndrawableError, save_still, to_pixels
from docs.pictures.recording import Step, play
from docs.pictures.shapes import HIGH, WIDE
from docs.pictures.vector import MARGIN, to_svg
from styles.tokens import UNICODE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "screenshots"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BUSY = Picture(name="busy", title="busy & small", size=(80, 24), scene="busy")


def one_line(text: str) -> Grid:
    cells = ((at, Cell(mark, FOREGROUND, BACKGROUND)) for at, mark in enumerate(text))
    return Grid((len(text), 1), (tuple(cells),))


async def test_the_same_code_draws_the_same_bytes(tmp_path: Path) -> None:
    drawn = []
    for number in range(2):
        grid = await take(BUSY)
        path = tmp_path / f"{number}.png"
        save_still(grid, path)
        drawn.append((to_svg(grid, BUSY.title), path.read_bytes()))
    assert drawn[0] == drawn[1]


async def test_a_picture_shows_what_the_screen_says_and_asks_nobody() -> None:
    svg = to_svg(await take(BUSY), BUSY.title)
    assert ">repo-a</text>" in svg
    assert "<title>busy &amp; small</title>" in svg
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert "@font-face" not in svg


def test_every_picture_is_there_and_no_other() -> None:
    names = {f"{picture.name}.{kind}" for picture in PICTURES for kind in ("png", "svg")}
    assert {path.name for path in FOLDER.iterdir()} == names | {"recording.png"}


def test_pages_show_pictures_that_there_are() -> None:
    shown = [
        (page, place)
        for page in PAGES
        for place in re.findall(r"\]\(([./]*screenshots/[^)]*)\)", page.read_text("utf-8"))
    ]
    assert len({place for _, place in shown}) >= 3
    assert [place for page, place in shown if not (page.parent / place).is_file()] == []


def test_every_mark_can_be_drawn() -> None:
    glyphs = UNICODE
    marks = [*glyphs.agent.values(), *glyphs.block.values(), glyphs.spark, glyphs.origins]
    marks += [glyphs.pinned, glyphs.paused, glyphs.cursor, glyphs.error, glyphs.warning]
    marks += [glyphs.phases, glyphs.ellipsis, glyphs.separator, glyphs.up, glyphs.down]
    for mark in "".join(marks):
        inked = to_pixels(one_line(mark)).getcolors()
        assert inked is not None, mark
        assert len(inked) > 1, mark


def test_a_mark_that_cannot_be_drawn_is_named() -> None:
    with pytest.raises(UndrawableError, match="U\\+2603"):
        to_pixels(one_line("☃"))


def test_blocks_join_without_a_seam() -> None:
    pixels = to_pixels(one_line("███"))
    box = (MARGIN, MARGIN, MARGIN + 3 * WIDE, MARGIN + HIGH)
    assert pixels.crop(box).getcolors() == [(3 * WIDE * HIGH, FOREGROUND)]
    assert pixels.getpixel((MARGIN - 1, MARGIN)) == BACKGROUND
    assert to_svg(one_line("███"), "").count("<polygon") == 1


async def test_a_recording_plays_its_steps(tmp_path: Path) -> None:
    story = (Step(), Step(keys=("question_mark",), seconds=0, hold_ms=900), Step(keys=("escape",)))
    save_recording(await play(story), tmp_path / "moving.png")
    with Image.open(tmp_path / "moving.png") as moving:
        assert getattr(moving, "n_frames", 1) == 3
        holds = []
        for frame in range(3):
            moving.seek(frame)
            holds.append(moving.info["duration"])
    assert holds == [350, 900, 350]
