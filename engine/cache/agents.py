"""Agents: who holds which blocks, who goes first when room is needed, who is meant by a prompt."""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

from engine.cache.agent import Agent, AgentKey
from engine.cache.block import KVBlock
from engine.cache.holdings import Holdings
from engine.cache.lineage import lineage_at
from engine.cache.pool import BlockPool
from engine.cache.prompt_index import PromptIndex, prompt_digest
from engine.cache.standing import StandingCaches
from engine.cache.turn_history import TurnMark
from engine.errors import AgentBusyError, AgentNotFoundError, InvalidRequestError
from engine.request import MAX_AGENT_ID_CHARS, check_agent_id


class AgentStore:
    """All agents, least recently active first. Nothing looks through all of them."""

    def __init__(self, pool: BlockPool, max_agents: int = 10_000) -> None:
        """Makes an empty store.

        Args:
            pool: Where the agents' blocks live.
            max_agents: Beyond this, the oldest agents without blocks are forgotten.
        """
        self._pool = pool
        self._max_agents = max_agents
        self._agents: OrderedDict[AgentKey, Agent] = OrderedDict()
        self.holdings = Holdings(pool)
        self.standing = StandingCaches(pool)
        self._prompts: dict[str, PromptIndex[Agent]] = {}
        self._numbers = itertools.count()
        self._free_numbers: list[int] = []
        self._num_named: Counter[str] = Counter()
        self.num_evictions = 0
        self.num_moves = 0
        self.on_removed: Callable[[Agent], None] = lambda _agent: None
        self.parent_on_disk: Callable[[bytes], bytes | None] = lambda _block_hash: None

    def __iter__(self) -> Iterator[Agent]:
        """Agents, least recently active first."""
        return iter(self._agents.values())

    def __len__(self) -> int:
        """How many agents are known."""
        return len(self._agents)

    def get(self, agent_id: str, namespace: str = "") -> Agent:
        """The agent of that id.

        Args:
            agent_id: Its id.
            namespace: Whose it is; agents of other namespaces do not exist for it.

        Raises:
            AgentNotFoundError: There is none.
        """
        agent = self._agents.get((namespace, agent_id))
        if agent is None:
            raise AgentNotFoundError(agent_id)
        return agent

    def find(self, agent_id: str, namespace: str = "") -> Agent | None:
        """The agent of that id in a namespace, or None."""
        return self._agents.get((namespace, agent_id))

    def resolve(
        self,
        agent_id: str | None,
        prompt_token_ids: tuple[int, ...],
        hint: str,
        namespace: str = "",
    ) -> Agent:
        """The agent a turn belongs to, made if it is new.

        Args:
            agent_id: The id the client sent. None finds the idle agent, named here, whose last
                prompt is the longest prefix of this prompt, or names a new one.
            prompt_token_ids: The prompt.
            hint: Beginning of the name of a new agent.
            namespace: Whose turn it is.
        """
        if agent_id is not None:
            known = self._agents.get((namespace, agent_id))
            return known or self._add(Agent(agent_id, namespace))
        prompts = self._prompts.get(namespace)
        found = prompts.prefixes_of(prompt_token_ids) if prompts else iter(())
        idle = next((agent for agent in found if not agent.num_active), None)
        return idle or self._new_name(hint, namespace)

    def _new_name(self, hint: str, namespace: str) -> Agent:
        while True:
            # Counted for each namespace: a number must not tell how many others have talked.
            self._num_named[namespace] += 1
            name = f"{hint}-{self._num_named[namespace]}"
            if (namespace, name) not in self._agents:
                return self._add(Agent(name, namespace, named_here=True))

    def adopt(self, agent: Agent, *, is_oldest: bool = False) -> None:
        """Takes in an agent that was known before a restart, unless there is one of its name.

        Args:
            agent: The agent.
            is_oldest: Whether all others were active after it; else all were before.
        """
        if agent.key not in self._agents:
            self._add(agent)
            self._agents.move_to_end(agent.key, last=not is_oldest)

    def fork(self, agent: Agent, fork_id: str | None, turn: int | None = None) -> Agent:
        """Makes a new agent that starts from another's cache; they share its blocks.

        Args:
            agent: The agent to start from.
            fork_id: Name of the new one; None names it after the old one.
            turn: Number of the turn at whose end to start; None starts from where the old one is.

        Raises:
            AgentBusyError: A turn of the old one is in progress.
            InvalidRequestError: The name is taken or not allowed, or the end of that turn is
                neither in memory nor on disk; the message names the turns that are.
        """
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "fork")
        name = fork_id if fork_id is not None else self._fork_name(agent)
        check_agent_id(name)
        if (agent.namespace, name) in self._agents:
            raise InvalidRequestError(f"there is an agent {name!r} already; choose another name")
        lineage = lineage_at(self._pool, self.parent_on_disk, agent, turn)
        fork = Agent(
            name,
            agent.namespace,
            protocol=agent.protocol,
            saving=lineage.saved,
            saved=lineage.saved,
            last_active_s=agent.last_active_s,
            history=agent.history.up_to(turn),
            replies=agent.replies,
        )
        if turn is None:
            fork.num_evicted_tokens = agent.num_evicted_tokens
            self._remember_prompt(fork, agent.prompt_token_ids)
        self._add(fork)
        self._replace(fork, [self._pool.acquire(b) for b in lineage.blocks], lineage.token_ids)
        return fork

    def _fork_name(self, agent: Agent) -> str:
        stem = agent.agent_id[: MAX_AGENT_ID_CHARS - 12]
        return next(
            name
            for number in itertools.count(1)
            if (agent.namespace, name := f"{stem}-fork-{number}") not in self._agents
        )

    # Coming and going

    def _add(self, agent: Agent) -> Agent:
        agent.number = self._free_numbers.pop() if self._free_numbers else next(self._numbers)
        self._agents[agent.key] = agent
        self.num_moves += 1
        self._index_prompt(agent)
        while len(self._agents) > self._max_agents:
            oldest = self.holdings.oldest_forgettable
            if oldest is None:
                break
            self._forget(oldest)
        # Only now: a new agent is not the one that is forgotten for it.
        self.holdings.add(agent)
        return agent

    def remove(self, agent: Agent) -> int:
        """Forgets an agent, here and on disk; what others share of its cache stays.

        Returns:
            Bytes of blocks that nobody holds any more and that were freed.

        Raises:
            AgentBusyError: A turn of it is in progress.
        """
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "remove")
        num_bytes = self._drop_table(agent)
        self._forget(agent)
        self.on_removed(agent)
        return num_bytes

    def _forget(self, agent: Agent) -> None:
        self.holdings.remove(agent)
        self._unindex_prompt(agent)
        del self._agents[agent.key]
        self.num_moves += 1
        self._free_numbers.append(agent.number)

    def _index_prompt(self, agent: Agent) -> None:
        if agent.named_here and agent.num_last_prompt_tokens:
            index = self._prompts.setdefault(agent.namespace, PromptIndex())
            index.add(agent.num_last_prompt_tokens, agent.prompt_digest, agent)

    def _unindex_prompt(self, agent: Agent) -> None:
        index = self._prompts.get(agent.namespace)
        if index is not None:
            index.remove(agent.num_last_prompt_tokens, agent.prompt_digest, agent)

    def _remember_prompt(self, agent: Agent, token_ids: tuple[int, ...]) -> None:
        self._unindex_prompt(agent)
        agent.prompt_token_ids = token_ids
        agent.prompt_digest = prompt_digest(token_ids)
        agent.num_last_prompt_tokens = len(token_ids)
        if agent.key in self._agents:
            self._index_prompt(agent)

    # Turns and pins

    def begin_turn(self, agent: Agent, now_s: float) -> None:
        """Takes note that a turn of an agent is queued."""
        with self.holdings.changing(agent):
            agent.num_active += 1
            self.touch(agent, now_s)

    def end_turn(
        self, agent: Agent, now_s: float, prompt_token_ids: tuple[int, ...], mark: TurnMark
    ) -> None:
        """Takes note that a turn of an agent has ended.

        Args:
            agent: The agent.
            now_s: Monotonic seconds.
            prompt_token_ids: The turn's prompt.
            mark: What the turn was like, and where it ended.
        """
        with self.holdings.changing(agent):
            agent.num_active -= 1
            agent.num_turns += 1
            agent.history.add(mark)
            self.touch(agent, now_s)
        self._remember_prompt(agent, prompt_token_ids)

    def touch(self, agent: Agent, now_s: float) -> None:
        """Makes an agent the one that was active last."""
        agent.last_active_s = now_s
        self.num_moves += 1
        self._agents.move_to_end(agent.key)

    def pin(self, agent: Agent, pinned: bool) -> None:
        """Keeps an agent's cache from eviction, or lets it go."""
        with self.holdings.changing(agent):
            agent.pinned = pinned

    def set_paused(self, agent: Agent, paused: bool) -> None:
        """Lets no turn of an agent go on, or lets them go on again."""
        with self.holdings.changing(agent):
            agent.paused = paused

    def set_priority(self, agent: Agent, priority: int) -> None:
        """Changes how far an agent's turns go ahead of others'."""
        with self.holdings.changing(agent):
            agent.priority = priority

    def await_tools(self, agent: Agent, turn_number: int) -> None:
        """Takes note that the reply of a turn has called tools; newer turns have the last word."""
        agent.tool_turn = max(agent.tool_turn, turn_number)
        self.holdings.changed.add(agent)

    # Tables

    def store(self, agent: Agent, table: list[KVBlock], token_ids: tuple[int, ...]) -> None:
        """Replaces an agent's cache; the new table's holds pass to the agent.

        Args:
            agent: The agent.
            table: Blocks, each with one hold for the agent.
            token_ids: The tokens they cover.
        """
        self._replace(agent, table, token_ids)
        agent.num_evicted_tokens = 0

    def _replace(self, agent: Agent, table: list[KVBlock], token_ids: tuple[int, ...]) -> None:
        old = agent.block_table
        self.standing.drop(agent)
        with self.holdings.changing(agent):
            self._pool.mark_holder(old, agent.number, -1)
            agent.block_table, agent.token_ids = table, token_ids
            self._pool.mark_holder(table, agent.number, +1)
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
        self.num_evictions += bool(agent.block_table)
        agent.num_evicted_tokens = len(agent.token_ids) or agent.num_evicted_tokens
        return self._drop_table(agent)

    def _drop_table(self, agent: Agent) -> int:
        table = agent.block_table
        self.standing.drop(agent)
        num_free_before = self._pool.num_free_blocks
        self._replace(agent, [], ())
        # The beginnings of its prompts stay: as a rule other agents have them too.
        ends = map(self._pool.lookup, agent.history.end_hashes)
        self._pool.drop_cached([*table, *(block for block in ends if block is not None)])
        return (self._pool.num_free_blocks - num_free_before) * self._pool.block_bytes

    # Room

    def evictable(self) -> Iterator[Agent]:
        """Idle, unpinned agents with a cache, least recently active first."""
        return self.holdings.evictable()

    def can_relieve(self, num_blocks: int) -> bool:
        """Whether evicting every evictable agent would make that many slots allocatable."""
        return num_blocks <= self._pool.num_allocatable_blocks + self._pool.num_idle_blocks
