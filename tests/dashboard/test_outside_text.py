"""Ids and texts from outside cannot harm the screen, wherever they are shown."""

from __future__ import annotations

import unicodedata

import pytest
from rich.cells import cell_len

from app.dashboard.screenshots import still_app
from tests.dashboard.screen_text import screen_lines, screen_text
from widgets.format import clean, fit

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])


def assert_harmless(lines: list[str], width: int) -> None:
    """Every line is exactly as wide as the screen and holds no control character."""
    for line in lines:
        assert cell_len(line) == width, line
        assert not any(unicodedata.category(char)[0] == "C" for char in line), line


@SIZES
async def test_main_screen_keeps_its_shape(size: tuple[int, int]) -> None:
    app, _ = still_app("hostile")
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert_harmless(screen_lines(app), size[0])
        for key in "123456":
            await pilot.press(key)
            await pilot.pause()
            assert_harmless(screen_lines(app), size[0])


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_questions_details_and_toasts_keep_their_shape(size: tuple[int, int]) -> None:
    app, engine = still_app("hostile")
    async with app.run_test(size=size) as pilot:
        for _ in engine.snapshot.agents:
            await pilot.press("e")
            await pilot.pause()
            assert_harmless(screen_lines(app), size[0])
            await pilot.press("escape", "enter")
            await pilot.pause()
            assert_harmless(screen_lines(app), size[0])
            await pilot.press("escape", "p", "down")
        await pilot.pause()
        assert_harmless(screen_lines(app), size[0])


async def test_markup_is_shown_as_it_came() -> None:
    app, _ = still_app("hostile")
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert "[red]danger[/red]" in text
        assert "[b]bold[/b]" in text
        await pilot.press("slash", *"[red]")
        await pilot.pause()
        assert "filter: [red]" in screen_text(app)
        await pilot.press("escape", "p")
        await pilot.pause()
        assert "[red]danger[/red] pinned" in screen_text(app)


async def test_an_id_cannot_carry_a_link() -> None:
    app, _ = still_app("hostile")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.click("LaneList", offset=(12, 1))  # [@click=app.leave]click me[/]
        await pilot.pause(0.2)
        assert not app._exit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1b[31mb", "a�[31mb"),
        ("a\nb\tc\r\0", "a�b�c��"),
        ("\u202eabc\u2066", "�abc�"),
        ("e\u0301", "é"),
        ("a\u0302\u0303\u0304\u0305", "ẫ\u0304\u0305"),
        ("\u2028x\ue000", "�x�"),
        ("日本", "日本"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize("width", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("text", ["", "abc", "日本語の名前", "a" * 99, "\x1b[2J", "x日" * 20])
def test_fit_is_exactly_as_wide_as_asked(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) == width
