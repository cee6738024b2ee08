"""Terminals that can do less: no colours, no marks but ASCII."""

from __future__ import annotations

import pytest
from textual.color import Color

from app.config import load_settings
from app.dashboard.screenshots import demo_app, still_app
from styles.theme_names import THEME_WORDS
from styles.themes import THEMES
from tests.dashboard.driving import dashboard
from tests.dashboard.screen_text import screen_text


async def test_no_colour_is_left_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for theme in THEME_WORDS:
        app, _ = demo_app()
        app.theme = theme
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            for strip in app.screen._compositor.render_strips():
                for _, style, _ in strip.apply_filter(app._filters[-1], Color(0, 0, 0)):
                    color = style.color if style is not None else None
                    if color is not None and color.triplet is not None:
                        assert len(set(color.triplet)) == 1


@pytest.mark.parametrize("keys", ["", "question_mark", "down enter", "L", "E", "J", "colon"])
async def test_plain_marks_are_ascii_on_every_screen(keys: str) -> None:
    app, _ = still_app("busy", plain_glyphs=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(*keys.split())
        await pilot.pause()
        shown = "".join(screen_text(app).split())
        strange = {char for char in shown if not char.isascii()}
        assert strange <= set("·"), strange


async def test_states_are_told_without_colour() -> None:
    """Every state has a mark or a word that no other state has."""
    async with dashboard() as (pilot, app, _):
        await pilot.press("P")
        await pilot.pause()
        text = screen_text(app)
        for words in ("‖ paused", "◐ prefilling", "● decoding", "○ idle", "◇ on disk"):
            assert words in text


def test_every_theme_has_a_name_and_words() -> None:
    assert [theme.name for theme in THEMES] == list(THEME_WORDS)


def test_a_theme_is_asked_for_or_left_to_the_dashboard() -> None:
    assert load_settings({}, environ={}).given_theme is None
    chosen = load_settings({"theme": "stoker"}, environ={})
    assert chosen.given_theme == "stoker"
    plain = load_settings({}, environ={"STOKER_PLAIN_GLYPHS": "1"})
    assert plain.plain_glyphs
