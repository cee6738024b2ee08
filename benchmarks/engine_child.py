"""An engine without API or dashboard, for benchmarks that compare settings.

Usage: ``python -m benchmarks.engine_child SETTINGS HOME``, where SETTINGS is a JSON object of
settings by name. A question has ``turns`` (agent and prompt of each, run together), ``num_tokens``
and ``num_prompt_tokens``, to which prompts are cut; 0 leaves them whole.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Callable
from typing import Any

from app.compose import build_engine
from app.config import load_settings
from app.paths import HOME_VARIABLE, find_paths
from benchmarks.chat_client import Stream
from benchmarks.child import answer_questions
from engine.commands import Generate, Shutdown
from engine.engine import Engine
from engine.messages import Message, Role
from engine.request import Delta, Request, SamplingParams
from engine.snapshot import EngineSnapshot

LIMIT_S = 600.0
PUBLISH_S = 0.15


def started_engine(settings: dict[str, object], home: str) -> Engine:
    """An engine that serves.

    Raises:
        RuntimeError: It failed.
    """
    engine = build_engine(load_settings(settings), find_paths({HOME_VARIABLE: home}))
    engine.start()
    while engine.chat_format is None:
        if engine.join(0.05):
            raise RuntimeError(engine.snapshot.status_text)
    return engine


def run_together(
    engine: Engine, turns: list[tuple[str, str]], num_tokens: int, num_prompt_tokens: int = 0
) -> list[Stream]:
    """Runs turns at the same time.

    Args:
        engine: Where.
        turns: Agent and prompt of each.
        num_tokens: Tokens to generate, at most.
        num_prompt_tokens: Tokens that each prompt is cut to; 0 leaves them whole.

    Returns:
        What came of each and when, as an HTTP client would see it.
    """
    chat = engine.chat_format
    assert chat is not None
    streams: list[Stream] = []
    ended: queue.SimpleQueue[Delta] = queue.SimpleQueue()
    for number, (agent, prompt) in enumerate(turns):
        token_ids = chat.render_chat([Message(role=Role.USER, text=prompt)]).token_ids
        stream = Stream(sent_s=time.monotonic())
        streams.append(stream)
        request = Request(
            request_id=f"{agent}-{number}",
            agent_id=agent,
            prompt_token_ids=token_ids[: num_prompt_tokens or None],
            sampling=SamplingParams(max_tokens=num_tokens),
        )
        engine.send(Generate(request=request, sink=_timing_sink(stream, ended)))
    for _ in streams:
        last = ended.get(timeout=LIMIT_S)
        if last.error is not None:
            raise last.error
    return streams


def _timing_sink(stream: Stream, ended: queue.SimpleQueue[Delta]) -> Callable[[Delta], None]:
    def sink(delta: Delta) -> None:
        if delta.text or (delta.finish_reason is not None and not stream.pieces_s):
            stream.pieces_s.append(time.monotonic())
        stream.num_tokens += len(delta.token_ids)
        stream.text += delta.text
        if delta.finish_reason is not None:
            ended.put(delta)

    return sink


def settled(engine: Engine) -> EngineSnapshot:
    """A snapshot in which nothing waits to be written any more."""
    time.sleep(PUBLISH_S)
    deadline_s = time.monotonic() + LIMIT_S
    while engine.snapshot.disk.num_pending:
        if time.monotonic() > deadline_s:
            raise TimeoutError("the disk did not take the cache")
        time.sleep(PUBLISH_S)
    return engine.snapshot


def main() -> None:
    """Answers questions until its input ends."""
    engine = started_engine(json.loads(sys.argv[1]), sys.argv[2])

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        turns = [(agent, prompt) for agent, prompt in question.pop("turns")]
        streams = run_together(engine, turns, **question)
        snapshot = settled(engine)
        model = snapshot.model_detail
        return {
            "sent_s": [stream.sent_s for stream in streams],
            "pieces_s": [stream.pieces_s for stream in streams],
            "texts": [stream.text for stream in streams],
            "hot_agents": [row.agent_id for row in snapshot.agents if row.hot_bytes],
            "num_disk_blocks": snapshot.disk.num_blocks,
            "num_pool_blocks": snapshot.pool.num_total_blocks,
            "dtype": model.dtype if model else "",
            "kv_bytes_per_token": snapshot.pool.block_bytes // snapshot.pool.block_tokens,
        }

    try:
        answer_questions(answer)
    finally:
        engine.send(Shutdown(drain_s=0.0))
        engine.join(LIMIT_S)


if __name__ == "__main__":
    main()
