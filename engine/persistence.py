"""Keeps blocks and agents on disk, and brings them back before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import asdict, fields
from functools import partial
from typing import Any, Protocol

from engine.cache.agents import Agent, AgentStore, LastTurn, SavedTable
from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash, chain_hashes
from engine.cache.disk.records import AgentRecord, BlockRecord, TensorBytes
from engine.cache.disk.tier import DiskTier
from engine.cache.pool import BlockPool
from engine.cache.prefix import common_prefix
from engine.errors import AgentBusyError, NotOnDiskError
from engine.sequence import Sequence

MIN_PARTIAL_TOKENS = 16
"""A block that matches in fewer tokens is not worth reading."""

Post = Callable[[Callable[[], None]], None]
"""Has something done on the engine's thread, soon."""


class ByteMover(Protocol):
    """Turns block payloads into bytes and back; the model runner is one."""

    def to_bytes(self, payload: object) -> tuple[TensorBytes, ...]:
        """A payload as bytes that nothing else refers to."""

    def from_bytes(self, tensors: Items[TensorBytes]) -> object:
        """The payload again."""


class Persistence:
    """Writes behind and reads ahead. Every method belongs to the engine's thread.

    Reads end on the disk's thread; what is to be done with them comes back through ``post``.
    """

    def __init__(
        self,
        tier: DiskTier,
        pool: BlockPool,
        agents: AgentStore,
        mover: ByteMover,
        root_hash: bytes,
        *,
        make_room: Callable[[int], bool],
        post: Post,
        note: Callable[[str, str], None],
        clocks: tuple[Callable[[], float], Callable[[], float]],
    ) -> None:
        """Wires the parts.

        Args:
            tier: The warm tier, open.
            pool: Where blocks go that are read.
            agents: Whose caches are saved.
            mover: Turns payloads into bytes.
            root_hash: Parent of every first block.
            make_room: Makes that many blocks allocatable; False when it cannot.
            post: Has something done on the engine's thread.
            note: Takes events: kind and text.
            clocks: Monotonic seconds, and seconds since the epoch.
        """
        self.tier = tier
        self._pool = pool
        self._agents = agents
        self._mover = mover
        self._root_hash = root_hash
        self._make_room = make_room
        self._post = post
        self._note = note
        self._clock, self._wall_clock = clocks

    # Writing behind

    def keep_block(self, block: KVBlock, parent_hash: bytes) -> None:
        """Offers a sealed block to the disk."""
        if block.block_hash is not None:
            self._write(block.block_hash, parent_hash, block)

    def _write(self, name: bytes, parent_hash: bytes, block: KVBlock) -> None:
        if self.tier.can_read(name) or not self.tier.stats.is_on:
            return
        tensors = self._mover.to_bytes(block.payload)
        record = BlockRecord(
            block_hash=name, parent_hash=parent_hash, token_ids=block.token_ids, tensors=tensors
        )
        self.tier.write(record)

    def keep_agent(self, agent: Agent) -> None:
        """Saves an agent's table, and those of its blocks that are not on their way yet."""
        hashes: list[bytes] = []
        parent = self._root_hash
        for block in agent.block_table:
            name = block.block_hash or block_hash(parent, block.token_ids)
            self._write(name, parent, block)
            hashes.append(name)
            parent = name
        tail = agent.block_table[-1].token_ids if agent.block_table else ()
        self._save(
            agent,
            SavedTable(
                block_hashes=tuple(hashes),
                num_tokens=len(agent.token_ids),
                tail_token_ids=tail if len(tail) < BLOCK_TOKENS else (),
            ),
        )

    def keep_facts(self, agent: Agent) -> None:
        """Saves what is known of an agent beside its blocks, if any of those are saved."""
        if agent.saving is not None:
            self._save(agent, agent.saving)

    def _save(self, agent: Agent, table: SavedTable) -> None:
        agent.saving = table
        age_s = self._clock() - agent.last_active_s
        record = AgentRecord(
            agent_id=agent.agent_id,
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
            last_turn=asdict(agent.last_turn),
        )
        self.tier.save_agent(record, lambda saved: self._post(partial(self._saved, agent, saved)))

    def _saved(self, agent: Agent, record: AgentRecord) -> None:
        agent.saved = SavedTable(
            block_hashes=record.block_hashes,
            num_tokens=record.num_tokens,
            tail_token_ids=record.tail_token_ids,
        )

    # Reading ahead

    def adopt(self, records: Items[AgentRecord]) -> None:
        """Makes the agents that were saved known again; their caches stay on disk for now."""
        for record in sorted(records, key=lambda r: r.last_active_time):
            age_s = max(0.0, self._wall_clock() - record.last_active_time)
            agent = Agent(
                record.agent_id,
                named_here=record.named_here,
                protocol=record.protocol,
                pinned=record.pinned,
                last_active_s=self._clock() - age_s,
                num_turns=record.num_turns,
                last_turn=_last_turn(record),
                prompt_digest=record.prompt_digest,
                num_last_prompt_tokens=record.num_prompt_tokens,
            )
            self._agents.adopt(agent)
            self._saved(agent, record)
            agent.saving = agent.saved

    def prefetch(self, sequence: Sequence) -> None:
        """Starts to read what the disk knows of a waiting sequence's prompt, if anything."""
        limit = len(sequence.token_ids) - 1
        hashes = chain_hashes(self._root_hash, sequence.token_ids)[: limit // BLOCK_TOKENS]
        known: list[KVBlock] = []
        for name in hashes:
            block = self._pool.lookup(name)
            if block is None:
                break
            known.append(block)
        wanted: list[bytes] = []
        for name in hashes[len(known) :]:
            if not self.tier.can_read(name):
                break
            wanted.append(name)
        partial_hash = self._partial(sequence, hashes, len(known) + len(wanted))
        wanted += [partial_hash] if partial_hash else []
        if not wanted:
            return
        sequence.restored = [self._pool.acquire(block) for block in known]
        sequence.is_restoring = True
        began_s = self._clock()
        self._read(wanted, partial(self._arrived, sequence, began_s))

    def _partial(self, sequence: Sequence, hashes: list[bytes], index: int) -> bytes | None:
        """The saved block that follows the known ones, if it may match in part."""
        saved, agent = sequence.agent.saved, sequence.agent
        if saved is None or len(agent.block_table) > index or len(saved.block_hashes) <= index:
            return None
        if list(saved.block_hashes[:index]) != hashes[:index]:
            return None
        is_tail = index == len(saved.block_hashes) - 1 and bool(saved.tail_token_ids)
        if is_tail:
            rest = sequence.token_ids[index * BLOCK_TOKENS : len(sequence.token_ids) - 1]
            if common_prefix(saved.tail_token_ids, rest) < MIN_PARTIAL_TOKENS:
                return None
        name = saved.block_hashes[index]
        return name if self.tier.can_read(name) else None

    def _read(self, names: list[bytes], arrived: Callable[[Items[BlockRecord]], None]) -> None:
        self.tier.read(names, lambda records: self._post(lambda: arrived(records)))

    def _arrived(self, sequence: Sequence, began_s: float, records: Items[BlockRecord]) -> None:
        """Puts what was read into the pool, held by the sequence until it is admitted."""
        sequence.is_restoring = False
        if sequence.is_finished:
            self._pool.release_table(sequence.restored)
            sequence.restored = []
            return
        num_tokens = 0
        for record in records:
            block = self._place(record)
            if block is None:
                break
            sequence.restored.append(block)
            num_tokens += len(record.token_ids)
        sequence.num_restored_tokens = num_tokens
        if num_tokens:
            seconds = self._clock() - began_s
            self._note(
                "restore",
                f"{sequence.agent.agent_id}: {num_tokens} tokens from disk in {seconds:.2f} s",
            )

    def _place(self, record: BlockRecord) -> KVBlock | None:
        """A held block with a record's content; None when there is no room for it."""
        known = self._pool.lookup(record.block_hash)
        if known is not None:
            return self._pool.acquire(known)
        if not self._make_room(1):
            return None
        block = self._pool.allocate()
        payload: Any = self._mover.from_bytes(record.tensors)
        if len(record.token_ids) == BLOCK_TOKENS:
            return self._pool.seal(block, record.block_hash, record.token_ids, payload)
        block.token_ids, block.payload = record.token_ids, payload
        return block

    def warm(self, agent: Agent, done: Callable[[int], None]) -> None:
        """Brings an agent's whole cache into memory.

        Args:
            agent: An idle agent.
            done: Told how many tokens are in memory afterwards.

        Raises:
            AgentBusyError: A turn of it is in progress.
            NotOnDiskError: Nothing of it is on disk that is not in memory.
        """
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "warm")
        saved = agent.saved
        if saved is None or len(agent.token_ids) >= saved.num_tokens:
            raise NotOnDiskError(agent.agent_id)
        self._read(list(saved.block_hashes), partial(self._warmed, agent, done))

    def _warmed(
        self, agent: Agent, done: Callable[[int], None], records: Items[BlockRecord]
    ) -> None:
        table: list[KVBlock] = []
        for record in records:
            block = self._place(record)
            if block is None:
                break
            table.append(block)
        token_ids = tuple(token for block in table for token in block.token_ids)
        # A turn may have started or ended meanwhile; what it left is newer.
        if agent.num_active or len(agent.token_ids) >= len(token_ids):
            self._pool.release_table(table)
        else:
            self._agents.store(agent, table, token_ids)
            self._note("warm", f"{agent.agent_id}: {len(token_ids)} tokens from disk")
        done(len(agent.token_ids))

    def warm_bytes(self, agent: Agent) -> int:
        """Bytes of an agent's cache that are on disk, rounded up to whole blocks."""
        saved = agent.saved
        # The disk gives up the ends of chains first, so the first block tells whether any is left.
        if saved is None or not saved.block_hashes or not self.tier.has(saved.block_hashes[0]):
            return 0
        return len(saved.block_hashes) * self._pool.block_bytes


def _last_turn(record: AgentRecord) -> LastTurn:
    names = {field.name for field in fields(LastTurn)} & set(record.last_turn)
    known: dict[str, Any] = {name: record.last_turn[name] for name in names}
    return LastTurn(**known)
