from __future__ import annotations

import asyncio

import pytest

from app.api.bridge import DeltaBridge
from app.api.draft import TurnDraft
from app.api.telemetry import RequestRecord
from app.api.turns import Turn
from app.metrics import Metrics
from engine.errors import EngineFailedError
from engine.pieces import TextReader
from engine.request import Delta, FinishReason, SamplingParams
from engine.snapshot import EngineStatus
from tests.api.word_engine import WordEngine


def turn_on(engine: WordEngine, bridge: DeltaBridge) -> Turn:
    draft = TurnDraft(
        model="", messages=(), tools=(), sampling=SamplingParams(), max_tokens=None, stream=True
    )
    record = RequestRecord("req_1", Metrics(lambda: engine.snapshot))
    return Turn(engine, bridge, draft, "tiny-words", record, TextReader())


async def test_what_an_engine_sent_before_it_ended_is_still_read() -> None:
    engine = WordEngine()
    bridge = DeltaBridge(asyncio.get_running_loop())
    turn = turn_on(engine, bridge)
    bridge.post(turn, Delta(request_id="req_1", agent_id="a", finish_reason=FinishReason.END_TURN))
    engine.set_status(EngineStatus.STOPPED)
    (delta,) = await turn.next(timeout_s=1.0)
    assert delta.finish_reason is FinishReason.END_TURN


async def test_an_engine_that_ended_without_a_word_is_an_error() -> None:
    engine = WordEngine()
    turn = turn_on(engine, DeltaBridge(asyncio.get_running_loop()))
    engine.set_status(EngineStatus.FAILED, "out of memory")
    with pytest.raises(EngineFailedError, match="out of memory"):
        await turn.next(timeout_s=1.0)


async def test_a_wait_ends_when_its_time_is_over() -> None:
    turn = turn_on(WordEngine(), DeltaBridge(asyncio.get_running_loop()))
    async with asyncio.timeout(1.0):
        assert await turn.next(timeout_s=0.01) == []
