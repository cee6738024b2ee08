"""Keeps blocks and agents on disk, behind the engine's back."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial
from itertools import takewhile
from typing import Protocol

from engine.arrival import ByteReader
from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash
from engine.cache.disk.foreign import ForeignAgent, space_scalars
from engine.cache.disk.records import AgentRecord, BlockRecord, TensorBytes
from engine.cache.disk.tier import DiskTier
from engine.cache.last_turn import from_scalars, to_scalars
from engine.cache.lineage import SavedTable
from engine.cache.pool import BlockPool
from engine.cache.reply import ReplyTokens
from engine.cache.spec import CacheSpec
from engine.cache.turn_history import TurnHistory
from engine.read_ahead import Post, ReadAhead
from engine.spare_work import SpareWork
from engine.trace import Note

_SHORT_LIVED = "short_lived"
"""Beside the numbers of a last turn: whether the agent was there for that turn only."""


class ByteMover(ByteReader, Protocol):
    """Turns block payloads into bytes and back; the model runner is one."""

    def to_bytes(self, payload: object) -> tuple[TensorBytes, ...]:
        """A payload as bytes that nothing else refers to."""


class Persistence:
    """Writes behind. Every method belongs to the engine's thread.

    Attributes:
        tier: The warm tier.
        ahead: Reads what is on it.
        on_replies: Told of the replies of every agent that becomes known.
    """

    def __init__(
        self,
        tier: DiskTier,
        pool: BlockPool,
        agents: AgentStore,
        mover: ByteMover,
        root_of: Callable[[str], bytes],
        spec: CacheSpec,
        spare: SpareWork,
        *,
        make_room: Callable[[int], bool],
        post: Post,
        note: Note,
        clocks: tuple[Callable[[], float], Callable[[], float]],
    ) -> None:
        """Wires the parts.

        Args:
            tier: The warm tier, open.
            pool: Where blocks go that are read.
            agents: Whose caches are saved.
            mover: Turns payloads into bytes.
            root_of: Parent of every first block of a namespace.
            spec: What the model's cache looks like.
            spare: Leaves out what there is no memory for.
            make_room: Makes that many blocks allocatable; False when it cannot.
            post: Has something done on the engine's thread.
            note: Takes events: kind and text.
            clocks: Monotonic seconds, and seconds since the epoch.
        """
        self.tier = tier
        self.on_replies: Callable[[Items[ReplyTokens]], None] = _nobody
        self._pool = pool
        self._agents = agents
        self._mover = mover
        self._root_of = root_of
        self._spec = spec
        self._spare = spare
        self._post = post
        self._note = note
        self._clock, self._wall_clock = clocks
        self.ahead = ReadAhead(
            tier,
            pool,
            agents,
            mover,
            spec,
            spare,
            make_room=make_room,
            post=post,
            note=note,
            clock=self._clock,
        )

    def keep_block(self, block: KVBlock, parent_hash: bytes) -> None:
        """Offers a sealed block to the disk."""
        if block.block_hash is not None:
            self._write(block.block_hash, parent_hash, block)

    def _write(self, name: bytes, parent_hash: bytes, block: KVBlock) -> None:
        if self.tier.can_read(name) or self.tier.is_full or not self.tier.stats.is_on:
            return
        tensors = self._spare.attempt(
            f"write {len(block.token_ids)} tokens to disk",
            lambda: self._mover.to_bytes(block.payload),
        )
        if tensors is None:
            return
        record = BlockRecord(
            block_hash=name, parent_hash=parent_hash, token_ids=block.token_ids, tensors=tensors
        )
        self.tier.write(record)

    def keep_agent(self, agent: Agent) -> None:
        """Saves an agent's table, and those of its blocks that are not on their way yet."""
        hashes: list[bytes] = []
        parent = self._root_of(agent.namespace)
        num_tokens = sum(len(block.token_ids) for block in agent.block_table)
        # A fork may start within a block. On disk it starts with the blocks before that one.
        num_whole = len(agent.block_table) - (num_tokens > len(agent.token_ids))
        table = agent.block_table[:num_whole]
        for block in table:
            name = block.block_hash or block_hash(parent, block.token_ids)
            self._write(name, parent, block)
            hashes.append(name)
            parent = name
        tail = table[-1].token_ids if table else ()
        self._save(
            agent,
            SavedTable(
                block_hashes=tuple(hashes),
                num_tokens=sum(len(block.token_ids) for block in table),
                tail_token_ids=tail if len(tail) < BLOCK_TOKENS else (),
            ),
        )

    def keep_facts(self, agent: Agent) -> None:
        """Saves what is known of an agent beside its blocks, if any of those are saved."""
        if agent.saving is not None:
            self._save(agent, agent.saving)

    def _save(self, agent: Agent, table: SavedTable) -> None:
        agent.saving = table
        record = self.record(agent, table)
        self.tier.save_agent(record, lambda saved: self._post(partial(self._saved, agent, saved)))

    def record(self, agent: Agent, table: SavedTable) -> AgentRecord:
        """What the disk is told of an agent whose cache is that table."""
        age_s = self._clock() - agent.last_active_s
        return AgentRecord(
            agent_id=agent.agent_id,
            namespace=agent.namespace,
            named_here=agent.named_here,
            protocol=agent.protocol,
            pinned=agent.pinned,
            block_hashes=table.block_hashes,
            num_tokens=table.num_tokens,
            tail_token_ids=table.tail_token_ids,
            prompt_digest=agent.prompt_digest,
            num_prompt_tokens=agent.num_last_prompt_tokens,
            num_turns=agent.num_turns,
            last_active_time=self._wall_clock() - age_s,
            last_turn={
                **to_scalars(agent.last_turn),
                **space_scalars(self.tier.space),
                _SHORT_LIVED: agent.is_short_lived,
            },
            turns=tuple(agent.history),
            replies=agent.replies,
        )

    def _saved(self, agent: Agent, record: AgentRecord) -> None:
        agent.saved = _table(record)
        self._agents.holdings.changed.add(agent)

    def forget(self, agent: Agent) -> None:
        """Forgets an agent that was removed; blocks that only it needed go at once."""
        saved = agent.saving.block_hashes if agent.saving else ()
        checkpoints = agent.history.kept_hashes
        self.tier.forget_agent(agent.agent_id, (*saved, *checkpoints), agent.namespace)

    def offer(self, block: KVBlock) -> None:
        """Offers a block that the disk has not taken before."""
        if block.parent_hash is not None:
            self.keep_block(block, block.parent_hash)

    def has_block(self, block: KVBlock) -> bool:
        """Whether a block is on disk, or on its way there."""
        return block.block_hash is not None and self.tier.can_read(block.block_hash)

    def has_agent(self, agent: Agent) -> bool:
        """Whether all that memory has of an agent is on disk, or on its way there."""
        saving = agent.saving
        if saving is None or saving.num_tokens < len(agent.token_ids):
            return False
        return all(map(self.tier.can_read, saving.block_hashes))

    def adopt(self, records: Items[AgentRecord]) -> None:
        """Makes the agents that were saved known again; their caches stay on disk for now."""
        for record in sorted(self._lasting(records), key=lambda r: r.last_active_time):
            self._agents.adopt(self.agent(record))

    def _lasting(self, records: Items[AgentRecord]) -> list[AgentRecord]:
        """The agents to go on with; those that were there for one turn only are forgotten."""
        left = [record for record in records if record.last_turn.get(_SHORT_LIVED)]
        for record in left:
            self.forget(self.agent(record))
        if left:
            self._note("disk", f"{len(left)} of an unfinished request's agents removed")
        return [record for record in records if not record.last_turn.get(_SHORT_LIVED)]

    def recover(self, records: Items[AgentRecord]) -> None:
        """Makes up for the time in which the disk refused.

        Args:
            records: Agents that were found now, because the folder could not be opened before.
                Those that have had a turn meanwhile stay as they are.
        """
        num_before = len(self._agents)
        lasting = self._lasting(records)
        for record in sorted(lasting, key=lambda r: r.last_active_time, reverse=True):
            self._agents.adopt(self.agent(record), is_oldest=True)
        num_found = len(self._agents) - num_before
        if num_found:
            agents = "agent is" if num_found == 1 else "agents are"
            self._note("disk", f"{num_found} {agents} back, with caches on disk")
        for agent in reversed(list(self._agents)):
            if agent.block_table and not agent.num_active and not self.has_agent(agent):
                self.keep_agent(agent)
            if self.tier.is_full:
                break

    def agent(self, record: AgentRecord) -> Agent:
        """An agent as the disk knows it, with nothing in memory."""
        self.on_replies(record.replies)
        saved = _table(record)
        age_s = max(0.0, self._wall_clock() - record.last_active_time)
        return Agent(
            record.agent_id,
            record.namespace,
            named_here=record.named_here,
            protocol=record.protocol,
            pinned=record.pinned,
            saving=saved,
            saved=saved,
            last_active_s=self._clock() - age_s,
            num_turns=record.num_turns,
            last_turn=from_scalars(record.last_turn),
            prompt_digest=record.prompt_digest,
            num_last_prompt_tokens=record.num_prompt_tokens,
            history=TurnHistory(record.turns),
            replies=record.replies,
        )

    def num_disk_tokens(self, agent: Agent) -> int:
        """Tokens of an agent's context that are on disk, from its beginning on."""
        saved = agent.saved
        if saved is None:
            return 0
        there = list(takewhile(self.tier.has, saved.block_hashes))
        is_whole = len(there) == len(saved.block_hashes)
        return saved.num_tokens if is_whole else len(there) * BLOCK_TOKENS

    def foreign(self, agent: Agent) -> ForeignAgent | None:
        """What another model, or this one in another format, has of an agent; None if nothing."""
        return self.tier.foreign.get(agent.key)

    def warm_bytes(self, agent: Agent) -> int:
        """Bytes of an agent's cache that are on disk, rounded up to whole blocks."""
        saved = agent.saved
        # The disk gives up the ends of chains first, so the first block tells whether any is left.
        if saved is None or not saved.block_hashes or not self.tier.has(saved.block_hashes[0]):
            return 0
        num_slots = len(saved.block_hashes) + self._spec.checkpoint_slots
        return num_slots * self._pool.block_bytes


def _table(record: AgentRecord) -> SavedTable:
    return SavedTable(
        block_hashes=record.block_hashes,
        num_tokens=record.num_tokens,
        tail_token_ids=record.tail_token_ids,
    )


def _nobody(_replies: Items[ReplyTokens]) -> None:
    """Nobody is told."""
