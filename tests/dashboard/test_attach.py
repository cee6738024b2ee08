"""The dashboard of a Stoker elsewhere, by keys, over a real socket."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from app.dashboard.action import READ_ONLY
from app.dashboard.screens.main import MainScreen
from benchmarks.servers import free_port
from engine.snapshot import AgentStatus, EngineStatus
from tests.dashboard.attaching import attached, scripted, serving
from tests.dashboard.driving import BOTH_WAYS, REVIEW_BOT, do, until
from tests.dashboard.screen_text import screen_text, toasts

BUSY = "claude repo-a"
IDLE = "review-bot"
FORKED = f"{IDLE}-fork-1"


async def test_it_draws_what_the_engine_there_shows() -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (_, app, remote):
            assert remote.snapshot == engine.snapshot
            text = screen_text(app)
            assert BUSY in text
            assert f"attached  ● serving  127.0.0.1:{server.port}" in text


@BOTH_WAYS
async def test_evict_warm_and_pin_reach_the_engine_there(how: str) -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await pilot.press(*REVIEW_BOT)
            await do(pilot, how, "p", "Pin or unpin agent")
            await until(pilot, lambda: toasts(app) == ["review-bot unpinned"])
            await do(pilot, how, "e", "Evict agent")
            await pilot.press("y")
            await until(pilot, lambda: len(toasts(app)) == 2)
            evicted = "review-bot evicted, 130M freed; all of it stays on disk; u brings it back"
            assert toasts(app)[1] == evicted
            row = engine.snapshot.agent(IDLE)
            assert row is not None
            assert row.status is AgentStatus.WARM
            await until(pilot, lambda: "on disk  " in screen_text(app))
            await do(pilot, how, "w", "Warm agent")
            await until(pilot, lambda: len(toasts(app)) == 3)
            assert toasts(app)[2] == "review-bot is in memory, 6,800 tokens"


@BOTH_WAYS
async def test_abort_and_evict_idle_reach_the_engine_there(how: str) -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await do(pilot, how, "x", "Abort agent's turn")
            await pilot.press("y")
            await until(pilot, lambda: toasts(app) == ["1 turn of claude repo-a aborted"])
            row = engine.snapshot.agent(BUSY)
            assert row is not None
            assert row.status is AgentStatus.IDLE
            await until(pilot, lambda: "idle" in screen_text(app).splitlines()[4])
            await do(pilot, how, "E", "Evict all idle agents")
            await pilot.press("y")
            await until(pilot, lambda: toasts(app)[-1].startswith("idle agents evicted"))
            assert engine.snapshot.events[-1].kind == "evict"


async def test_fork_and_removal_reach_the_engine_there() -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await pilot.press(*REVIEW_BOT, "F", "down", "enter")
            await until(pilot, lambda: bool(toasts(app)))
            assert toasts(app) == [f"review-bot forked after turn 30 as {FORKED}"]
            await until(pilot, lambda: FORKED in screen_text(app))
            await pilot.press("D", "y")
            await until(pilot, lambda: len(toasts(app)) == 2)
            assert toasts(app)[1].startswith("review-bot removed, ")
            assert engine.snapshot.agent(IDLE) is None


async def test_an_agent_travels_through_a_file_on_this_side(tmp_path: Path) -> None:
    engine = scripted()
    exports = tmp_path / "exports"
    with serving(engine, folder=tmp_path / "transfers") as server:
        async with attached(server.url, exports=exports) as (pilot, app, _):
            await pilot.press(*REVIEW_BOT, "o")
            await until(pilot, lambda: bool(toasts(app)))
            file = exports / "review-bot.stoker-agent"
            assert toasts(app)[0].startswith("review-bot exported, ")
            assert toasts(app)[0].endswith(f" in {file}")
            assert file.stat().st_mode & 0o777 == 0o600
            await pilot.press("I", "enter")
            await until(pilot, lambda: len(toasts(app)) == 2)
            assert "there is an agent 'review-bot' already" in toasts(app)[1]
            await pilot.press("D", "y")
            await until(pilot, lambda: engine.snapshot.agent(IDLE) is None)
            await pilot.press("I", "enter")
            await until(pilot, lambda: len(toasts(app)) == 4)
            assert toasts(app)[3] == "review-bot imported, 6,800 tokens on disk"
            assert list((tmp_path / "transfers").iterdir()) == []


async def test_a_refusal_is_told_in_the_engines_words() -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await pilot.press("f")
            await until(pilot, lambda: bool(toasts(app)))
            assert toasts(app) == ["cannot fork 'claude repo-a' while it has a turn in progress"]


async def test_a_server_that_goes_and_comes_back() -> None:
    port = free_port()
    with ExitStack() as first:
        server = first.enter_context(serving(scripted(), port))
        async with attached(server.url) as (pilot, app, remote):
            first.close()
            await until(pilot, lambda: "▲ stale 2s" in screen_text(app))
            text = screen_text(app)
            assert BUSY in text  # the last picture stays
            assert "serving" not in text.splitlines()[0]
            await pilot.press("p")
            await until(pilot, lambda: bool(toasts(app)))
            assert f"no Stoker answers at http://127.0.0.1:{port}" in toasts(app)[0]
            with serving(scripted("empty"), port):
                await until(pilot, lambda: "● serving" in screen_text(app))
                await until(pilot, lambda: BUSY not in screen_text(app))
                assert not remote.state.stale_s


async def test_a_key_that_is_taken_back_is_for_a_person() -> None:
    engine, port = scripted(), free_port()
    with ExitStack() as first:
        server = first.enter_context(serving(engine, port, key="old"))
        async with attached(server.url, key="old") as (pilot, app, _):
            first.close()
            with serving(engine, port, key="new"):
                advice = "give --key KEY, or set STOKER_API_KEY"
                await until(pilot, lambda: advice in " ".join(screen_text(app).split()))
                assert BUSY in screen_text(app)
            with serving(engine, port, key="old"):
                await until(pilot, lambda: "Nothing new" not in screen_text(app))


async def test_quitting_leaves_the_engine_alone_and_is_quick() -> None:
    engine = scripted()
    with serving(engine) as server:
        async with attached(server.url) as (pilot, app, _):
            await pilot.press("q")
            await until(pilot, lambda: app._exit)
            assert toasts(app) == []
        assert engine.snapshot.status is EngineStatus.SERVING
        assert app.return_value is False


async def test_read_only_offers_nothing_that_changes_something() -> None:
    engine = scripted()
    before = engine.snapshot
    with serving(engine) as server:
        async with attached(server.url, powers=READ_ONLY, size=(200, 60)) as (pilot, app, _):
            await pilot.press(*REVIEW_BOT, *"ewpfFIDxE", "delete")
            await pilot.pause(0.1)
            assert isinstance(app.screen, MainScreen)
            assert toasts(app) == []
            footer = screen_text(app).splitlines()[-1]
            assert "evict" not in footer
            assert "filter" in footer
            await pilot.press("question_mark")
            await pilot.pause()
            text = screen_text(app)
            assert "Drop the selected" not in text
            assert "Next sort order" in text
            await pilot.press("escape")
            await pilot.press("colon")
            await until(pilot, lambda: "Filter agents" in screen_text(app))
            assert "Evict" not in screen_text(app)
        assert engine.snapshot is before
