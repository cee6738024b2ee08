from __future__ import annotations

import asyncio
from typing import Any

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
from tests.api.byte_chat_format import ByteChatFormat
from tests.api.conftest import Served
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


TOOL = {"name": "look", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("fields", "is_quick"),
    [
        ({}, True),
        ({"tools": [TOOL]}, False),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, False),
        ({"system": "x" * 2048}, False),
    ],
)
def test_only_what_is_read_at_once_is_read_on_the_loop(
    served: Served, fields: dict[str, Any], is_quick: bool
) -> None:
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}
    assert served.http.post("/v1/messages", json=body).status_code == 200
    assert isinstance(served.engine.chat_format, ByteChatFormat)
    (thread,) = served.engine.chat_format.threads
    assert (thread == "stoker-api") == is_quick


def test_a_short_request_that_goes_on_from_a_long_response_is_read_elsewhere(
    served: Served,
) -> None:
    first = served.http.post("/v1/responses", json={"input": "x" * 3000}).json()
    body = {"input": "y", "previous_response_id": first["id"]}
    assert served.http.post("/v1/responses", json=body).status_code == 200
    assert isinstance(served.engine.chat_format, ByteChatFormat)
    assert "stoker-api" not in served.engine.chat_format.threads
