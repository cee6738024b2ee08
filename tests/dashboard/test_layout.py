"""What is shown at which size, and what a change of size does."""

from __future__ import annotations

import pytest

from app.dashboard.screenshots import still_app
from tests.dashboard.screen_text import screen_lines, screen_text

TITLES = ("blocks", "throughput", "batch", "events", "selected agent", "model and device")


def titles_shown(text: str) -> set[str]:
    return {title for title in TITLES if f"─ {title} " in text}


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((80, 24), set()),
        ((120, 24), set()),
        ((120, 40), {"blocks", "throughput", "batch", "events"}),
        ((200, 60), set(TITLES)),
    ],
)
async def test_panes_by_size(size: tuple[int, int], shown: set[str]) -> None:
    app, _ = still_app("busy")
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        text = screen_text(app)
        assert titles_shown(text) == shown
        assert "agents 6" in text
        assert "q quit" in text


async def test_small_screens_keep_pool_and_latest_event() -> None:
    app, _ = still_app("busy")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        pool_line, event_line, keys = screen_lines(app)[-3:]
        assert "pool 52/192" in pool_line
        assert "running 16" in pool_line
        assert "review-bot pinned" in event_line
        assert "e evict" in keys


async def test_growing_and_shrinking_keeps_selection_and_content() -> None:
    app, _ = still_app("busy")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "down")
        for size in ((200, 60), (120, 40), (80, 24), (200, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.1)
        text = screen_text(app)
        assert titles_shown(text) == set(TITLES)
        assert text.count("codex 7f31") >= 2  # in its lane and in the explainer
        assert "1,228 of 8,192 tokens" in text


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (300, 100)])
async def test_odd_sizes_do_not_break(size: tuple[int, int]) -> None:
    for scene in ("busy", "empty", "loading", "overloaded", "failed"):
        app, _ = still_app(scene)
        async with app.run_test(size=size) as pilot:
            await pilot.press("1", "2", "3", "4", "5", "6", "escape")
            await pilot.pause()
            assert app.is_running


async def test_a_long_list_scrolls_with_the_cursor() -> None:
    app, _ = still_app("overloaded")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "worker-39" not in screen_text(app)
        await pilot.press("end")
        await pilot.pause()
        text = screen_text(app)
        assert "worker-39" in text
        assert "worker-00" not in text


@pytest.mark.parametrize(("width", "is_there"), [(120, False), (130, True), (200, True)])
async def test_the_header_has_the_line_for_a_client_where_there_is_room(
    width: int, is_there: bool
) -> None:
    app, _ = still_app("busy")
    async with app.run_test(size=(width, 40)) as pilot:
        await pilot.pause()
        header = screen_lines(app)[0]
        assert "SmolLM2-135M-Instruct  cpu" in header
        assert ("connect: stoker launch claude" in header) is is_there
