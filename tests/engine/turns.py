"""Turns for tests: submit, collect, compare."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from engine.cache.block import BLOCK_TOKENS, KVBlock, chain_hashes
from engine.commands import Generate
from engine.constraint import Constraint
from engine.core import EngineCore
from engine.request import Delta, FinishReason, PromptPart, Request, SamplingParams

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
    parts: tuple[PromptPart, ...] = (),
    namespace: str = "",
    constraint: Constraint | None = None,
    is_short_lived: bool = False,
    **sampling: Any,
) -> Turn:
    """Queues a turn."""
    turn = Turn(tuple(prompt), f"r{next(_numbers)}")
    core.submit(
        Generate(
            request=Request(
                request_id=turn.request_id,
                agent_id=agent_id,
                prompt_token_ids=turn.prompt,
                sampling=SamplingParams(max_tokens=max_tokens, stop=stop, **sampling),
                parts=parts,
                namespace=namespace,
                constraint=constraint,
                is_short_lived=is_short_lived,
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
    """Verifies the pool, and that every block's content is what its tokens were made into."""
    check_pool(core)
    for block in core.pool:
        if block.payload is not None:
            assert rows_of(block.payload) == block.token_ids


def check_pool(core: EngineCore) -> None:
    """Verifies the pool's invariants, and that every table holds the tokens it should."""
    tables = [agent.block_table for agent in core.agents]
    tables += [standing.working_blocks for standing in core.agents.standing]
    for sequence in core.scheduler:
        tables += [sequence.block_table, sequence.working_blocks, sequence.restored]
    core.pool.check_integrity(tables)
    for agent in core.agents:
        held = _tokens(agent.block_table)
        # The last block of a fork may hold more than the fork starts with.
        assert held[: len(agent.token_ids)] == list(agent.token_ids)
        assert len(held) - len(agent.token_ids) < BLOCK_TOKENS
        root = core.root_of(agent.namespace)
        names = chain_hashes(root, [t for b in agent.block_table for t in b.token_ids])
        assert [b.block_hash for b in agent.block_table[: len(names)]] == names
    for sequence in core.scheduler:
        held = _tokens(sequence.block_table)
        assert held == sequence.token_ids[: len(held)]


def rows_of(payload: Any) -> tuple[int, ...]:
    """The tokens that a block of one of the counting models was made of."""
    rows = payload[0] if payload and isinstance(payload[0], tuple) else payload
    return tuple(rows)


def _tokens(table: list[KVBlock]) -> list[int]:
    return [token for block in table for token in block.token_ids]
