"""The memory of a scripted world: who holds which blocks, in the pool and on disk."""

from __future__ import annotations

from collections.abc import Callable

from engine.scripted_cast import BLOCK_BYTES, BLOCK_TOKENS, Actor
from engine.scripted_disk import ScriptedDisk
from engine.scripted_pool import ScriptedPool
from engine.snapshot import AgentStatus

Note = Callable[[str, str, str], None]
"""Adds an event: kind, text, level."""


class ScriptedMemory:
    """Block tables of all actors. Whoever needs room takes it from the longest idle.

    Args:
        num_blocks: Size of the pool.
        actors: Everybody there is; the list is the world's own and grows.
        note: Hears of evictions and restores.
    """

    def __init__(self, num_blocks: int, actors: list[Actor], note: Note) -> None:
        self.pool = ScriptedPool(num_blocks)
        self.disk = ScriptedDisk()
        self.num_evictions = 0
        self._actors = actors
        self._note = note
        self._prefixes: dict[str, list[int]] = {}

    def num_on_disk(self, actor: Actor) -> int:
        """How many blocks of an actor's cache are on disk."""
        return self.disk.num_stored(actor.table) if actor.table else actor.num_stored_blocks

    def attach_prefix(self, actor: Actor) -> None:
        """Gives an actor without blocks those that its prefix has, if others hold them."""
        role = actor.role
        if not role.prefix:
            return
        blocks = self._prefixes.get(role.prefix)
        if blocks is None:
            blocks = self._take(actor, role.prefix_blocks)
            self._prefixes[role.prefix] = blocks
        else:
            self.pool.share(role.agent_id, blocks)
            actor.num_cached = len(blocks) * BLOCK_TOKENS
        actor.table = list(blocks)

    def grow(self, actor: Actor) -> None:
        """Gives an actor the blocks that its context needs."""
        num_blocks = -(-actor.num_context // BLOCK_TOKENS)
        if num_blocks > len(actor.table):
            actor.table += self._take(actor, num_blocks - len(actor.table))

    def cut(self, actor: Actor, num_blocks: int) -> None:
        """Takes all but the first blocks away; they stay reusable."""
        self.pool.drop(actor.role.agent_id, actor.table[num_blocks:], keep=True)
        del actor.table[num_blocks:]

    def drop(self, actor: Actor) -> int:
        """Drops an actor's blocks; what is on disk stays there.

        Returns:
            The bytes freed.
        """
        num_freed = self.pool.drop(actor.role.agent_id, actor.table, keep=False)
        actor.num_stored_blocks = self.disk.num_stored(actor.table)
        actor.table = []
        actor.status = AgentStatus.WARM if actor.num_stored_blocks else AgentStatus.COLD
        if all(other.role.prefix != actor.role.prefix or not other.table for other in self._actors):
            self._prefixes.pop(actor.role.prefix, None)
        return num_freed * BLOCK_BYTES

    def clear(self) -> None:
        """Frees every block, once no actor has any."""
        self.disk.forget(range(self.pool.num_blocks))
        self.pool = ScriptedPool(self.pool.num_blocks)
        self._prefixes.clear()

    def restore(self, actor: Actor) -> float:
        """Takes blocks and fills them from disk, but for those that others hold already.

        Returns:
            How long the disk takes, in seconds.
        """
        role = actor.role
        shared = self._prefixes.get(role.prefix, [])[: actor.num_stored_blocks]
        self.pool.share(role.agent_id, shared)
        blocks = self._take(actor, actor.num_stored_blocks - len(shared))
        seconds = self.disk.read(blocks)
        actor.table = [*shared, *blocks]
        if role.prefix and not shared:
            self._prefixes[role.prefix] = actor.table[: role.prefix_blocks]
        actor.num_restored = len(blocks) * BLOCK_TOKENS
        text = f"{role.agent_id}: {len(blocks)} blocks from disk in {seconds:.2f} s"
        self._note("restore", text, "info")
        return seconds

    def _take(self, actor: Actor, count: int) -> list[int]:
        while self.pool.num_obtainable < count and self._relieve(actor):
            pass
        blocks = self.pool.take(actor.role.agent_id, count)
        self.disk.forget(blocks)
        return blocks

    def _relieve(self, for_whom: Actor) -> bool:
        idle = [
            a for a in self._actors if a.status is AgentStatus.IDLE and not a.pinned and a.table
        ]
        if not idle:
            return False
        oldest = min(idle, key=lambda actor: actor.ended_at_s)
        num_bytes = self.drop(oldest)
        self.num_evictions += 1
        where = "to disk" if oldest.num_stored_blocks else "freed"
        self._note(
            "evict",
            f"{oldest.role.agent_id}: {num_bytes // 10**6}M {where} for "
            f"{for_whom.role.agent_id}, least recently used",
            "info" if oldest.num_stored_blocks else "warning",
        )
        return True
