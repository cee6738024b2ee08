"""One agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from engine.snapshot.miss import MissRow


class AgentStatus(StrEnum):
    """What one agent is doing."""

    QUEUED = "queued"
    RESTORING = "restoring"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    TOOL_WAIT = "tool-wait"
    """Its last reply called tools, and what they gave has not come; its cache is in memory."""
    IDLE = "idle"
    WARM = "warm"
    """Its cache is on disk only."""
    COLD = "cold"
    """Its cache is gone and would have to be recomputed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTimes:
    """Where the time of one turn went.

    Attributes:
        queue_s: Waiting for its place.
        restore_s: Waiting for the disk to read what it has of the prompt.
        prefill_s: From its place to its first token; other turns' steps are part of it.
        decode_s: From its first token to its last.
    """

    queue_s: float = 0.0
    restore_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    @property
    def total_s(self) -> float:
        """The whole turn."""
        return self.queue_s + self.restore_s + self.prefill_s + self.decode_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRow:
    """One turn of an agent's history.

    Attributes:
        number: Counts the agent's turns from 1.
        num_prompt_tokens: Its prompt.
        num_context_tokens: The agent's context at its end.
        num_cached_tokens: Prompt tokens that came from the cache.
        ttft_s: Time to first token; None if it never came.
        ended_time: When it ended, wall-clock seconds since the epoch.
        miss: Why tokens were recomputed; empty when none were.
        resumable: Whether its end is in memory or on disk, so that a fork can start there.
        times: Where its time went.
    """

    number: int
    num_prompt_tokens: int = 0
    num_context_tokens: int = 0
    num_cached_tokens: int = 0
    ttft_s: float | None = None
    ended_time: float = 0.0
    miss: str = ""
    resumable: bool = False
    times: TurnTimes = field(default_factory=TurnTimes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """One agent.

    Attributes:
        agent_id: The id the client sent, or the name given here.
        namespace: Whose agent it is, by the name of an API key; empty for the simple key's.
        protocol: ``anthropic``, ``openai`` or ``local``.
        status: What it is doing.
        pinned: Whether its cache is kept from eviction.
        paused: Whether no turn of it goes on until a person resumes it; one in progress is
            ``queued`` meanwhile.
        priority: How far its turns go ahead of others', in steps; 0 is the usual one.
        num_context_tokens: Tokens of its context, so far.
        max_context_tokens: The model's limit.
        num_cached_tokens: Prompt tokens of the last turn that came from the cache.
        num_restored_tokens: Those of them that were read from disk.
        num_prompt_tokens: Prompt tokens of the last turn.
        num_generated_tokens: Tokens generated in the last turn, so far.
        num_turns: Turns so far.
        hot_bytes: Bytes of its KV in RAM, shared ones included.
        warm_bytes: Bytes of its KV on disk.
        shared_bytes: Those of ``hot_bytes`` that other agents hold too.
        decode_tok_s: Its own rate now; 0 unless decoding.
        prefill_progress: Share of its prompt that is done, 0-1; 1 unless prefilling.
        eta_s: Estimated seconds until the first token while prefilling, or until everything is
            read while restoring; None otherwise, and before a rate was measured.
        ttft_s: Time to first token of the last turn; None before the first.
        wait_s: Seconds in the queue, while queued.
        idle_s: Seconds since its last turn ended, while idle.
        num_restoring_tokens: Tokens being read from disk now; 0 unless restoring.
        miss: Where the last prompt's tokens came from, and why known ones were lost.
        turns: Its last turns, oldest first; no more than a screen shows.
        times: Where the time of its turn in progress went so far; nothing between turns.
    """

    agent_id: str
    namespace: str = ""
    protocol: str = "local"
    status: AgentStatus = AgentStatus.IDLE
    pinned: bool = False
    paused: bool = False
    priority: int = 0
    num_context_tokens: int = 0
    max_context_tokens: int = 0
    num_cached_tokens: int = 0
    num_restored_tokens: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_turns: int = 0
    hot_bytes: int = 0
    warm_bytes: int = 0
    shared_bytes: int = 0
    decode_tok_s: float = 0.0
    prefill_progress: float = 1.0
    eta_s: float | None = None
    ttft_s: float | None = None
    wait_s: float = 0.0
    idle_s: float = 0.0
    num_restoring_tokens: int = 0
    miss: MissRow = field(default_factory=MissRow)
    turns: tuple[TurnRow, ...] = ()
    times: TurnTimes = field(default_factory=TurnTimes)

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all other agents: the same id may be there under several keys."""
        return self.namespace, self.agent_id

    @property
    def title(self) -> str:
        """Its name for people, with whose it is where that is not the simple key's."""
        return f"{self.namespace}: {self.agent_id}" if self.namespace else self.agent_id

    @property
    def hit_ratio(self) -> float | None:
        """Share of the last turn's prompt that came from the cache, 0-1; None before one."""
        return self.num_cached_tokens / self.num_prompt_tokens if self.num_prompt_tokens else None
