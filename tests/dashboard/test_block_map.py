"""The block map from a user's view: pointing at blocks, by key and by mouse, here and over HTTP."""

from __future__ import annotations

from app.dashboard.screenshots import still_app
from engine.commands import DescribeBlock
from engine.snapshot import BlockState
from tests.dashboard.attaching import attached, scripted, serving
from tests.dashboard.driving import dashboard, until
from tests.dashboard.screen_text import screen_text
from widgets.block_map import BlockMapPane


async def test_keys_point_at_blocks_and_each_explains_itself() -> None:
    async with dashboard() as (pilot, app, engine):
        pane = app.screen.query_one(BlockMapPane)
        pane.focus()
        await pilot.press("right")
        assert pane.cursor == 0
        pool = engine.snapshot.pool
        await until(pilot, lambda: "block 0  ▓ shared  256 tokens" in screen_text(app))
        assert "on disk too" in screen_text(app)
        assert "held by claude repo-a" in screen_text(app)
        await pilot.press("G")
        assert pool.block_states[-1] == BlockState.FREE
        await until(pilot, lambda: "held by nobody" in screen_text(app))
        await pilot.press("right", "down")
        last = pane.cursor
        await pilot.press("left", "up", "home", "left", "up")
        assert (last, pane.cursor) == (len(pool.block_states) - 1, 0)
        await pilot.press("escape")
        await pilot.pause()
        assert pane.cursor is None
        assert "1 cell = 1 block" in screen_text(app)


async def test_a_click_points_at_a_block() -> None:
    async with dashboard() as (pilot, app, _):
        pane = app.screen.query_one(BlockMapPane)
        await pilot.click(pane, offset=(2, 1))
        assert pane.cursor == 0
        await until(pilot, lambda: "block 0 " in screen_text(app))
        await pilot.click(pane, offset=(7, 1))
        assert pane.cursor == 2
        await pilot.click(pane, offset=(8, 11))  # below the map
        assert pane.cursor == 2


async def test_a_cell_of_many_blocks_counts_them() -> None:
    app, _ = still_app("many_blocks")
    async with app.run_test(size=(120, 40)) as pilot:
        pane = app.screen.query_one(BlockMapPane)
        pane.focus()
        await pilot.press("right")
        await pilot.pause()
        assert "blocks 0-" in screen_text(app)
        assert "held by" in screen_text(app)


async def test_an_attached_dashboard_asks_the_stoker_it_follows() -> None:
    engine = scripted()
    told = engine_answer(engine, 0)
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            app.screen.query_one(BlockMapPane).focus()
            await pilot.press("right")
            await until(pilot, lambda: told in screen_text(app))


def engine_answer(engine: object, block_id: int) -> str:
    command = DescribeBlock(block_id=block_id)
    engine.send(command)  # type: ignore[attr-defined]
    return command.done.result().block_hash[:12]
