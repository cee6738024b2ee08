"""Where a sequence's KV lives: blocks of the pool become its cache, its cache becomes blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.block import BLOCK_TOKENS, KVBlock
from engine.cache.checkpoint import counts_to_make, places_at, sequence_slots
from engine.cache.earlier_context import earlier_context, repeated_prompt
from engine.cache.pool import BlockPool
from engine.cache.prefix import PrefixMatch
from engine.cache.spec import CacheSpec
from engine.cache.standing import MIN_STANDING_TOKENS, Standing
from engine.cache_mover import CacheMover
from engine.cutter import Cutter
from engine.relief import Relief
from engine.restorer import Restorer
from engine.sequence import Sequence
from engine.spare_work import SpareWork


class Residency:
    """Finds, makes and keeps room for sequences. Belongs to the engine's thread."""

    def __init__(
        self,
        pool: BlockPool,
        agents: AgentStore,
        mover: CacheMover,
        relief: Relief,
        spec: CacheSpec,
        spare: SpareWork,
        *,
        reuses: bool,
    ) -> None:
        """Wires the parts.

        Args:
            pool: Pays for everything.
            agents: Hold caches between turns.
            mover: Moves the KV.
            relief: Makes room.
            spec: What the model's cache looks like.
            spare: Leaves out what there is no memory for.
            reuses: Whether the model's cache may be cut and restored.
        """
        self._pool = pool
        self._agents = agents
        self._mover = mover
        self._spec = spec
        self.relief = relief
        self.cutter = Cutter(pool, mover, spec, spare)
        self.restorer = Restorer(pool, mover, spec, spare, reuses=reuses)

    def can_ever_hold(self, num_tokens: int, agent_id: str | None, namespace: str = "") -> bool:
        """Whether a sequence of that length fits once everything that may go is gone.

        Args:
            num_tokens: Its length.
            agent_id: Whose it is; what that agent itself has pinned is not in the way.
            namespace: Whose agent it is.
        """
        num_pinned = self._pool.num_pinned_blocks
        agent = self._agents.find(agent_id, namespace) if agent_id is not None else None
        if agent is not None and agent.pinned:
            own = (block for block in agent.block_table if block.num_pinned_holds == 1)
            num_pinned -= sum(block.num_slots for block in own)
        num_needed = sequence_slots(self._spec, num_tokens)
        return num_needed <= self._pool.num_total_blocks - num_pinned

    def _num_missing(self, sequence: Sequence) -> int:
        """Working blocks a sequence needs for the tokens it has now, and has not."""
        num_needed = sequence_slots(self._spec, len(sequence.token_ids))
        return max(0, num_needed - len(sequence.working_blocks))

    def look_up(self, sequence: Sequence) -> None:
        """Makes known what the parts of a sequence's context are called in the cache."""
        if not self.restorer.reuses:
            return
        sequence.know_hashes(len(sequence.token_ids))
        known_for = (sequence.agent.num_turns, len(sequence.token_ids))
        if not self._spec.needs_checkpoints or sequence.places_known_for == known_for:
            return
        parts = sequence.request.parts
        sequence.stops = counts_to_make(parts, sequence.num_prompt_tokens)
        counts = {
            *sequence.stops,
            sequence.preempted_at,
            *(part.start_token for part in parts),
            *sequence.agent.history.token_counts,
        }
        sequence.places = places_at(sequence.root_hash, sequence.hashes, sequence.token_ids, counts)
        sequence.places_known_for = known_for

    def admit(self, sequence: Sequence, sequences: Iterable[Sequence]) -> bool:
        """Makes room for a sequence and restores what is known of it.

        Args:
            sequence: A waiting sequence.
            sequences: All sequences; second copies that the others hold may be given up.

        Returns:
            False when there is no room now; then nothing has changed for the sequence.
        """
        self.look_up(sequence)
        match = self.restorer.match(sequence)
        if sequence.num_generated_tokens == 0:
            self._compare(sequence, match)
        end = [match.partial] if match.partial is not None else []
        sequence.block_table = [self._pool.acquire(block) for block in (*match.blocks, *end)]
        caches = self._go_on(sequence, match)
        num_needed = self._num_missing(sequence)
        others = [other for other in sequences if other is not sequence]
        if self.relief.make_room(num_needed, others):
            if caches is None:
                caches = self.restorer.restore(sequence, match)
            # The sequence goes on from the end in its own cache; no full block is there yet.
            self._pool.release_table(sequence.block_table[len(match.blocks) :])
            del sequence.block_table[len(match.blocks) :]
        elif self._makes_room_in_place(sequence, num_needed):
            caches = self._restore_in_place(sequence, match, num_needed)
        else:
            self._give_up_table(sequence)
            return False
        sequence.lacked_memory = caches is None
        if caches is None:
            match, caches = PrefixMatch(), self._mover.new_cache()
            self._give_up_table(sequence)
            sequence.num_restored_tokens = 0
        sequence.working_blocks += [self._pool.allocate() for _ in range(num_needed)]
        sequence.caches = caches
        self._pool.release_table(sequence.restored)
        sequence.restored = []
        sequence.num_computed_tokens = match.num_tokens
        sequence.has_reused = sequence.has_reused or match.num_tokens > 0
        if sequence.num_generated_tokens == 0:
            sequence.num_cached_tokens = match.num_tokens
        return True

    def _give_up_table(self, sequence: Sequence) -> None:
        self._pool.release_table(sequence.block_table)
        sequence.block_table = []

    def _go_on(self, sequence: Sequence, match: PrefixMatch) -> Any | None:
        """The cache of the agent's last turn, where the sequence can go on in it as it is.

        Otherwise that cache goes: at the end of this turn there will be another.
        """
        standing = self._agents.standing.take(sequence.agent)
        if standing is None:
            return None
        is_exact = self._spec.needs_checkpoints
        goes_on = match.num_tokens > 0 and standing.begins(
            sequence.token_ids, match.num_tokens, is_exact=is_exact
        )
        num_paid = len(standing.working_blocks)
        if not goes_on or not self._pool.can_allocate(self._num_missing(sequence) - num_paid):
            self._pool.release_table(standing.working_blocks)
            return None
        sequence.working_blocks += standing.working_blocks
        if len(standing.token_ids) > match.num_tokens:
            self._mover.trim(standing.caches, match.num_tokens)
        return standing.caches

    def _leave_standing(self, sequence: Sequence) -> None:
        """Keeps a finished sequence's cache as it is beside its blocks, if nobody needs the room.

        Args:
            sequence: Its blocks are made; the working blocks that are left pay for its cache.
        """
        num_tokens = sequence.num_computed_tokens
        num_slots = sequence_slots(self._spec, num_tokens)
        working = sequence.working_blocks
        num_more = num_slots - len(working)
        num_free = self._pool.num_free_blocks - self._pool.num_withheld_blocks
        if num_tokens < MIN_STANDING_TOKENS or num_more > num_free:
            return
        working += [self._pool.allocate() for _ in range(num_more)]
        paying, sequence.working_blocks = working[:num_slots], working[num_slots:]
        token_ids = tuple(sequence.token_ids[:num_tokens])
        standing = Standing(sequence.caches, token_ids, paying)
        self._agents.standing.keep(sequence.agent, standing)

    def _compare(self, sequence: Sequence, match: PrefixMatch) -> None:
        """Holds the prompt against what is known of the agent, while that is still there."""
        agent, prompt = sequence.agent, sequence.request.prompt_token_ids
        if not self.restorer.reuses:
            sequence.earlier = repeated_prompt(agent, prompt)
            return
        sequence.earlier = earlier_context(agent, prompt, sequence.hashes, match)
        # What was read follows what was there; the prompt may need only the beginning of both.
        num_ahead = sum(len(block.token_ids) for block in sequence.restored)
        num_hot = max(0, num_ahead - sequence.num_restored_tokens)
        sequence.num_restored_tokens = min(
            sequence.num_restored_tokens, max(0, match.num_tokens - num_hot)
        )

    def _makes_room_in_place(self, sequence: Sequence, num_needed: int) -> bool:
        """Whether there is room once the blocks are given up that a sequence is restored from."""
        given_up = [*sequence.block_table, *sequence.restored, *sequence.agent.block_table]
        return self.relief.would_do(num_needed, given_up)

    def _restore_in_place(
        self, sequence: Sequence, match: PrefixMatch, num_needed: int
    ) -> Any | None:
        """Restores and gives the blocks up that were restored from, where only that makes room."""
        caches = self.restorer.restore(sequence, match)
        for table in (sequence.block_table, sequence.restored):
            self._pool.release_table(table)
        sequence.block_table, sequence.restored = [], []
        self._agents.store(sequence.agent, [], ())
        self.relief.make_room(num_needed, ())
        return caches

    def num_known_tokens(self, sequence: Sequence) -> int:
        """How much of a sequence is computed, or can be had; all, while that is not known yet."""
        if sequence.caches is not None:
            return sequence.num_computed_tokens
        if sequence.is_restoring:
            return len(sequence.token_ids)
        return self.restorer.match(sequence).num_tokens

    def grow(self, sequence: Sequence, sequences: Iterable[Sequence]) -> bool:
        """Pays for the tokens a sequence has now; False when there is no room."""
        num_needed = self._num_missing(sequence)
        if not self.relief.make_room(num_needed, sequences):
            return False
        sequence.working_blocks += [self._pool.allocate() for _ in range(num_needed)]
        return True

    def num_tokens_to_stop(self, sequence: Sequence) -> int:
        """Tokens up to the next place of a prompt where something is to be shared."""
        start = sequence.num_computed_tokens
        to_block = BLOCK_TOKENS - start % BLOCK_TOKENS
        return min([to_block, *(stop - start for stop in sequence.stops if stop > start)])

    def share_computed_block(self, sequence: Sequence) -> None:
        """Publishes the block or checkpoint a sequence has just come to the end of."""
        if self.restorer.shares(sequence):
            self.cutter.share_block(sequence)
            self.cutter.share_checkpoint(sequence)

    def keep(self, sequence: Sequence) -> None:
        """Turns a finished sequence's cache into its agent's blocks.

        An agent that had more than the sequence got to compute, or than there is memory to keep,
        keeps what it had.
        """
        agent = sequence.agent
        num_tokens = sequence.num_computed_tokens
        is_kept = self.restorer.shares(sequence) and num_tokens > 0
        if is_kept and not _agent_has_more(agent, sequence, num_tokens):
            table = self.cutter.to_blocks(sequence, num_tokens)
            num_kept = sum(len(block.token_ids) for block in table)
            if num_kept < num_tokens and _agent_has_more(agent, sequence, num_kept):
                self._pool.release_table(table)
            else:
                self._store(sequence, table, num_kept)
        self.release(sequence)

    def _store(self, sequence: Sequence, table: list[KVBlock], num_kept: int) -> None:
        is_whole = num_kept == sequence.num_computed_tokens
        sequence.num_kept_tokens = num_kept
        sequence.has_checkpoint = self._spec.needs_checkpoints and is_whole
        self._agents.store(sequence.agent, table, tuple(sequence.token_ids[:num_kept]))
        if is_whole:
            self._leave_standing(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Takes a running sequence's room away; what it computed stays reusable for a while."""
        if self.restorer.shares(sequence) and sequence.num_computed_tokens > 0:
            table = self.cutter.to_blocks(sequence, sequence.num_computed_tokens)
            sequence.preempted_at = sequence.num_computed_tokens
            sequence.places_known_for = None
            self._pool.release_table(table)
        self.release(sequence)
        sequence.num_computed_tokens = 0

    def release(self, sequence: Sequence) -> None:
        """Gives back everything a sequence holds."""
        self._pool.release_table(sequence.block_table)
        self._pool.release_table(sequence.working_blocks)
        self._pool.release_table(sequence.restored)
        sequence.block_table = []
        sequence.restored = []
        sequence.working_blocks = []
        sequence.caches = None


def _agent_has_more(agent: Agent, sequence: Sequence, num_tokens: int) -> bool:
    """Whether an agent's cache goes on from a sequence's first tokens."""
    known = agent.token_ids
    begins = tuple(sequence.token_ids[:num_tokens])
    return len(known) > num_tokens and known[:num_tokens] == begins
