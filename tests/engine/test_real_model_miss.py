"""The real model's prompts explained: the part that changed, its price, and other tokenisations."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.commands import Generate, Shutdown
from engine.engine import Engine
from engine.messages import Message, RenderedPrompt, Role
from engine.request import Delta, Request, SamplingParams
from engine.settings import DiskSettings
from engine.snapshot import MissCause, MissRow
from tests.engine.real_engine import TIMEOUT_S, make_engine

FILLER = "The quick brown fox jumps over the lazy dog near the river bank at noon. "
_numbers = itertools.count()


@contextmanager
def running(models: Path, home: Path) -> Iterator[Engine]:
    engine = make_engine(
        models, models / "cache", disk=DiskSettings(folder=home, budget_bytes=1 << 32)
    )
    try:
        yield engine
    finally:
        engine.send(Shutdown(drain_s=0.0))
        assert engine.join(TIMEOUT_S)


def rendered(engine: Engine, system: str, *texts: str) -> RenderedPrompt:
    chat = engine.chat_format
    assert chat is not None
    roles = itertools.cycle((Role.USER, Role.ASSISTANT))
    messages = [Message(role=role, text=text) for role, text in zip(roles, texts, strict=False)]
    return chat.render_chat([Message(role=Role.SYSTEM, text=system), *messages])


def ask(engine: Engine, prompt: RenderedPrompt, token_ids: tuple[int, ...] = ()) -> MissRow:
    """A turn of one token; other token ids may stand for the prompt's."""
    deltas: queue.SimpleQueue[Delta] = queue.SimpleQueue()
    engine.send(
        Generate(
            request=Request(
                request_id=f"r{next(_numbers)}",
                agent_id="a",
                prompt_token_ids=token_ids or prompt.token_ids,
                parts=prompt.parts,
                sampling=SamplingParams(max_tokens=1),
            ),
            sink=deltas.put,
        )
    )
    while True:
        delta = deltas.get(timeout=TIMEOUT_S)
        if delta.finish_reason is not None:
            return delta.usage.miss


def respelt(engine: Engine, token_ids: tuple[int, ...], at_least: int) -> tuple[int, ...]:
    """The same text with one word in other tokens."""
    chat = engine.chat_format
    assert chat is not None
    (whole,) = chat.encode_text(" jumps")
    parts = [*chat.encode_text(" ju"), *chat.encode_text("mps")]
    index = token_ids.index(whole, at_least)
    return (*token_ids[:index], *parts, *token_ids[index + 1 :])


def test_the_part_that_changed_is_named_and_priced(
    bundled_models_dir: Path, tmp_path: Path
) -> None:
    with running(bundled_models_dir, tmp_path) as engine:
        question = FILLER * 20
        first = ask(engine, rendered(engine, f"Be brief. {FILLER * 8}", question))
        assert first.cause is MissCause.FIRST_TURN
        prompt = rendered(engine, f"Be brief. {FILLER * 8}Today is Monday.", question)
        miss = ask(engine, prompt)
        assert miss.cause is MissCause.CHANGED_TEXT
        assert miss.part == "system"
        system = {part.label: part.start_token for part in prompt.parts}
        assert miss.changed_token is not None
        assert system["system"] < miss.changed_token < system["message 1 (user)"]
        assert miss.num_hot_tokens == miss.changed_token
        # Nearly all of the question's tokens were known behind another system prompt.
        assert miss.num_lost_tokens > 300
        assert miss.lost_s is not None
        assert 0.001 < miss.lost_s / miss.num_lost_tokens * 1000 < 100


@pytest.mark.parametrize("restarts", [False, True], ids=["hot", "restarted"])
def test_another_tokenisation_is_told_from_another_text(
    bundled_models_dir: Path, tmp_path: Path, restarts: bool
) -> None:
    with running(bundled_models_dir, tmp_path) as engine:
        prompt = rendered(engine, "Be brief.", FILLER * 25)
        ask(engine, prompt)
        other = respelt(engine, prompt.token_ids, 300)
        if not restarts:
            check_respelt(ask(engine, prompt, other))
    if restarts:
        with running(bundled_models_dir, tmp_path) as engine:
            check_respelt(ask(engine, prompt, other))


def check_respelt(miss: MissRow) -> None:
    assert miss.cause is MissCause.TOKENISED_DIFFERENTLY
    assert miss.part == "message 1 (user)"
    assert miss.changed_token == miss.num_cached_tokens >= 300
    assert miss.num_lost_tokens > 50
