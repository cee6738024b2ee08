"""What commands do to the agents of a scripted world."""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from pathlib import Path

from engine.agent_commands import AgentText, Eviction, ExportedAgent, ImportedAgent
from engine.errors import AgentBusyError, AgentNotFoundError, NoCacheError, NotOnDiskError
from engine.scripted_cast import (
    ACTIVE,
    BLOCK_TOKENS,
    RUNNING,
    Actor,
    Role,
    check_free,
    fork_name,
    turn_at,
)
from engine.scripted_file import ScriptedAgent, read_agent, write_agent
from engine.scripted_memory import ScriptedMemory
from engine.scripted_rows import times_of
from engine.scripted_speech import scripted_text
from engine.snapshot import AgentStatus, TurnRow
from engine.turn_limits import check_batch_window, check_priority

DEFAULT_WINDOW_MS = 10.0
MAX_TURNS = 8
"""Turns of an agent that a row shows."""


class ScriptedAgents(ABC):
    """The agents of a world and their memory, changed by commands.

    Args:
        source: Of random choices.
        num_blocks: Size of the pool.
    """

    def __init__(self, source: random.Random, num_blocks: int) -> None:
        self._random = source
        self._now_s = 0.0
        self._window_ms = DEFAULT_WINDOW_MS
        self._actors: list[Actor] = []
        self._memory = ScriptedMemory(num_blocks, self._actors, self.note)

    @abstractmethod
    def note(self, kind: str, text: str, level: str) -> None:
        """Adds an event."""

    @abstractmethod
    def _end_turn(self, actor: Actor) -> None:
        """Ends an agent's turn."""

    def evict(self, agent_id: str) -> Eviction:
        """Drops an agent's cache."""
        eviction = self._drop(self._find_at_rest(agent_id, "evict"))
        self.note("evict", f"{agent_id}: {eviction.freed_bytes // 10**6}M freed by hand", "info")
        return eviction

    def evict_idle(self) -> Eviction:
        """Drops the caches of all idle, unpinned agents."""
        at_rest = [a for a in self._actors if a.status is AgentStatus.IDLE and not a.pinned]
        idle = [actor for actor in at_rest if not actor.awaits_tools]
        total = Eviction()
        for actor in idle:
            total += self._drop(actor)
        self.note("evict", f"{len(idle)} idle agents: {total.freed_bytes // 10**6}M freed", "info")
        return total

    def _drop(self, actor: Actor) -> Eviction:
        num_tokens = actor.num_restorable
        freed_bytes = self._memory.drop(actor)
        num_disk_tokens = min(num_tokens, actor.num_stored_blocks * BLOCK_TOKENS)
        return Eviction(
            freed_bytes=freed_bytes, num_tokens=num_tokens, num_disk_tokens=num_disk_tokens
        )

    def warm(self, agent_id: str) -> int:
        """Starts to bring an agent's cache back from disk; returns its tokens."""
        actor = self._find_at_rest(agent_id, "warm")
        if actor.status is not AgentStatus.WARM:
            raise NotOnDiskError(agent_id, is_in_memory=bool(actor.table))
        self._restore(actor)
        actor.restore_s = 0.0  # no turn waits for it
        return actor.num_restorable

    def _restore(self, actor: Actor) -> None:
        actor.restore_s = self._memory.restore(actor)
        actor.restored_at_s = self._now_s + actor.restore_s
        actor.status = AgentStatus.RESTORING

    def fork(self, agent_id: str, fork_id: str | None, turn: int | None = None) -> str:
        """Makes an agent that starts from another's cache; returns its id."""
        actor = self._find_at_rest(agent_id, "fork")
        place = turn_at(agent_id, actor.turns, turn) if turn is not None else None
        name = fork_name(agent_id, fork_id, self._names)
        role = dataclasses.replace(
            actor.role, agent_id=name, opening_tokens=actor.role.growth_tokens[0]
        )
        num_context = place.num_context_tokens if place else actor.num_context
        num_blocks = -(-num_context // BLOCK_TOKENS)
        table = actor.table[:num_blocks]
        self._memory.pool.share(name, table)
        self._actors.append(
            Actor(
                role,
                next_turn_s=self._now_s + self._random.uniform(*role.rest_s),
                status=actor.status,
                table=table,
                num_context=num_context,
                num_stored_blocks=min(actor.num_stored_blocks, num_blocks),
                ended_at_s=self._now_s,
                turns=[each for each in actor.turns if place and each.number <= place.number],
            )
        )
        where = f" after turn {turn}" if place else ""
        self.note("fork", f"{name} from {agent_id}{where}", "info")
        return name

    def pin(self, agent_id: str, pinned: bool) -> bool:
        """Pins or unpins an agent."""
        self._find(agent_id).pinned = pinned
        self.note("pin", f"{agent_id} {'pinned' if pinned else 'unpinned'}", "info")
        return pinned

    def pause(self, agent_id: str, paused: bool) -> bool:
        """Lets no turn of an agent go on, or lets them go on again."""
        actor = self._find(agent_id)
        actor.paused = paused
        if paused and actor.status in RUNNING:
            actor.held, actor.status = actor.status, AgentStatus.QUEUED
        self.note("pause" if paused else "resume", agent_id, "info")
        return paused

    def set_priority(self, agent_id: str, priority: int) -> int:
        """Lets an agent's turns go ahead of others', or behind them."""
        self._find(agent_id).priority = check_priority(priority)
        self.note("priority", f"{agent_id}: {priority:+d}", "info")
        return priority

    def set_batch_window(self, window_ms: float) -> float:
        """Changes the batch window."""
        self._window_ms = check_batch_window(window_ms)
        self.note("batch", f"window {window_ms:g} ms", "info")
        return window_ms

    def abort(self, agent_id: str) -> int:
        """Ends an agent's turn if it has one; returns how many ended."""
        actor = self._find(agent_id)
        if actor.status not in ACTIVE:
            return 0
        self._end_turn(actor)
        text = f"{agent_id} after {actor.num_generated} tokens"
        self.note("abort", text, "warning")
        return 1

    def read(self, agent_id: str, *, with_reply: bool) -> AgentText:
        """What an agent is saying."""
        actor = self._find(agent_id)
        is_heard = with_reply and actor.status in RUNNING
        return scripted_text(actor.miss, actor.num_generated if is_heard else None)

    def remove(self, agent_id: str) -> int:
        """Forgets an agent; returns the bytes freed."""
        actor = self._find_at_rest(agent_id, "remove")
        freed_bytes = self._memory.drop(actor)
        self._actors.remove(actor)
        self.note("remove", f"{agent_id}: {freed_bytes // 10**6}M freed", "info")
        return freed_bytes

    def export(self, agent_id: str, path: Path) -> ExportedAgent:
        """Writes an agent into a file."""
        actor = self._find_at_rest(agent_id, "export")
        if not actor.table and not actor.num_stored_blocks:
            raise NoCacheError(agent_id, "export")
        agent = ScriptedAgent(
            agent_id=agent_id,
            protocol=actor.role.protocol,
            num_tokens=actor.num_context,
            num_turns=actor.num_turns,
        )
        exported = write_agent(agent, path)
        self.note("export", f"{agent_id}: {agent.num_tokens} tokens to a file", "info")
        return exported

    def take_in(self, path: Path, agent_id: str | None) -> ImportedAgent:
        """Takes an agent in from a file."""
        agent = read_agent(path)
        name = check_free(agent_id or agent.agent_id, self._names)
        role = Role(agent_id=name, protocol=agent.protocol, rest_s=(30.0, 60.0))
        self._actors.append(
            Actor(
                role,
                next_turn_s=self._now_s + role.rest_s[1],
                status=AgentStatus.WARM,
                num_context=agent.num_tokens,
                num_stored_blocks=-(-agent.num_tokens // BLOCK_TOKENS),
                num_turns=agent.num_turns,
                ended_at_s=self._now_s,
            )
        )
        self.note("import", f"{name}: {agent.num_tokens} tokens from a file", "info")
        return ImportedAgent(agent_id=name, num_tokens=agent.num_tokens)

    def _remember_turn(self, actor: Actor, time: float) -> None:
        """Adds the turn that has just ended to its agent's history."""
        actor.turns.append(
            TurnRow(
                number=actor.num_turns,
                num_prompt_tokens=actor.num_prompt,
                num_context_tokens=actor.num_context,
                num_cached_tokens=actor.num_cached,
                ttft_s=actor.ttft_s,
                ended_time=time,
                miss=actor.miss.words if actor.miss.num_lost_tokens else "",
                resumable=True,
                times=times_of(actor, self._now_s),
            )
        )
        del actor.turns[:-MAX_TURNS]
        actor.restore_s = 0.0

    def _forget_places(self, actor: Actor, num_kept_tokens: int) -> None:
        """Turns that went on from another text cannot be gone back to."""
        actor.turns[:] = [
            dataclasses.replace(
                turn, resumable=turn.resumable and turn.num_context_tokens <= num_kept_tokens
            )
            for turn in actor.turns
        ]

    @property
    def _names(self) -> set[str]:
        return {actor.role.agent_id for actor in self._actors}

    def _find(self, agent_id: str) -> Actor:
        for actor in self._actors:
            if actor.role.agent_id == agent_id:
                return actor
        raise AgentNotFoundError(agent_id)

    def _find_at_rest(self, agent_id: str, action: str) -> Actor:
        actor = self._find(agent_id)
        if actor.status in ACTIVE:
            raise AgentBusyError(agent_id, action)
        return actor
