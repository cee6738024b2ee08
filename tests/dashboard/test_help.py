"""The help page and the docs name every key that works anywhere on the dashboard."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest
from textual.app import App
from textual.dom import DOMNode

import app.dashboard
import widgets
from app.dashboard.actions import ACTIONS, PANE_KEYS, key_hints
from app.dashboard.help_text import key_sections, place_sections
from app.dashboard.key_words import key_word, key_words, spelled
from app.dashboard.place_keys import PLACES, own_bindings
from app.dashboard.screens.main import MainScreen
from app.dashboard.screenshots import still_app
from docs.generate import actions_table
from styles.tokens import ASCII, UNICODE
from tests.dashboard.driving import dashboard, until
from tests.dashboard.screen_text import screen_text


def kinds() -> Iterator[type[DOMNode]]:
    """Every widget, screen and app of the dashboard."""
    for package in (app.dashboard, widgets):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if kind.__module__ == found.name and issubclass(kind, DOMNode):
                    yield kind


def keys_of(kind: type[DOMNode]) -> set[str]:
    return {key_word(key) for each in own_bindings(kind) for key in each.key.split(",")}


def heads() -> set[str]:
    """Keys that the help names as working everywhere."""
    named = {entry.head for section in key_sections(ACTIONS) for entry in section.entries}
    words = {word for head in named for word in head.split()}
    assert f"{PANE_KEYS[0][0]}-{PANE_KEYS[-1][0]}" in words
    return words | {key for key, _ in PANE_KEYS}


TOLD = {kind for place in PLACES for kind in place.kinds}
WITH_KEYS = sorted({kind for kind in kinds() if keys_of(kind)}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", WITH_KEYS, ids=lambda kind: kind.__name__)
def test_every_key_of_every_widget_and_screen_is_told(kind: type[DOMNode]) -> None:
    if kind in TOLD:
        assert all(each.description.endswith(".") for each in own_bindings(kind))
    elif issubclass(kind, App | MainScreen):
        assert keys_of(kind) <= heads()
    else:
        by_hand = [{key for key, _ in place.more} for place in PLACES if not place.kinds]
        assert keys_of(kind) in by_hand


def test_what_widgets_do_with_keys_by_themselves_is_told() -> None:
    with_handlers = {kind for kind in kinds() if "on_key" in kind.__dict__}
    told = {kind for place in PLACES if place.more for kind in place.kinds}
    assert with_handlers
    assert with_handlers <= told


def test_keys_that_do_the_same_are_told_together() -> None:
    assert key_words(["left", "h", "right", "up", "down", "ctrl+b"]) == "arrows h ^b"
    assert key_words(["up", "k", "shift+tab", "escape"]) == "↑ k shift+tab esc"


def test_the_docs_have_what_the_help_has() -> None:
    table = actions_table()
    sections = [*key_sections(ACTIONS)[:-1], *place_sections()]
    for entry in (entry for section in sections for entry in section.entries):
        assert f"`{entry.head}`" in table
        assert entry.text in table


def test_keys_are_spelled_out_where_marks_are_ascii() -> None:
    assert spelled("shift+← ↑ k", ASCII) == "shift+left up k"
    assert spelled("shift+← ↑ k", UNICODE) == "shift+← ↑ k"
    assert all(hint.key.isascii() for hint in key_hints(ACTIONS, ASCII))


async def test_a_help_page_of_plain_marks_is_ascii() -> None:
    app, _ = still_app("busy", plain_glyphs=True)
    async with app.run_test(size=(120, 120)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "In the block map" in screen_text(app)
        assert screen_text(app).isascii()


async def test_the_help_page_tells_of_single_places() -> None:
    async with dashboard(size=(80, 24)) as (pilot, app, _):
        await pilot.press("question_mark")
        await pilot.pause()
        for wanted in ("In the block map", "Show the lines of the log too", "While jumping"):
            for _ in range(12):
                if wanted in screen_text(app):
                    break
                await pilot.press("pagedown")
                await pilot.pause(0.3)
            await until(pilot, lambda wanted=wanted: wanted in screen_text(app))  # type: ignore[misc]
