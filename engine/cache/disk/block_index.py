"""What is on the disk, in memory: blocks, the agents that refer to them, and who goes first."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.records import AgentRecord

FRESH_S = 900.0
"""A block that was used within so many seconds counts as wanted even if no agent refers to it."""

AgentKey = tuple[str, str, str]
"""Name of the space, namespace and id of the agent."""


@dataclass(slots=True)
class BlockEntry:
    """A block file.

    Attributes:
        space_name: Folder it lies in.
        parent_hash: Hash of the block before it.
        num_tokens: Its tokens; fewer than 256 in a tail or a checkpoint.
        size_bytes: Size of the file.
        last_use_time: When it was last written, read or touched; wall-clock seconds.
    """

    space_name: str
    parent_hash: bytes
    num_tokens: int
    size_bytes: int
    last_use_time: float


class BlockIndex:
    """Blocks by hash, agents by id. Belongs to the disk thread; others may only ask ``in``.

    Every change is also remembered as unsaved, until the database has taken it.
    """

    def __init__(self) -> None:
        """Makes an empty index."""
        self.entries: dict[bytes, BlockEntry] = {}
        self.agents: dict[AgentKey, AgentRecord] = {}
        self.num_bytes = 0
        self.unsaved_blocks: set[bytes] = set()
        self.unsaved_agents: set[AgentKey] = set()
        self._num_children: Counter[bytes] = Counter()
        self._num_refs: Counter[bytes] = Counter()
        self._num_history_refs: Counter[bytes] = Counter()
        self._num_pins: Counter[bytes] = Counter()

    def __contains__(self, block_hash: bytes) -> bool:
        """Whether a block's file is on disk. One dict lookup: safe from any thread."""
        return block_hash in self.entries

    def __len__(self) -> int:
        """Number of block files."""
        return len(self.entries)

    def load(
        self, blocks: Mapping[bytes, BlockEntry], agents: Mapping[AgentKey, AgentRecord]
    ) -> None:
        """Takes what the database and the folders agreed on as already saved."""
        for block_hash, entry in blocks.items():
            self.add(block_hash, entry)
        for key, record in agents.items():
            self.put_agent(key, record)
        self.unsaved_blocks.clear()
        self.unsaved_agents.clear()

    def add(self, block_hash: bytes, entry: BlockEntry) -> None:
        """Adds a block whose file is there."""
        self.drop(block_hash)
        self.entries[block_hash] = entry
        self.num_bytes += entry.size_bytes
        self._num_children[entry.parent_hash] += 1
        self.unsaved_blocks.add(block_hash)

    def drop(self, block_hash: bytes) -> BlockEntry | None:
        """Forgets a block.

        Returns:
            Its entry; None if it was not known.
        """
        entry = self.entries.pop(block_hash, None)
        if entry is not None:
            self.num_bytes -= entry.size_bytes
            _count(self._num_children, [entry.parent_hash], -1)
            self.unsaved_blocks.add(block_hash)
        return entry

    def touch(self, block_hashes: Iterable[bytes], time: float) -> None:
        """Makes blocks the most recently used ones."""
        for block_hash in block_hashes:
            entry = self.entries.get(block_hash)
            if entry is not None and entry.last_use_time < time:
                entry.last_use_time = time
                self.unsaved_blocks.add(block_hash)

    def put_agent(self, key: AgentKey, record: AgentRecord) -> None:
        """Adds or replaces an agent."""
        self.drop_agent(key)
        self.agents[key] = record
        self._count_table(record, +1)
        self.unsaved_agents.add(key)

    def drop_agent(self, key: AgentKey) -> AgentRecord | None:
        """Forgets an agent; its blocks stay.

        Returns:
            What it was; None if it was not known.
        """
        record = self.agents.pop(key, None)
        if record is not None:
            self._count_table(record, -1)
            self.unsaved_agents.add(key)
        return record

    def _count_table(self, record: AgentRecord, step: int) -> None:
        _count(self._num_refs, record.block_hashes, step)
        _count(self._num_history_refs, record.checkpoint_hashes, step)
        if record.pinned:
            _count(self._num_pins, record.block_hashes, step)

    def mark_unsaved(self) -> None:
        """Marks everything as unsaved, for a new database."""
        self.unsaved_blocks |= self.entries.keys()
        self.unsaved_agents |= self.agents.keys()

    def whole_part(self, record: AgentRecord, root_hash: bytes) -> AgentRecord:
        """An agent cut before the first block that is not on disk or not in its place."""
        parent_hash = root_hash
        num_tokens = 0
        for num_blocks, block_hash in enumerate(record.block_hashes):
            entry = self.entries.get(block_hash)
            # A block of fewer than 256 tokens can only be the last.
            follows = num_tokens == num_blocks * BLOCK_TOKENS
            if entry is None or entry.parent_hash != parent_hash or not follows:
                return record.cut(num_blocks, num_tokens)
            parent_hash = block_hash
            num_tokens += entry.num_tokens
        if num_tokens != record.num_tokens:
            return record.cut(0, 0)
        return record

    def is_garbage(self, block_hash: bytes) -> bool:
        """Whether a block is a tail or checkpoint that no agent can go back to any more."""
        entry = self.entries.get(block_hash)
        return (
            entry is not None
            and entry.num_tokens < BLOCK_TOKENS
            and self._num_refs[block_hash] == 0
            and self._num_history_refs[block_hash] == 0
        )

    def unneeded(self, block_hashes: Sequence[bytes]) -> list[bytes]:
        """Those blocks of a chain that no agent refers to and that none else follows.

        Args:
            block_hashes: Blocks, each after the one it follows.

        Returns:
            The ends of chains before their beginnings.
        """
        num_gone: Counter[bytes] = Counter()
        chosen: list[bytes] = []
        for block_hash in reversed(block_hashes):
            entry = self.entries.get(block_hash)
            num_refs = self._num_refs[block_hash] + self._num_history_refs[block_hash]
            has_children = self._num_children[block_hash] > num_gone[block_hash]
            if entry is not None and not num_refs and not has_children:
                chosen.append(block_hash)
                num_gone[entry.parent_hash] += 1
        return chosen

    def followers(self, block_hashes: Iterable[bytes]) -> list[bytes]:
        """Every block that comes after one of the given ones; looks through all blocks."""
        children: dict[bytes, list[bytes]] = {}
        for name, entry in self.entries.items():
            children.setdefault(entry.parent_hash, []).append(name)
        found: list[bytes] = []
        left = list(block_hashes)
        while left:
            after = children.get(left.pop(), [])
            found += after
            left += after
        return found

    def victims(self, num_bytes: int, spare_bytes: int, now: float) -> list[bytes]:
        """Blocks to remove for room.

        Those nobody refers to first, then checkpoints of turns that are past, then the rest; among
        them those that were not used for longest.
        The ends of chains go before their beginnings; blocks of pinned agents never go.

        Args:
            num_bytes: What must become free.
            spare_bytes: What more to free, so that the next block need not ask again.
            now: Wall-clock seconds.

        Returns:
            The blocks in order; empty when even all of them together would not be enough.
        """
        # A turn in progress writes blocks before any agent refers to them.
        fresh_since = now - FRESH_S
        heap = [
            self._rank(block_hash, fresh_since)
            for block_hash in self.entries
            if self._num_children[block_hash] == 0 and self._num_pins[block_hash] == 0
        ]
        heapq.heapify(heap)
        num_gone: Counter[bytes] = Counter()
        chosen: list[bytes] = []
        num_freed = 0
        while heap and num_freed < num_bytes + spare_bytes:
            block_hash = heapq.heappop(heap)[-1]
            entry = self.entries[block_hash]
            chosen.append(block_hash)
            num_freed += entry.size_bytes
            parent_hash = entry.parent_hash
            num_gone[parent_hash] += 1
            is_end = self._num_children[parent_hash] == num_gone[parent_hash]
            if is_end and parent_hash in self.entries and self._num_pins[parent_hash] == 0:
                heapq.heappush(heap, self._rank(parent_hash, fresh_since))
        return chosen if num_freed >= num_bytes else []

    def _rank(self, block_hash: bytes, fresh_since: float) -> tuple[int, float, bytes]:
        last_use_time = self.entries[block_hash].last_use_time
        is_wanted = self._num_refs[block_hash] > 0 or last_use_time > fresh_since
        is_past = self._num_history_refs[block_hash] > 0
        return 2 if is_wanted else int(is_past), last_use_time, block_hash


def _count(counter: Counter[bytes], keys: Iterable[bytes], step: int) -> None:
    for key in keys:
        counter[key] += step
        if counter[key] == 0:
            del counter[key]
