"""A sequence: one turn on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.cache.agents import Agent
from engine.cache.block import BLOCK_TOKENS, KVBlock, blocks_for
from engine.output import Output
from engine.request import DeltaSink, Request, Usage


class SequenceStatus(StrEnum):
    """Where a sequence is."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """One turn: its tokens, its place in the cache, and its clock.

    Attributes:
        request: What was asked for.
        sink: Where deltas go.
        agent: Whose turn it is.
        arrival_s: When it was queued, monotonic seconds.
        output: Its text as it grows.
        sampler: Chooses its tokens.
        token_ids: Prompt, then generated tokens.
        hashes: Hashes of the full blocks of ``token_ids`` as far as known.
        status: Where it is.
        num_computed_tokens: Tokens whose KV is in the sequence's own cache.
        num_cached_tokens: Prompt tokens that came from the pool.
        num_restored_tokens: Prompt tokens that were read from disk for it.
        restored: Blocks read ahead from the beginning on, held until it is admitted.
        is_restoring: Whether such a read is under way; it is not admitted meanwhile.
        block_table: Sealed blocks of its beginning, held by the sequence.
        working_blocks: Unsealed blocks that pay for its own cache.
        caches: Its own cache, one object per layer; None until it is admitted.
        started_s: When its first prefill slice began.
        first_token_s: When its first token came.
        last_miss: Why it recomputes tokens its agent had; empty when it does not.
    """

    request: Request
    sink: DeltaSink
    agent: Agent
    arrival_s: float
    output: Output
    sampler: Any
    token_ids: list[int]
    hashes: list[bytes] = field(default_factory=list)
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_restored_tokens: int = 0
    restored: list[KVBlock] = field(default_factory=list)
    is_restoring: bool = False
    block_table: list[KVBlock] = field(default_factory=list)
    working_blocks: list[KVBlock] = field(default_factory=list)
    caches: Any = None
    started_s: float | None = None
    first_token_s: float | None = None
    last_miss: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, however."""
        return self.status is SequenceStatus.FINISHED

    @property
    def ttft_s(self) -> float | None:
        """Seconds from arrival to the first token; None before it."""
        return None if self.first_token_s is None else self.first_token_s - self.arrival_s

    @property
    def usage(self) -> Usage:
        """Counts and times so far."""
        num_in_blocks = self.num_prompt_tokens // BLOCK_TOKENS * BLOCK_TOKENS if self.hashes else 0
        started_s = self.started_s if self.started_s is not None else self.arrival_s
        return Usage(
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
            num_stored_tokens=max(0, num_in_blocks - self.num_cached_tokens),
            num_generated_tokens=self.output.num_tokens,
            queue_s=started_s - self.arrival_s,
            ttft_s=self.ttft_s,
        )

    @property
    def num_prompt_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.request.prompt_token_ids)

    @property
    def num_generated_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_remaining_tokens(self) -> int:
        """Tokens still to prefill before the next token can be sampled."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def num_missing_blocks(self) -> int:
        """Working blocks it needs for the tokens it has now, and has not."""
        return max(0, blocks_for(len(self.token_ids)) - len(self.working_blocks))
