"""A sequence: one turn on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.cache.agent import Agent
from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash, chain_hashes
from engine.cache.checkpoint import Place
from engine.cache.earlier_context import EarlierContext
from engine.cache.turn_history import TurnMark
from engine.output import Output
from engine.request import DeltaSink, Request, Usage
from engine.snapshot import MissRow
from engine.turn_limits import HEAD_START_S
from engine.turn_timer import TurnTimer


class SequenceStatus(StrEnum):
    """Where a sequence is."""

    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Suspects:
    """What may have spoilt a sequence.

    Attributes:
        names: Blocks that its cache was, or may have been, restored from.
        is_proven: Whether the first of them is spoilt for certain, and so whatever follows it.
    """

    names: tuple[bytes, ...] = ()
    is_proven: bool = False


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
        root_hash: Parent of its first block.
        hashes: Hashes of the full blocks of ``token_ids`` as far as known.
        places: Where in its prompt a checkpoint may be, the last place first; empty for models
            that need none.
        places_known_for: What ``places`` were found for: turns of its agent, and its own length.
        preempted_at: Tokens it had computed when it last had to make room; 0 if it never had to.
        num_kept_tokens: Tokens whose KV became its agent's at its end.
        has_checkpoint: Whether a checkpoint was made at its end.
        stops: Where in its prompt it makes checkpoints, as tokens before them, ascending.
        status: Where it is.
        num_computed_tokens: Tokens whose KV is in the sequence's own cache.
        num_cached_tokens: Prompt tokens that came from the pool.
        num_restored_tokens: Prompt tokens that were read from disk for it.
        restored: Blocks read ahead from the beginning on, held until it is admitted.
        num_reads: Reads that were begun for it.
        is_restoring: Whether such a read is under way; it is not admitted meanwhile.
        block_table: Sealed blocks of its beginning, held by the sequence.
        working_blocks: Unsealed blocks that pay for its own cache.
        caches: Its own cache, one object per layer; None until it is admitted.
        has_reused: Whether anything in its cache came from the pool.
        lacked_memory: Whether there was no memory to restore it when it was admitted.
        num_judged_before: How many spoilt caches had been found out when it was admitted.
        suspects: What may have spoilt it; None unless it is being computed again for that.
        shared_names: Blocks and checkpoints that it has computed and shared.
        was_cleared_for: Whether all that could go was given up for it.
        num_shortages: Steps of it that broke off because the device found no memory.
        started_s: When its first prefill slice began.
        first_token_s: When its first token came.
        earlier: Its agent's context of before, held against the prompt when it was admitted.
        miss: Where its prompt's tokens came from, and why known ones were lost.
        timer: Where its time goes.
        turn_number: Counts the turns of its agent; 0 until it has ended.
    """

    request: Request
    sink: DeltaSink
    agent: Agent
    arrival_s: float
    output: Output
    sampler: Any
    token_ids: list[int]
    root_hash: bytes = b""
    hashes: list[bytes] = field(default_factory=list)
    places: tuple[Place, ...] = ()
    places_known_for: tuple[int, int] | None = None
    preempted_at: int = 0
    num_kept_tokens: int = 0
    has_checkpoint: bool = False
    stops: tuple[int, ...] = ()
    status: SequenceStatus = SequenceStatus.WAITING
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_restored_tokens: int = 0
    restored: list[KVBlock] = field(default_factory=list)
    num_reads: int = 0
    is_restoring: bool = False
    block_table: list[KVBlock] = field(default_factory=list)
    working_blocks: list[KVBlock] = field(default_factory=list)
    caches: Any = None
    has_reused: bool = False
    lacked_memory: bool = False
    num_judged_before: int = 0
    suspects: Suspects | None = None
    shared_names: list[bytes] = field(default_factory=list)
    was_cleared_for: bool = False
    num_shortages: int = 0
    started_s: float | None = None
    first_token_s: float | None = None
    earlier: EarlierContext = field(default_factory=EarlierContext)
    miss: MissRow = field(default_factory=MissRow)
    turn_number: int = 0
    timer: TurnTimer = field(init=False)

    def __post_init__(self) -> None:
        """Its time begins when it arrives."""
        self.timer = TurnTimer(self.arrival_s)

    @property
    def avoids_cache(self) -> bool:
        """Whether it takes nothing from the pool and gives nothing to it."""
        return self.suspects is not None

    @property
    def due_s(self) -> float:
        """When it would have been queued if its priority were time waited, monotonic seconds."""
        return self.arrival_s - HEAD_START_S * self.agent.priority

    @property
    def deadline_s(self) -> float | None:
        """When nobody wants its answer any more, monotonic seconds; None for never."""
        limit_s = self.request.time_limit_s
        return None if limit_s is None else self.arrival_s + limit_s

    @property
    def is_ready(self) -> bool:
        """Whether it may be admitted: nothing is read for it, and its agent is not paused."""
        return not self.is_restoring and not self.agent.paused

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
            miss=self.miss,
            turn_number=self.turn_number,
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

    def know_hashes(self, num_tokens: int) -> None:
        """Makes the hashes of the full blocks of its first tokens known."""
        num_known = len(self.hashes)
        parent = self.hashes[-1] if self.hashes else self.root_hash
        rest = self.token_ids[num_known * BLOCK_TOKENS : num_tokens]
        self.hashes += chain_hashes(parent, rest)

    def parent_hash(self, num_blocks: int) -> bytes:
        """The hash of the block before the one of that index."""
        return self.hashes[num_blocks - 1] if num_blocks else self.root_hash

    def mark(self, ended_time: float, now_s: float) -> TurnMark:
        """What the turn was like, and where it ended.

        Args:
            ended_time: Wall-clock seconds since the epoch.
            now_s: The same moment in monotonic seconds.
        """
        num_full = self.num_kept_tokens // BLOCK_TOKENS
        last_hash = self.parent_hash(num_full)
        rest = self.token_ids[num_full * BLOCK_TOKENS : self.num_kept_tokens]
        return TurnMark(
            number=self.agent.history.next_number,
            num_prompt_tokens=self.num_prompt_tokens,
            num_tokens=self.num_kept_tokens,
            num_cached_tokens=self.num_cached_tokens,
            ttft_s=self.ttft_s,
            ended_time=ended_time,
            miss=self.miss.words if self.miss.num_lost_tokens else "",
            last_hash=last_hash,
            end_hash=block_hash(last_hash, rest),
            has_checkpoint=self.has_checkpoint,
            prompt_places=tuple(p for p in self.places if p.num_tokens in self.stops),
            times=self.timer.times(now_s),
        )
