"""What can be done to agents between and during their turns, by hand or over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.agent_commands import (
    AgentText,
    EvictAgent,
    EvictIdle,
    Eviction,
    ExportAgent,
    ForkAgent,
    ImportAgent,
    PinAgent,
    ReadAgent,
    RemoveAgent,
    WarmAgent,
)
from engine.agent_transfer import AgentTransfer
from engine.answer import answer, answer_later, finish
from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache_flush import CacheFlush
from engine.commands import AgentCommand, TurnCommand
from engine.errors import AgentBusyError, NoDiskTierError, NotOnDiskError
from engine.persistence import Persistence
from engine.read_ahead import Post
from engine.telemetry import Telemetry
from engine.turn_actions import TurnActions


class AgentActions:
    """Carries out agent commands. Every method belongs to the engine's thread."""

    def __init__(
        self,
        agents: AgentStore,
        persistence: Persistence | None,
        telemetry: Telemetry,
        clock: Callable[[], float],
        read: Callable[[ReadAgent], AgentText],
        turns: TurnActions,
        post: Post,
    ) -> None:
        """Wires the parts.

        Args:
            agents: Whom it is done to.
            persistence: The warm tier; None where nothing is kept on disk.
            telemetry: Takes events.
            clock: Monotonic seconds.
            read: Tells what an agent is saying.
            turns: Carries out what is about turns.
            post: Has something done on the engine's thread.
        """
        self._agents = agents
        self._persistence = persistence
        self._telemetry = telemetry
        self._clock = clock
        self._read = read
        self._turns = turns
        self._flush = CacheFlush(persistence) if persistence else None
        self._transfer = (
            AgentTransfer(agents, persistence, self._flush, post, telemetry.note)
            if persistence and self._flush
            else None
        )

    def obey(self, command: AgentCommand) -> None:
        """Carries a command out; its future is answered now or when the disk has done its part."""
        match command:
            case EvictAgent():
                answer_later(command.done, lambda: self._evict_safely(command))
            case EvictIdle():
                answer_later(command.done, lambda: self._evict_idle_safely(command))
            case WarmAgent():
                answer_later(command.done, lambda: self._warm(command))
            case ForkAgent():
                answer(command.done, lambda: self._fork(command))
            case PinAgent():
                answer(command.done, lambda: self._pin(command))
            case ReadAgent():
                answer(command.done, lambda: self._read(command))
            case _:
                self._obey_travel(command)

    def _obey_travel(self, command: RemoveAgent | ExportAgent | ImportAgent | TurnCommand) -> None:
        match command:
            case RemoveAgent():
                answer(command.done, lambda: self.remove(command.agent_id, command.namespace))
            case ExportAgent():
                answer_later(command.done, lambda: self._transfers("export").export(command))
            case ImportAgent():
                answer_later(command.done, lambda: self._transfers("import").take_in(command))
            case _:
                self._turns.obey(command)

    def review(self) -> None:
        """Goes on with what waits for the disk."""
        if self._flush is not None:
            self._flush.review()

    def close(self) -> None:
        """Answers what still waits for the disk."""
        if self._transfer is not None:
            self._transfer.close()

    # Memory

    def evict(self, agent_id: str, namespace: str = "") -> Eviction:
        """Drops an agent's cache from memory at once.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
        """
        return self._evict(self._agents.get(agent_id, namespace))

    def _evict(self, agent: Agent) -> Eviction:
        num_tokens = len(agent.token_ids)
        freed_bytes = self._agents.evict(agent)
        num_disk_tokens = 0
        if self._persistence is not None:
            num_disk_tokens = min(num_tokens, self._persistence.num_disk_tokens(agent))
        eviction = Eviction(
            freed_bytes=freed_bytes, num_tokens=num_tokens, num_disk_tokens=num_disk_tokens
        )
        self._telemetry.note(
            "evict",
            f"{agent.agent_id}: {num_tokens} tokens, {freed_bytes / 1e6:.0f} MB by hand, "
            f"{num_disk_tokens} of them on disk",
            agent=agent.agent_id,
            num_tokens=num_tokens,
            reason="by hand",
        )
        return eviction

    def _evict_safely(self, command: EvictAgent) -> None:
        """Lets the disk have an agent's cache before it is dropped."""
        agent = self._agents.get(command.agent_id, command.namespace)
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "evict")

        def evict() -> None:
            finish(command.done, lambda: self.evict(command.agent_id, command.namespace))

        self._when_saved(agent, evict)

    def _evict_idle_safely(self, command: EvictIdle) -> None:
        idle = [a for a in self._agents if a.evictable and not a.awaits_tools]
        if not idle:
            command.done.set_result(Eviction())
        total, num_left = Eviction(), len(idle)

        def evict(agent: Agent) -> None:
            nonlocal total, num_left
            num_left -= 1
            if agent.evictable:
                total += self._evict(agent)
            if not num_left:
                command.done.set_result(total)

        for agent in idle:
            self._when_saved(agent, partial(evict, agent))

    def _when_saved(self, agent: Agent, then: Callable[[], None]) -> None:
        if self._flush is None:
            then()
        else:
            self._flush.begin(agent, then)

    def pin(self, agent_id: str, pinned: bool, namespace: str = "") -> bool:
        """Keeps an agent's cache from eviction, or lets it go.

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        agent = self._agents.get(agent_id, namespace)
        if agent.pinned != pinned:
            self._agents.pin(agent, pinned)
            self._telemetry.note("pin" if pinned else "unpin", agent_id)
            if self._persistence is not None:
                self._persistence.keep_facts(agent)
        return pinned

    def _pin(self, command: PinAgent) -> bool:
        return self.pin(command.agent_id, command.pinned, command.namespace)

    def warm(self, agent_id: str, done: Callable[[int], None], namespace: str = "") -> None:
        """Brings an agent's cache from disk into memory.

        Args:
            agent_id: The agent.
            done: Told how many of its tokens are in memory afterwards.
            namespace: Whose agent it is.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
            NotOnDiskError: Nothing of it is on disk that is not in memory.
        """
        agent = self._agents.get(agent_id, namespace)
        if self._persistence is None:
            raise NotOnDiskError(agent_id, is_in_memory=bool(agent.token_ids))
        self._persistence.ahead.warm(agent, done)

    def _warm(self, command: WarmAgent) -> None:
        self.warm(command.agent_id, command.done.set_result, command.namespace)

    # Coming and going

    def fork(
        self,
        agent_id: str,
        fork_id: str | None,
        turn: int | None = None,
        namespace: str = "",
    ) -> str:
        """Makes a new agent that starts from another's cache.

        Args:
            agent_id: The agent to start from.
            fork_id: Name of the new one; None names it after the old one.
            turn: Number of the turn at whose end to start; None starts where the old one is.
            namespace: Whose agent it is.

        Returns:
            The new agent's id.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
            InvalidRequestError: The new name is taken or not allowed, or that turn cannot be had.
        """
        agent = self._agents.get(agent_id, namespace)
        fork = self._agents.fork(agent, fork_id, turn)
        fork.last_active_s = self._clock()
        place = "" if turn is None else f" after turn {turn}"
        self._telemetry.note("fork", f"{fork.agent_id} from {agent_id}{place}")
        if self._persistence is not None:
            self._persistence.keep_facts(fork)
        return fork.agent_id

    def _fork(self, command: ForkAgent) -> str:
        return self.fork(command.agent_id, command.fork_id, command.turn, command.namespace)

    def remove(self, agent_id: str, namespace: str = "") -> int:
        """Forgets an agent and what only it has, in memory and on disk.

        Returns:
            Bytes of memory freed.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
        """
        agent = self._agents.get(agent_id, namespace)
        freed_bytes = self._agents.remove(agent)
        self._telemetry.note("remove", f"{agent_id}: {freed_bytes / 1e6:.0f} MB freed")
        return freed_bytes

    def _transfers(self, action: str) -> AgentTransfer:
        if self._transfer is None:
            raise NoDiskTierError(f"{action} an agent")
        return self._transfer
