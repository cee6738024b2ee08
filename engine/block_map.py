"""The block map: what every slot of the pool holds, where else that is, and whose it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.cache.agent import Agent
from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.persistence import Persistence
from engine.sequence import Sequence as Turn
from engine.snapshot import NO_OWNER, BlockState, BlockTier

MAX_OWNERS = NO_OWNER
"""Owners are one byte; agents further down share numbers."""
MAX_LOOKS = 1024
"""So many slots are asked each time whether the disk has them now, and as many whether it has
them still; in larger pools the others have to wait for their turn."""

_NOBODY = -1
_SEVERAL = -2


@dataclass(frozen=True, slots=True)
class BlockMap:
    """Who holds which block.

    Attributes:
        states: One ``BlockState`` per slot.
        owners: One owner per slot that one agent holds, or ``NO_OWNER``.
        tiers: One ``BlockTier`` per slot.
        num_running: Slots that pay for running sequences.
    """

    states: bytes
    owners: bytes
    tiers: bytes
    num_running: int

    def num_shared(self, table: Iterable[KVBlock]) -> int:
        """How many slots of a table other agents hold too."""
        return sum(b.num_slots for b in table if self.states[b.block_id] == BlockState.SHARED)


class BlockMapDrawer:
    """Draws the map anew where the pool changed. Belongs to the engine's thread."""

    def __init__(self, pool: BlockPool, persistence: Persistence | None) -> None:
        """Starts with a pool of which nothing was drawn.

        Args:
            pool: The pool.
            persistence: Knows what is on disk; None without a warm tier.
        """
        self._pool = pool
        self._persistence = persistence
        self._states = np.zeros(pool.num_total_blocks, np.uint8)
        self._tiers = np.zeros(pool.num_total_blocks, np.uint8)
        self._holders = np.full(pool.num_total_blocks, _NOBODY, np.int32)
        self._unsaved: OrderedDict[int, None] = OrderedDict()
        self._next_look = 0
        self._rows = np.full(1, NO_OWNER, np.uint8)
        self._agents: dict[int, Agent] = {}

    def number(self, order: Sequence[Agent]) -> None:
        """Takes note of the order in which the snapshot has its agents."""
        self._agents = {agent.number: agent for agent in order}
        numbers = np.fromiter((agent.number for agent in order), np.int64, len(order))
        # The last entry stands for nobody: it is what index -1 finds.
        self._rows = np.full(numbers.max(initial=-1) + 2, NO_OWNER, np.uint8)
        self._rows[numbers] = np.arange(len(order)) % MAX_OWNERS

    def draw(self, turns: Iterable[Turn]) -> BlockMap:
        """The map as it is now.

        Args:
            turns: Every sequence, running or waiting.
        """
        self._redraw(self._pool.changed)
        self._pool.changed = set()
        if self._persistence is not None:
            self._look_for_saved()
        states, holders = self._states.copy(), self._holders.copy()
        num_running = self._add_turns(turns, states, holders)
        return BlockMap(
            states.tobytes(), self._rows[holders].tobytes(), self._tiers.tobytes(), num_running
        )

    def _redraw(self, block_ids: Iterable[int]) -> None:
        heads = []
        for block_id in block_ids:
            block = self._pool[block_id]
            self._draw_block(block)
            if block.more_slots:
                heads.append(block)
        # Last: on their own, its other slots look free.
        for head in heads:
            self._draw_block(head)

    def _draw_block(self, block: KVBlock) -> None:
        state = self._state(block, block.ref_count)
        holder = block.holder_sum if block.num_agent_holds == 1 else _NOBODY
        tier = self._tier(block, state)
        if len(block.more_slots) == 0:
            self._states[block.block_id] = state
            self._tiers[block.block_id] = tier
            self._holders[block.block_id] = holder
            return
        slots = _slots(block)
        self._states[slots] = state
        self._tiers[slots] = tier
        self._holders[slots] = holder

    def _state(self, block: KVBlock, num_holders: int) -> BlockState:
        if block.ref_count == 0:
            return BlockState.CACHED if block.block_hash is not None else BlockState.FREE
        if block.block_hash is None and block.payload is None:
            return BlockState.CACHED if self._pool.is_spare(block) else BlockState.RUNNING
        if num_holders > 1:
            return BlockState.SHARED
        if block.num_pinned_holds:
            return BlockState.PINNED
        is_unsaved = self._persistence is not None and not self._is_saved(block)
        return BlockState.DIRTY if is_unsaved and block.block_hash is not None else BlockState.HOT

    def _tier(self, block: KVBlock, state: BlockState) -> BlockTier:
        if state is BlockState.FREE:
            return BlockTier.NONE
        if self._is_saved(block):
            return BlockTier.DISK
        if self._persistence is not None and block.payload is not None:
            self._unsaved[block.block_id] = None
        return BlockTier.MEMORY

    def _is_saved(self, block: KVBlock) -> bool:
        if self._persistence is None:
            return False
        name = block.block_hash or self._name_of_tail(block)
        return name is not None and self._persistence.tier.has(name)

    def _name_of_tail(self, block: KVBlock) -> bytes | None:
        """What the disk calls the block at an agent's end, which is not full and has no name here.

        One that a fork shares is not found, and counts as in memory alone.
        """
        agent = self._agents.get(block.holder_sum) if block.num_agent_holds == 1 else None
        saved = agent.saved if agent is not None else None
        if agent is None or saved is None or saved.num_tokens != len(agent.token_ids):
            return None
        is_same = bool(saved.tail_token_ids) and saved.tail_token_ids == block.token_ids
        return saved.block_hashes[-1] if is_same else None

    def _look_for_saved(self) -> None:
        """Asks for blocks that were not on disk, and for some that were."""
        for _ in range(min(MAX_LOOKS, len(self._unsaved))):
            block = self._pool[self._unsaved.popitem(last=False)[0]]
            if block.payload is not None:
                self._draw_block(block)
        num_used = self._pool.num_used_slots
        for block_id in range(self._next_look, min(self._next_look + MAX_LOOKS, num_used)):
            block = self._pool[block_id]
            # The other slots of a long block hold nothing of their own.
            was_saved = self._tiers[block_id] == BlockTier.DISK and block.payload is not None
            if was_saved and not self._is_saved(block):
                self._draw_block(block)
        self._next_look += MAX_LOOKS
        if self._next_look >= num_used:
            self._next_look = 0

    def _add_turns(
        self, turns: Iterable[Turn], states: NDArray[np.uint8], holders: NDArray[np.int32]
    ) -> int:
        """Counts what sequences hold for their agents; returns the slots that pay for them."""
        num_running = 0
        held: dict[int, int] = {}
        for turn in turns:
            number = turn.agent.number
            for block in (*turn.block_table, *turn.restored):
                known = held.setdefault(block.block_id, number)
                if known != number:
                    held[block.block_id] = _SEVERAL
            holders[[block.block_id for block in turn.working_blocks]] = number
            num_running += len(turn.working_blocks)
        for block_id, number in held.items():
            block = self._pool[block_id]
            # An agent and its own turn are one holder.
            is_one = number != _SEVERAL and (
                block.num_agent_holds == 0
                or (block.num_agent_holds == 1 and block.holder_sum == number)
            )
            slots = _slots(block)
            states[slots] = self._state(block, 1 if is_one else 2)
            holders[slots] = number if is_one else _NOBODY
        return num_running


def _slots(block: KVBlock) -> list[int]:
    return [block.block_id, *(slot.block_id for slot in block.more_slots)]
