"""What the disk thread has to do: reads first, then writes in the order they came."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.cache.disk.records import AgentRecord, BlockRecord

BlocksRead = Callable[[tuple[BlockRecord, ...]], None]
"""Takes the blocks that were read, up to the first that is missing."""

AgentSaved = Callable[[AgentRecord], None]
"""Takes an agent as it is durably on disk now."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadBlocks:
    """Read blocks in order and hand them over."""

    block_hashes: tuple[bytes, ...]
    done: BlocksRead


@dataclass(frozen=True, slots=True, eq=False)
class WriteBlock:
    """Write one block."""

    record: BlockRecord


@dataclass(frozen=True, slots=True, eq=False)
class SaveAgent:
    """Save one agent, after all blocks that were queued before it."""

    record: AgentRecord
    saved: AgentSaved | None


@dataclass(frozen=True, slots=True, eq=False)
class ForgetAgent:
    """Forget one agent, and remove those of the unwanted blocks that nobody else needs."""

    agent_id: str
    unwanted: tuple[bytes, ...] = ()
    namespace: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ForgetBlocks:
    """Remove blocks whose content must not be used any more, and with them, maybe, what follows.

    Where there is a reason to distrust their files, these are set aside instead.
    """

    block_hashes: tuple[bytes, ...]
    with_followers: bool = False
    distrust: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TouchBlocks:
    """Make blocks the most recently used ones."""

    block_hashes: tuple[bytes, ...]


Write = WriteBlock | SaveAgent | ForgetAgent | ForgetBlocks | TouchBlocks
_Key = tuple[str, object]


class WorkQueue:
    """Bounded in bytes, thread-safe; nobody waits in it but the disk thread."""

    def __init__(self, max_pending_bytes: int) -> None:
        """Makes an empty queue.

        Args:
            max_pending_bytes: Bytes of blocks it takes; one block is always taken.
        """
        self._max_pending_bytes = max_pending_bytes
        self._changed = threading.Condition()
        self._reads: deque[ReadBlocks] = deque()
        # By key, so that a newer state of an agent takes the place of the older one.
        self._writes: OrderedDict[_Key, Write] = OrderedDict()
        self._is_closing = False
        self._forgetting: Counter[bytes] = Counter()
        self.num_blocks = 0
        self.num_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no further block is taken now."""
        return self.num_blocks > 0 and self.num_bytes >= self._max_pending_bytes

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is taken."""
        return self._is_closing

    def has_block(self, block_hash: bytes) -> bool:
        """Whether a block waits to be written."""
        return ("block", block_hash) in self._writes

    def is_forgetting(self, block_hash: bytes) -> bool:
        """Whether a block waits to be removed; what waits to be written is newer."""
        return self._forgetting[block_hash] > 0

    def block(self, block_hash: bytes) -> BlockRecord | None:
        """A block that waits to be written, or None."""
        write = self._writes.get(("block", block_hash))
        return write.record if isinstance(write, WriteBlock) else None

    def put_read(self, read: ReadBlocks) -> bool:
        """Queues a read; False when the queue is closing."""
        with self._changed:
            if self._is_closing:
                return False
            self._reads.append(read)
            self._changed.notify()
            return True

    def put_block(self, record: BlockRecord) -> bool:
        """Queues a block that is not queued yet; False when there is no room for it now."""
        with self._changed:
            num_bytes = self.num_bytes + record.num_bytes
            is_full = self.num_blocks > 0 and num_bytes > self._max_pending_bytes
            if self._is_closing or is_full:
                return False
            self._writes[("block", record.block_hash)] = WriteBlock(record)
            self.num_blocks += 1
            self.num_bytes = num_bytes
            self._changed.notify()
            return True

    def put_forget(self, forget: ForgetBlocks) -> None:
        """Queues a removal; those of the blocks that wait to be written are not written."""
        with self._changed:
            for block_hash in forget.block_hashes:
                waiting = self._writes.pop(("block", block_hash), None)
                if isinstance(waiting, WriteBlock):
                    self.num_blocks -= 1
                    self.num_bytes -= waiting.record.num_bytes
            if self._is_closing:
                return
            self._writes[_key(forget)] = forget
            self._forgetting.update(forget.block_hashes)
            self._changed.notify()

    def put(self, write: SaveAgent | ForgetAgent | TouchBlocks) -> bool:
        """Queues a small thing; what it supersedes is dropped. False when closing."""
        with self._changed:
            if self._is_closing:
                return False
            key = _key(write)
            self._writes.pop(key, None)
            self._writes[key] = write
            self._changed.notify()
            return True

    def take_read(self) -> ReadBlocks | None:
        """The oldest read, which leaves the queue."""
        with self._changed:
            return self._reads.popleft() if self._reads else None

    def first_writes(self) -> tuple[Write, ...]:
        """What to write next: one block, or all small things up to the next block.

        They stay in the queue until ``finish``.
        """
        with self._changed:
            writes: list[Write] = []
            for write in self._writes.values():
                if isinstance(write, WriteBlock):
                    return tuple(writes) or (write,)
                writes.append(write)
            return tuple(writes)

    @property
    def has_work(self) -> bool:
        """Whether anything is queued."""
        return bool(self._reads or self._writes)

    def finish(self, write: Write) -> None:
        """Removes a write that was done, unless something newer has taken its place."""
        with self._changed:
            key = _key(write)
            if self._writes.get(key) is not write:
                return
            del self._writes[key]
            if isinstance(write, WriteBlock):
                self.num_blocks -= 1
                self.num_bytes -= write.record.num_bytes
            elif isinstance(write, ForgetBlocks):
                self._forgetting.subtract(write.block_hashes)
                self._forgetting += Counter()  # drops what is not wanted any more

    def wait(self, timeout_s: float | None, *, for_writes: bool) -> None:
        """Waits until there is something to do or the queue is closing.

        Args:
            timeout_s: At most so long; None waits without limit.
            for_writes: Whether a queued write is something to do now.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: bool(self._reads or (for_writes and self._writes) or self._is_closing),
                timeout_s,
            )

    def close(self) -> None:
        """Takes nothing more from now on; what is queued stays."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()


def _key(write: Write) -> _Key:
    match write:
        case WriteBlock(record):
            return "block", record.block_hash
        case SaveAgent(record):
            return "agent", (record.namespace, record.agent_id)
        case ForgetAgent(agent_id, _, namespace):
            return "agent", (namespace, agent_id)
        case ForgetBlocks():
            return "forget", id(write)
        case TouchBlocks(block_hashes):
            return "touch", block_hashes
