"""A pane sends to the terminal only those of its lines that changed."""

from __future__ import annotations

import dataclasses

import pytest
from textual.content import Content
from textual.geometry import Region

from app.dashboard.screenshots import still_app
from tests.dashboard.screen_text import screen_text
from widgets.batch import BatchPane, batch_slice


async def test_lines_that_are_the_same_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app, engine = still_app("busy")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        pane = app.screen.query_one(BatchPane)
        asked: list[tuple[Region, ...]] = []
        monkeypatch.setattr(pane, "refresh", lambda *regions: asked.append(regions))
        shown = engine.snapshot
        other = dataclasses.replace(shown.batch, num_waiting=7)
        pane.update_from(batch_slice(dataclasses.replace(shown, batch=other)))
        (regions,) = asked
        assert [(region.y, region.height) for region in regions] == [(1, 1)]


async def test_a_line_of_the_same_text_in_another_colour_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, _ = still_app("busy")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        pane = app.screen.query_one(BatchPane)
        monkeypatch.setattr(pane, "draw", lambda *_: [Content.styled("same", "$success")])
        pane.refresh()
        await pilot.pause()
        asked: list[tuple[Region, ...]] = []
        monkeypatch.setattr(pane, "refresh", lambda *regions: asked.append(regions))
        pane.refresh_changed()
        assert asked == []
        monkeypatch.setattr(pane, "draw", lambda *_: [Content.styled("same", "$error")])
        pane.refresh_changed()
        assert [region.y for region in asked[0]] == [0]


async def test_what_is_drawn_in_parts_is_what_is_there() -> None:
    app, engine = still_app("busy")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        pane = app.screen.query_one(BatchPane)
        for num_waiting in (7, 0, 96):
            batch = dataclasses.replace(engine.snapshot.batch, num_waiting=num_waiting)
            pane.update_from(batch_slice(dataclasses.replace(engine.snapshot, batch=batch)))
            await pilot.pause()
            assert f"waiting {num_waiting:>5}" in screen_text(app)
