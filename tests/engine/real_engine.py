"""A real engine on the bundled model, and turns as a client would have them."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.agent_commands import EvictAgent
from engine.cache.quantisation import KVQuantisation
from engine.commands import Abort, Generate, Shutdown
from engine.constraint import Constraint
from engine.engine import Engine
from engine.messages import Message, Role, ToolSpec
from engine.models.catalog import find_model
from engine.request import Delta, FinishReason, Request, SamplingParams, TokenLogprob
from engine.scheduler import SchedulerLimits
from engine.settings import DiskSettings, EngineSettings, ModelShelf
from engine.snapshot import AgentRow

TIMEOUT_S = 120.0
_numbers = itertools.count()


def make_engine(
    models_dir: Path,
    cache_dir: Path,
    kv_budget_bytes: int = 0,
    disk: DiskSettings | None = None,
    quantisation: KVQuantisation | None = None,
    shelf: ModelShelf | None = None,
    model: str = "bundled",
) -> Engine:
    """An engine on the bundled model, or another one, started and serving."""
    engine = Engine(
        EngineSettings(
            find_model=lambda progress: find_model(model, models_dir, progress),
            shelf=shelf,
            cache_dir=cache_dir,
            kv_budget_bytes=kv_budget_bytes,
            disk=disk,
            quantisation=quantisation,
            limits=SchedulerLimits(),
        )
    )
    engine.start()
    deadline_s = time.monotonic() + TIMEOUT_S
    while engine.chat_format is None:
        assert engine.snapshot.status != "failed", engine.snapshot.status_text
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return engine


@dataclass
class Answer:
    """What came of a turn."""

    text: str
    token_ids: list[int]
    last: Delta
    logprobs: list[TokenLogprob]

    @property
    def num_cached_tokens(self) -> int:
        return self.last.usage.num_cached_tokens


class RunningTurn:
    """A turn that was submitted to a real engine."""

    def __init__(
        self,
        engine: Engine,
        agent_id: str | None,
        prompt: str,
        *,
        tools: Sequence[ToolSpec] = (),
        constraint: Constraint | None = None,
        **sampling: Any,
    ):
        self._engine = engine
        self._deltas: queue.SimpleQueue[Delta] = queue.SimpleQueue()
        chat = engine.chat_format
        assert chat is not None
        rendered = chat.render_chat([Message(role=Role.USER, text=prompt)], tools)
        self.request_id = f"turn-{next(_numbers)}"
        command = Generate(
            request=Request(
                request_id=self.request_id,
                agent_id=agent_id,
                prompt_token_ids=rendered.token_ids,
                parts=rendered.parts,
                fingerprint=chat.fingerprint,
                sampling=SamplingParams(**{"max_tokens": 24, **sampling}),
                constraint=constraint,
            ),
            sink=self._deltas.put,
        )
        engine.send(command)
        self.agent_id = command.admitted.result(TIMEOUT_S)

    def abort(self) -> None:
        self._engine.send(Abort(request_id=self.request_id))

    def next_delta(self) -> Delta:
        return self._deltas.get(timeout=TIMEOUT_S)

    def answer(self) -> Answer:
        text = ""
        token_ids: list[int] = []
        logprobs: list[TokenLogprob] = []
        while True:
            delta = self.next_delta()
            text += delta.text
            token_ids += delta.token_ids
            logprobs += delta.logprobs
            if delta.finish_reason is not None:
                return Answer(text, token_ids, delta, logprobs)


def ask(engine: Engine, agent_id: str | None, prompt: str, **options: Any) -> Answer:
    """One turn from beginning to end."""
    return RunningTurn(engine, agent_id, prompt, **options).answer()


def ask_together(engine: Engine, turns: dict[str, str], **options: Any) -> dict[str, Answer]:
    """Several turns at once, each by an agent of its own."""
    answers: dict[str, Answer] = {}

    def run(agent_id: str, prompt: str) -> None:
        answers[agent_id] = ask(engine, agent_id, prompt, **options)

    threads = [threading.Thread(target=run, args=turn) for turn in turns.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert set(answers) == set(turns)
    return answers


def is_ended(answer: Answer) -> bool:
    """Whether a turn ended by itself."""
    return answer.last.finish_reason in (FinishReason.END_TURN, FinishReason.MAX_TOKENS)


@contextmanager
def running_engine(
    models_dir: Path,
    home: Path | None = None,
    kv_budget_bytes: int = 0,
    quantisation: KVQuantisation | None = None,
) -> Iterator[Engine]:
    """An engine with a warm tier where there is a home for it, ended in good order."""
    disk = DiskSettings(folder=home, budget_bytes=1 << 32) if home else None
    engine = make_engine(models_dir, models_dir / "cache", kv_budget_bytes, disk, quantisation)
    try:
        yield engine
    finally:
        engine.send(Shutdown(drain_s=0.0))
        assert engine.join(TIMEOUT_S)


def evict(engine: Engine, agent_id: str) -> int:
    """Evicts an agent; returns the bytes freed."""
    command = EvictAgent(agent_id=agent_id)
    engine.send(command)
    return command.done.result(TIMEOUT_S).freed_bytes


def await_saved(engine: Engine) -> None:
    """Waits until the disk has everything of every agent."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while engine.snapshot.disk.num_pending or not all(map(_is_saved, engine.snapshot.agents)):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _is_saved(row: AgentRow) -> bool:
    return 0 < row.hot_bytes <= row.warm_bytes
