"""Turns for tests: submit, collect, compare."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from engine.cache.block import KVBlock
from engine.commands import Generate
from engine.core import EngineCore
from engine.request import Delta, FinishReason, Request, SamplingParams

_numbers = itertools.count()


@dataclass
class Turn:
    """A submitted turn and what came of it."""

    prompt: tuple[int, ...]
    request_id: str
    deltas: list[Delta] = field(default_factory=list)

    @property
    def token_ids(self) -> list[int]:
        return [token for delta in self.deltas for token in delta.token_ids]

    @property
    def finish_reason(self) -> FinishReason | None:
        return self.deltas[-1].finish_reason if self.deltas else None

    @property
    def num_cached_tokens(self) -> int:
        return self.deltas[-1].usage.num_cached_tokens


def submit(
    core: EngineCore,
    agent_id: str | None,
    prompt: list[int] | tuple[int, ...],
    max_tokens: int = 8,
    stop: tuple[str, ...] = (),
) -> Turn:
    """Queues a turn."""
    turn = Turn(tuple(prompt), f"r{next(_numbers)}")
    core.submit(
        Generate(
            request=Request(
                request_id=turn.request_id,
                agent_id=agent_id,
                prompt_token_ids=turn.prompt,
                sampling=SamplingParams(max_tokens=max_tokens, stop=stop),
            ),
            sink=turn.deltas.append,
        )
    )
    return turn


def run(core: EngineCore, max_steps: int = 10_000) -> None:
    """Steps until nothing is left to do."""
    for _ in range(max_steps):
        if not core.scheduler.has_work:
            return
        core.step()
    raise AssertionError("the engine did not come to an end")


def check(core: EngineCore) -> None:
    """Verifies the pool's invariants, and that every table holds the tokens it should."""
    tables = [agent.block_table for agent in core.agents]
    for sequence in core.scheduler:
        tables += [sequence.block_table, sequence.working_blocks, sequence.restored]
    core.pool.check_integrity(tables)
    for agent in core.agents:
        assert _tokens(agent.block_table) == list(agent.token_ids)
    for sequence in core.scheduler:
        held = _tokens(sequence.block_table)
        assert held == sequence.token_ids[: len(held)]


def _tokens(table: list[KVBlock]) -> list[int]:
    return [token for block in table for token in block.token_ids]
