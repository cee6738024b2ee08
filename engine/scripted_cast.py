"""Who plays in the demo: a model, a device, and agents with their habits."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from engine.errors import InvalidRequestError
from engine.request import check_agent_id
from engine.snapshot import AgentStatus, DeviceRow, MissRow, ModelRow, TurnRow
from engine.turn_limits import HEAD_START_S

ACTIVE = (
    AgentStatus.QUEUED,
    AgentStatus.RESTORING,
    AgentStatus.PREFILLING,
    AgentStatus.DECODING,
)
RUNNING = (AgentStatus.PREFILLING, AgentStatus.DECODING)
BLOCK_TOKENS = 256
BYTES_PER_TOKEN = 46_080
BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN
MAX_CONTEXT_TOKENS = 8192

MODEL = ModelRow(
    model_id="SmolLM2-135M-Instruct",
    path="models/SmolLM2-135M-Instruct",
    architecture="llama",
    num_parameters=134_515_008,
    weight_bytes=538_060_032,
    max_context_tokens=MAX_CONTEXT_TOKENS,
    kv_bytes_per_token=BYTES_PER_TOKEN,
    dtype="float32",
    load_s=3.4,
)
DEVICE = DeviceRow(
    name="cpu",
    description="2-core x86-64, AVX-512",
    fast_paths=(
        "native kernels for linear layers, attention and activations, 2 threads",
        "linear layers, attention and SwiGLU on host memory",
        "30 of 30 layers run whole on host memory",
        "decode reads 4 and 8-bit weights as such (98 MB)",
    ),
    memory_used_bytes=3_900_000_000,
    memory_active_bytes=610_000_000,
    memory_limit_bytes=17_200_000_000,
)
LOAD_PARTS = (
    (0.10, "checking 3 files of SmolLM2-135M-Instruct"),
    (0.55, "reading weights"),
    (0.80, "self-test: two sequences together and apart"),
    (1.00, "self-test: restored and recomputed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """How one agent of the script behaves.

    Attributes:
        agent_id: Its id.
        protocol: The dialect it speaks.
        prefix: Agents with the same name share their first blocks (tools and system prompt).
        prefix_blocks: How many blocks that is.
        arrives_s: When its first turn starts.
        opening_tokens: Prompt tokens of the first turn beyond the prefix.
        growth_tokens: Range of new prompt tokens per turn.
        reply_tokens: Range of generated tokens per turn.
        rest_s: Range of seconds between turns.
        pinned: Whether it starts pinned.
        rewrites: Every how many turns it changes an early part of its prompt; 0 never does.
        stored_tokens: Tokens of its context that an earlier run left on disk.
        away_s: Seconds since its last turn when it arrives, if it was here before.
    """

    agent_id: str
    protocol: str = "anthropic"
    prefix: str = ""
    prefix_blocks: int = 0
    arrives_s: float = 0.0
    opening_tokens: int = 600
    growth_tokens: tuple[int, int] = (80, 420)
    reply_tokens: tuple[int, int] = (40, 160)
    rest_s: tuple[float, float] = (4.0, 16.0)
    pinned: bool = False
    rewrites: int = 0
    stored_tokens: int = 0
    away_s: float = 0.0


CAST = (
    Role(
        agent_id="claude repo-a",
        prefix="claude",
        prefix_blocks=9,
        arrives_s=5.0,
        opening_tokens=1900,
        rest_s=(2.0, 6.0),
    ),
    Role(
        agent_id="claude repo-a/2",
        prefix="claude",
        prefix_blocks=9,
        arrives_s=11.0,
        opening_tokens=400,
        rewrites=3,
    ),
    Role(
        agent_id="codex 7f31",
        protocol="openai",
        arrives_s=7.0,
        opening_tokens=1100,
        rest_s=(3.0, 9.0),
    ),
    Role(
        agent_id="opencode web",
        protocol="openai",
        prefix="opencode",
        prefix_blocks=5,
        arrives_s=9.0,
        opening_tokens=700,
    ),
    Role(
        agent_id="review-bot",
        protocol="openai",
        prefix="claude",
        prefix_blocks=9,
        arrives_s=14.0,
        opening_tokens=3600,
        rest_s=(30.0, 60.0),
        pinned=True,
    ),
    Role(
        agent_id="nightly",
        arrives_s=4.0,
        growth_tokens=(200, 500),
        rest_s=(40.0, 90.0),
        stored_tokens=5420,
        away_s=7260.0,
    ),
    Role(
        agent_id="claude docs",
        prefix="claude",
        prefix_blocks=9,
        arrives_s=20.0,
        opening_tokens=900,
        rest_s=(8.0, 24.0),
        rewrites=4,
    ),
)


LONGEST_TOOL_S = 6.0
"""An agent of the script that is back sooner has been using a tool."""


@dataclass(slots=True)
class Actor:
    """One agent in motion; counts in tokens, times in seconds of the scene.

    ``num_stored_blocks`` are the blocks that were on disk when its cache left memory; ``held`` is
    what its turn goes on with after a pause; ``is_foreign`` says that its last turn was another
    model's.
    """

    role: Role
    next_turn_s: float
    status: AgentStatus = AgentStatus.COLD
    pinned: bool = False
    paused: bool = False
    is_foreign: bool = False
    priority: int = 0
    held: AgentStatus | None = None
    table: list[int] = field(default_factory=list)
    num_context: int = 0
    num_cached: int = 0
    num_restored: int = 0
    num_stored_blocks: int = 0
    num_prompt: int = 0
    num_generated: int = 0
    num_reply: int = 0
    num_turns: int = 0
    num_to_prefill: int = 0
    prefill_left: float = 0.0
    decoded: float = 0.0
    queued_at_s: float = 0.0
    begun_at_s: float = 0.0
    restore_s: float = 0.0
    restored_at_s: float = 0.0
    ended_at_s: float = 0.0
    ttft_s: float | None = None
    miss: MissRow = field(default_factory=MissRow)
    turns: list[TurnRow] = field(default_factory=list)

    @property
    def due_s(self) -> float:
        """When it would have been queued if its priority were time waited."""
        return self.queued_at_s - HEAD_START_S * self.priority

    @property
    def awaits_tools(self) -> bool:
        """Whether its last reply called a tool: tools answer soon, people take their time."""
        is_over = self.status not in ACTIVE and self.num_turns > 0 and not self.is_foreign
        is_whole = self.num_generated >= self.num_reply
        return is_over and is_whole and 0 < self.next_turn_s - self.ended_at_s <= LONGEST_TOOL_S

    @property
    def num_restorable(self) -> int:
        """Tokens of its context that its blocks in memory hold."""
        return min(self.num_context, len(self.table) * BLOCK_TOKENS)


def check_free(name: str, taken: Collection[str]) -> str:
    """A name that a new agent may have.

    Raises:
        InvalidRequestError: It is taken or not allowed.
    """
    check_agent_id(name)
    if name in taken:
        raise InvalidRequestError(f"there is an agent {name!r} already; choose another name")
    return name


def fork_name(agent_id: str, fork_id: str | None, taken: Collection[str]) -> str:
    """The name of a new agent that starts from another's cache.

    Raises:
        InvalidRequestError: The name that is asked for is taken or not allowed.
    """
    names = (f"{agent_id}-fork-{number}" for number in itertools.count(1))
    name = fork_id if fork_id is not None else next(name for name in names if name not in taken)
    return check_free(name, taken)


def turn_at(agent_id: str, turns: Sequence[TurnRow], number: int) -> TurnRow:
    """One of an agent's turns, to go back to its end.

    Raises:
        InvalidRequestError: It cannot be had; the message names those that can.
    """
    there = [turn for turn in turns if turn.resumable]
    for turn in there:
        if turn.number == number:
            return turn
    numbers = ", ".join(str(turn.number) for turn in there) or "none"
    raise InvalidRequestError(
        f"the end of turn {number} of {agent_id!r} cannot be had; these can: {numbers}"
    )
