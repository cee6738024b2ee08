"""Agents: who holds which blocks, who goes first when room is needed, who is meant by a prompt."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.errors import AgentBusyError, AgentNotFoundError, InvalidRequestError
from engine.request import MAX_AGENT_ID_CHARS, check_agent_id


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTurn:
    """What an agent's last turn was like.

    Attributes:
        num_prompt_tokens: Its prompt.
        num_cached_tokens: The part that came from the cache.
        num_restored_tokens: The part of that which was read from disk.
        num_generated_tokens: What it generated.
        ttft_s: Time to first token; None if it never came.
        miss: Why tokens were recomputed.
    """

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_restored_tokens: int = 0
    num_generated_tokens: int = 0
    ttft_s: float | None = None
    miss: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTable:
    """An agent's cache as it is on disk.

    Attributes:
        block_hashes: Its blocks, in order; the last may be a tail.
        num_tokens: Tokens those blocks cover.
        tail_token_ids: Tokens of the tail; empty when all blocks are full.
    """

    block_hashes: tuple[bytes, ...]
    num_tokens: int
    tail_token_ids: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Agent:
    """A client's conversation identity and the cache of its last turn.

    Attributes:
        agent_id: Its name.
        named_here: Whether the name was made here, because the client sent none.
        protocol: How it talks to us; for display.
        pinned: Never evicted while True.
        block_table: Its blocks; all full and sealed but, possibly, the last (the tail).
        token_ids: The tokens those blocks cover.
        prompt_token_ids: Prompt of its last turn; empty when that was before a restart.
        prompt_digest: ``prompt_digest`` of it.
        num_last_prompt_tokens: Its length.
        saving: Its cache as it was last handed to the disk.
        saved: Its cache as the disk has acknowledged it; None before it has.
        num_active: Turns in progress, waiting or running.
        last_active_s: When its last turn ended, monotonic seconds.
        num_turns: Turns finished.
        last_turn: What the last one was like.
        num_evicted_tokens: Tokens of the cache that was taken away since its last turn.
    """

    agent_id: str
    named_here: bool = False
    protocol: str = "local"
    pinned: bool = False
    block_table: list[KVBlock] = field(default_factory=list)
    token_ids: tuple[int, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()
    prompt_digest: bytes = b""
    num_last_prompt_tokens: int = 0
    saving: SavedTable | None = None
    saved: SavedTable | None = None
    num_active: int = 0
    last_active_s: float = 0.0
    num_turns: int = 0
    last_turn: LastTurn = LastTurn()
    num_evicted_tokens: int = 0

    def remember_prompt(self, token_ids: tuple[int, ...]) -> None:
        """Notes the prompt of the turn that has just ended."""
        self.prompt_token_ids = token_ids
        self.prompt_digest = prompt_digest(token_ids)
        self.num_last_prompt_tokens = len(token_ids)

    @property
    def evictable(self) -> bool:
        """Whether its cache may be taken away now."""
        return not self.pinned and self.num_active == 0 and bool(self.block_table)


class AgentStore:
    """All agents, least recently active first."""

    def __init__(self, pool: BlockPool, max_agents: int = 10_000) -> None:
        """Makes an empty store.

        Args:
            pool: Where the agents' blocks live.
            max_agents: Beyond this, the oldest agents without blocks are forgotten.
        """
        self._pool = pool
        self._max_agents = max_agents
        self._agents: OrderedDict[str, Agent] = OrderedDict()
        self._num_named = 0
        self.num_evictions = 0

    def __iter__(self) -> Iterator[Agent]:
        """Agents, least recently active first."""
        return iter(self._agents.values())

    def __len__(self) -> int:
        """How many agents are known."""
        return len(self._agents)

    def get(self, agent_id: str) -> Agent:
        """The agent of that id.

        Raises:
            AgentNotFoundError: There is none.
        """
        try:
            return self._agents[agent_id]
        except KeyError:
            raise AgentNotFoundError(agent_id) from None

    def resolve(self, agent_id: str | None, prompt_token_ids: tuple[int, ...], hint: str) -> Agent:
        """The agent a turn belongs to, made if it is new.

        Args:
            agent_id: The id the client sent. None finds the idle agent, named here, whose last
                prompt is the longest prefix of this prompt, or names a new one.
            prompt_token_ids: The prompt.
            hint: Beginning of the name of a new agent.
        """
        if agent_id is None:
            agent = self._find_by_prompt(prompt_token_ids) or self._new_name(hint)
        else:
            agent = self._agents.get(agent_id) or self._add(Agent(agent_id))
        return agent

    def _find_by_prompt(self, prompt: tuple[int, ...]) -> Agent | None:
        found: Agent | None = None
        digests: dict[int, bytes] = {}
        for agent in self._agents.values():
            num_last = agent.num_last_prompt_tokens
            if not agent.named_here or agent.num_active or not 0 < num_last <= len(prompt):
                continue
            if found is not None and num_last <= found.num_last_prompt_tokens:
                continue
            if num_last not in digests:
                digests[num_last] = prompt_digest(prompt[:num_last])
            if digests[num_last] == agent.prompt_digest:
                found = agent
        return found

    def _new_name(self, hint: str) -> Agent:
        while True:
            self._num_named += 1
            name = f"{hint}-{self._num_named}"
            if name not in self._agents:
                return self._add(Agent(name, named_here=True))

    def adopt(self, agent: Agent) -> None:
        """Takes in an agent that was known before a restart, as the most recently active one."""
        if agent.agent_id not in self._agents:
            self._add(agent)

    def fork(self, agent: Agent, fork_id: str | None) -> Agent:
        """Makes a new agent that starts from another's cache; they share its blocks.

        Args:
            agent: The agent to start from.
            fork_id: Name of the new one; None names it after the old one.

        Raises:
            AgentBusyError: A turn of the old one is in progress.
            InvalidRequestError: The name is taken or not allowed.
        """
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "fork")
        name = fork_id if fork_id is not None else self._fork_name(agent.agent_id)
        check_agent_id(name)
        if name in self._agents:
            raise InvalidRequestError(f"there is an agent {name!r} already; choose another name")
        fork = Agent(
            name,
            protocol=agent.protocol,
            block_table=[self._pool.acquire(block) for block in agent.block_table],
            token_ids=agent.token_ids,
            saving=agent.saving,
            saved=agent.saved,
            num_evicted_tokens=agent.num_evicted_tokens,
        )
        fork.remember_prompt(agent.prompt_token_ids)
        return self._add(fork)

    def _fork_name(self, agent_id: str) -> str:
        stem = agent_id[: MAX_AGENT_ID_CHARS - 12]
        return next(
            name
            for number in itertools.count(1)
            if (name := f"{stem}-fork-{number}") not in self._agents
        )

    def _add(self, agent: Agent) -> Agent:
        self._agents[agent.agent_id] = agent
        if len(self._agents) > self._max_agents:
            self._forget_oldest()
        return agent

    def _forget_oldest(self) -> None:
        newest = next(reversed(self._agents))
        for agent in self._agents.values():
            empty = not agent.block_table and not agent.num_active and not agent.pinned
            if empty and agent.agent_id != newest:
                del self._agents[agent.agent_id]
                return

    def touch(self, agent: Agent, now_s: float) -> None:
        """Makes an agent the most recently active one."""
        agent.last_active_s = now_s
        self._agents.move_to_end(agent.agent_id)

    def store(self, agent: Agent, table: list[KVBlock], token_ids: tuple[int, ...]) -> None:
        """Replaces an agent's cache; the new table's holds pass to the agent.

        Args:
            agent: The agent.
            table: Blocks, each with one hold for the agent.
            token_ids: The tokens they cover.
        """
        old = agent.block_table
        agent.block_table = table
        agent.token_ids = token_ids
        agent.num_evicted_tokens = 0
        self._pool.release_table(old)

    def evict(self, agent: Agent) -> int:
        """Takes an agent's cache away; what others share stays.

        Returns:
            Bytes of blocks that nobody holds any more and that were freed.

        Raises:
            AgentBusyError: A turn of it is in progress.
        """
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "evict")
        table = agent.block_table
        num_free_before = self._pool.num_free_blocks
        agent.block_table = []
        agent.num_evicted_tokens = len(agent.token_ids) or agent.num_evicted_tokens
        agent.token_ids = ()
        self._pool.release_table(table)
        self._pool.drop_cached(table)
        if table:
            self.num_evictions += 1
        return (self._pool.num_free_blocks - num_free_before) * self._pool.block_bytes

    def oldest_evictable(self) -> Agent | None:
        """The idle, unpinned agent with a cache that was active longest ago."""
        return next((agent for agent in self._agents.values() if agent.evictable), None)

    def can_relieve(self, num_blocks: int) -> bool:
        """Whether evicting every evictable agent would make that many blocks allocatable."""
        evictable: dict[int, int] = {}
        num_relieved = self._pool.num_allocatable_blocks
        if num_relieved >= num_blocks:
            return True
        for agent in self._agents.values():
            if not agent.evictable:
                continue
            for block in agent.block_table:
                evictable[block.block_id] = evictable.get(block.block_id, 0) + 1
                if evictable[block.block_id] == block.ref_count:
                    num_relieved += 1
            if num_relieved >= num_blocks:
                return True
        return False


def prompt_digest(token_ids: Sequence[int]) -> bytes:
    """A short identity of a prompt; empty for an empty one."""
    return hashlib.sha256(array("I", token_ids).tobytes()).digest() if token_ids else b""


def explain_miss(agent: Agent, prompt_token_ids: Sequence[int], num_cached_tokens: int) -> str:
    """Why a turn recomputes tokens that the agent had computed before; empty if it does not.

    Args:
        agent: The agent, before the turn changes it.
        prompt_token_ids: The new prompt.
        num_cached_tokens: How much of it came from the cache.
    """
    known = agent.prompt_token_ids if agent.num_evicted_tokens else agent.token_ids
    num_lost = min(len(known), len(prompt_token_ids) - 1) - num_cached_tokens
    if num_lost <= 0:
        return ""
    if agent.num_evicted_tokens:
        return f"evicted: {num_lost} tokens"
    return f"changed at token {num_cached_tokens}: {num_lost} tokens"
