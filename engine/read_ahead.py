"""Brings caches back from disk before they are needed, while others run."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial

from engine.arrival import Arrival, ByteReader, Placer
from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.block import BLOCK_TOKENS, KVBlock
from engine.cache.disk.records import BlockRecord
from engine.cache.disk.tier import DiskTier
from engine.cache.pool import BlockPool
from engine.cache.prefix import common_prefix, known_blocks, match_checkpoint
from engine.cache.spec import CacheSpec
from engine.errors import AgentBusyError, NotOnDiskError
from engine.reads import Reads
from engine.sequence import Sequence
from engine.spare_work import SpareWork
from engine.trace import Note, whose
from engine.turn_timer import Phase

MIN_PARTIAL_TOKENS = 16
"""A block that matches in fewer tokens is not worth reading."""
MAX_READS = 3
"""So often a turn waits for the disk, where what was read was less than what was wanted."""

Post = Callable[[Callable[[], None]], None]
"""Has something done on the engine's thread, soon."""


class ReadAhead:
    """Reads blocks and checkpoints. Every method belongs to the engine's thread.

    Reads end on the disk's thread; what is to be done with them comes back through ``post``.
    """

    def __init__(
        self,
        tier: DiskTier,
        pool: BlockPool,
        agents: AgentStore,
        mover: ByteReader,
        spec: CacheSpec,
        spare: SpareWork,
        *,
        make_room: Callable[[int], bool],
        post: Post,
        note: Note,
        clock: Callable[[], float],
    ) -> None:
        """Wires the parts.

        Args:
            tier: The warm tier, open.
            pool: Where blocks go that are read.
            agents: Whose caches are warmed.
            mover: Turns bytes into payloads.
            spec: What the model's cache looks like.
            spare: Leaves out what there is no memory for.
            make_room: Makes that many slots allocatable; False when it cannot.
            post: Has something done on the engine's thread.
            note: Takes events: kind and text.
            clock: Monotonic seconds.
        """
        self._tier = tier
        self._pool = pool
        self._agents = agents
        self._spec = spec
        self._placer = Placer(tier, pool, mover, spec, make_room, spare)
        self._post = post
        self._note = note
        self._clock = clock
        self.reads = Reads()

    def prefetch(self, sequence: Sequence) -> None:
        """Starts to read what the disk knows of a waiting sequence's prompt, if anything.

        Args:
            sequence: A waiting sequence whose hashes and places are known.
        """
        if self._spec.needs_checkpoints:
            known, wanted = self._up_to_checkpoint(sequence)
        else:
            known, wanted = self._up_to_change(sequence)
        if not wanted:
            return
        held = [self._pool.acquire(block) for block in known]
        self._pool.release_table(sequence.restored)
        sequence.restored = held
        sequence.is_restoring = True
        sequence.num_reads += 1
        now_s = self._clock()
        sequence.timer.enter(Phase.RESTORE, now_s)
        self.reads.begin(sequence, _num_tokens(sequence, wanted), now_s)
        # The turn may end, or others may need the room: then it lets go of what it holds.
        arrival = Arrival(
            held,
            len(known) * BLOCK_TOKENS,
            self._placer,
            is_given_up=lambda: sequence.restored is not held,
        )
        self._read(wanted, arrival, partial(self._restored, sequence))

    def _up_to_change(self, sequence: Sequence) -> tuple[list[KVBlock], list[bytes]]:
        """What is in memory of a prompt, and what follows on disk."""
        hashes = sequence.hashes[: (len(sequence.token_ids) - 1) // BLOCK_TOKENS]
        known = known_blocks(self._pool, hashes)
        wanted = self._readable(hashes[len(known) :])
        partial_hash = self._partial(sequence, hashes, len(known) + len(wanted))
        return known, [*wanted, partial_hash] if partial_hash else wanted

    def _up_to_checkpoint(self, sequence: Sequence) -> tuple[list[KVBlock], list[bytes]]:
        """What is in memory of a prompt up to its last checkpoint, and what the disk has."""
        places = sequence.places
        hashes = sequence.hashes[: places[0].num_blocks if places else 0]
        known = known_blocks(self._pool, hashes)
        num_there = len(known) + len(self._readable(hashes[len(known) :]))
        in_memory = match_checkpoint(self._pool, hashes, places).num_tokens
        for place in places:
            if place.num_tokens <= in_memory:
                break
            checkpoint = self._pool.lookup(place.name)
            is_there = checkpoint is not None or self._tier.can_read(place.name)
            if place.num_blocks <= num_there and is_there:
                known = known[: place.num_blocks]
                return known, [*hashes[len(known) : place.num_blocks], place.name]
        return [], []

    def _readable(self, hashes: Items[bytes]) -> list[bytes]:
        names: list[bytes] = []
        for name in hashes:
            if not self._tier.can_read(name):
                break
            names.append(name)
        return names

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
        return name if self._tier.can_read(name) else None

    def _read(self, names: list[bytes], arrival: Arrival, ended: Callable[[Arrival], None]) -> None:
        """Reads a chain block by block: one is put into place while the next one is read.

        Args:
            names: Of the chain's blocks.
            arrival: Takes them.
            ended: Called once, when no more will come.
        """
        last = len(names) - 1

        def take(index: int, records: Items[BlockRecord]) -> None:
            arrival.take(records)
            if index == last:
                ended(arrival)

        for index, name in enumerate(names):
            self._tier.read([name], partial(self._pass_on, partial(take, index)))

    def _pass_on(
        self, take: Callable[[Items[BlockRecord]], None], records: Items[BlockRecord]
    ) -> None:
        self._post(lambda: take(records))

    def _restored(self, sequence: Sequence, arrival: Arrival) -> None:
        """What could be read is in the pool, held by the sequence until it is admitted."""
        sequence.is_restoring = False
        now_s = self._clock()
        sequence.timer.enter(Phase.QUEUE, now_s)
        seconds = self.reads.end(sequence, arrival.num_read_tokens, now_s)
        if arrival.is_given_up():
            return
        num_tokens = arrival.num_placed_tokens
        sequence.num_restored_tokens += num_tokens
        if num_tokens:
            self._note(
                "restore",
                f"{sequence.agent.agent_id}: {num_tokens} tokens from disk in {seconds:.2f} s",
                **whose(sequence),
                num_tokens=num_tokens,
                seconds=round(seconds, 6),
            )
        # Without its checkpoint the rest is of no use, but an earlier one may be there.
        is_cut_short = arrival.is_cut and arrival.has_room
        if self._spec.needs_checkpoints and is_cut_short and sequence.num_reads < MAX_READS:
            self.prefetch(sequence)

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
            raise NotOnDiskError(agent.agent_id, is_in_memory=bool(agent.token_ids))
        self.reads.begin(agent, saved.num_tokens, self._clock())
        arrival = Arrival([], 0, self._placer, is_given_up=lambda: False)
        self._read(list(saved.block_hashes), arrival, partial(self._warmed, agent, done))

    def _warmed(self, agent: Agent, done: Callable[[int], None], arrival: Arrival) -> None:
        self.reads.end(agent, arrival.num_read_tokens, self._clock())
        table = arrival.table
        token_ids = tuple(token for block in table for token in block.token_ids)
        is_gone = self._agents.find(agent.agent_id, agent.namespace) is not agent
        # A turn may have started or ended meanwhile; what it left is newer.
        if is_gone or agent.num_active or len(agent.token_ids) >= len(token_ids):
            self._pool.release_table(table)
        else:
            self._agents.store(agent, table, token_ids)
            self._note("warm", f"{agent.agent_id}: {len(token_ids)} tokens from disk")
        done(len(agent.token_ids))


def _num_tokens(sequence: Sequence, names: Items[bytes]) -> int:
    """Tokens of the blocks of those names; the last one may be a tail or a checkpoint."""
    if names[-1] in sequence.hashes:
        return len(names) * BLOCK_TOKENS
    num_before = (len(names) - 1) * BLOCK_TOKENS
    for place in sequence.places:
        if place.name == names[-1]:
            return num_before + place.num_rest
    saved = sequence.agent.saved
    is_tail = saved is not None and saved.tail_token_ids and saved.block_hashes[-1] == names[-1]
    return num_before + (len(saved.tail_token_ids) if saved and is_tail else BLOCK_TOKENS)
