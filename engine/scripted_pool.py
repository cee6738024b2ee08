"""The block pool of a scripted world: who holds which block, and what may be reused."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping

from engine.snapshot import NO_OWNER, BlockState, BlockTier


class ScriptedPool:
    """Blocks by number. A block is free, cached (held by nobody, reusable) or held by agents."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._holders: list[set[str]] = [set() for _ in range(num_blocks)]
        self._free = deque(range(num_blocks))
        self._cached: dict[int, None] = {}

    @property
    def num_free(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    @property
    def num_cached(self) -> int:
        """Blocks nobody holds that are still reusable."""
        return len(self._cached)

    @property
    def num_obtainable(self) -> int:
        """Blocks that can be had without evicting an agent."""
        return len(self._free) + len(self._cached)

    @property
    def num_shared(self) -> int:
        """Blocks held by more than one agent."""
        return sum(len(holders) > 1 for holders in self._holders)

    def take(self, agent_id: str, count: int) -> list[int]:
        """Gives an agent up to ``count`` blocks: free ones first, then the oldest cached."""
        taken: list[int] = []
        while len(taken) < count and self.num_obtainable:
            if self._free:
                block = self._free.popleft()
            else:
                block = next(iter(self._cached))
                del self._cached[block]
            self._holders[block].add(agent_id)
            taken.append(block)
        return taken

    def share(self, agent_id: str, blocks: Collection[int]) -> None:
        """Makes an agent one more holder of blocks that are already filled."""
        for block in blocks:
            self._cached.pop(block, None)
            self._holders[block].add(agent_id)

    def drop(self, agent_id: str, blocks: Collection[int], *, keep: bool) -> int:
        """Takes an agent's hold off blocks; ``keep`` leaves them cached, else they are free.

        Returns:
            The number of blocks that nobody holds now.
        """
        num_released = 0
        for block in blocks:
            self._holders[block].discard(agent_id)
            if self._holders[block]:
                continue
            num_released += 1
            if keep:
                self._cached[block] = None
            else:
                self._free.append(block)
        return num_released

    def num_shared_of(self, blocks: Collection[int]) -> int:
        """How many of these blocks have more than one holder."""
        return sum(len(self._holders[block]) > 1 for block in blocks)

    def block_map(
        self,
        order: Mapping[str, int],
        active: Collection[str],
        pinned: Collection[str],
        pending: Collection[int],
        stored: Collection[int],
    ) -> tuple[bytes, bytes, bytes]:
        """States, owners and tiers, one byte per block.

        Args:
            order: Index of each agent in the snapshot's rows.
            active: Agents that generate.
            pinned: Agents that are pinned.
            pending: Blocks that wait to be written to disk.
            stored: Blocks whose content is on disk too.
        """
        states = bytearray(self.num_blocks)
        owners = bytearray([NO_OWNER]) * self.num_blocks
        tiers = bytearray(self.num_blocks)
        for block, holders in enumerate(self._holders):
            if holders or block in self._cached:
                tiers[block] = BlockTier.DISK if block in stored else BlockTier.MEMORY
            if not holders:
                if block in self._cached:
                    states[block] = BlockState.CACHED
                continue
            owner = min(holders, key=order.__getitem__)
            owners[block] = order[owner] % NO_OWNER
            state = _held_state(holders, owner, active, pinned)
            is_dirty = state is BlockState.HOT and block in pending
            states[block] = BlockState.DIRTY if is_dirty else state
        return bytes(states), bytes(owners), bytes(tiers)


def _held_state(
    holders: set[str], owner: str, active: Collection[str], pinned: Collection[str]
) -> BlockState:
    if len(holders) > 1:
        return BlockState.SHARED
    if owner in active:
        return BlockState.RUNNING
    return BlockState.PINNED if owner in pinned else BlockState.HOT
