"""What to do about numbers that are not finite: compute again without the cache, then judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Items
from typing import Protocol

from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.block import KVBlock
from engine.cache.pool import BlockPool
from engine.runtime.finite import Tensor, all_finite
from engine.scheduler import Scheduler
from engine.sequence import Sequence, Suspects
from engine.spare_work import SpareWork

Note = Callable[[str, str, str], None]
"""Takes an event: kind, text and level."""


class ByteWriter(Protocol):
    """Turns block payloads into bytes; the model runner is one."""

    def to_bytes(self, payload: object) -> Items[Tensor]:
        """A payload as bytes that nothing else refers to."""


class BlockForgetter(Protocol):
    """Has blocks that can be forgotten; the warm tier is one."""

    def forget_blocks(self, block_hashes: Items[bytes], *, with_followers: bool = False) -> None:
        """Removes blocks, and with them, maybe, whatever follows any of them."""


class Recovery:
    """Tells a spoilt cache from a model that fails. Belongs to the engine's thread.

    A sequence whose logits are not finite is computed once more without the cache. If that goes
    well, what it had been restored from was spoilt and is forgotten, in memory and on disk. If it
    does not, the model itself fails on this prompt, and nothing of the sequence is kept.
    """

    def __init__(
        self,
        pool: BlockPool,
        agents: AgentStore,
        scheduler: Scheduler,
        tier: BlockForgetter | None,
        writer: ByteWriter,
        spare: SpareWork,
        note: Note,
    ) -> None:
        """Wires the parts.

        Args:
            pool: Forgets blocks.
            agents: Lose tables that hold them.
            scheduler: Whose sequences may hold them too.
            tier: Forgets them on disk; None without a warm tier.
            writer: Makes payloads readable.
            spare: Leaves out what there is no memory for.
            note: Takes events.
        """
        self._pool = pool
        self._agents = agents
        self._scheduler = scheduler
        self._tier = tier
        self._writer = writer
        self._spare = spare
        self._note = note
        self._num_judged = 0
        # When each block was forgotten last: one of its name that came later is another one.
        self._forgotten_at: dict[bytes, int] = {}

    def admit(self, sequence: Sequence) -> None:
        """Takes note that a sequence was restored from what there is now."""
        if not sequence.avoids_cache:
            sequence.num_judged_before = self._num_judged

    def begin(self, sequence: Sequence) -> bool:
        """Has a sequence computed again without the cache.

        Args:
            sequence: A running sequence whose logits were not finite.

        Returns:
            False when that would be no different from before: it is the model that fails.
        """
        if sequence.avoids_cache or not sequence.has_reused:
            return False
        sequence.suspects = self._suspects_of(sequence)
        sequence.num_cached_tokens = 0
        sequence.num_restored_tokens = 0
        self._note(
            "poison",
            f"{sequence.agent.agent_id}: numbers that are not finite came from its cache or the "
            f"model; {len(sequence.token_ids)} tokens are computed again without the cache",
            "warning",
        )
        return True

    def settle(self, sequence: Sequence) -> None:
        """Without the cache all is well: the cache was spoilt, and is forgotten."""
        suspects = sequence.suspects or Suspects()
        sequence.suspects = None
        since = sequence.num_judged_before
        names = tuple(n for n in suspects.names if self._forgotten_at.get(n, -1) < since)
        self._forget(Suspects(names, suspects.is_proven))
        self._drop_table(sequence.agent)
        self._remember(names)
        self._note(
            "poison",
            f"{sequence.agent.agent_id}: its cache was spoilt; {len(names)} blocks of it are "
            "forgotten, in memory and on disk",
            "warning",
        )

    def _remember(self, names: Iterable[bytes]) -> None:
        marks = [sequence.num_judged_before for sequence in self._scheduler.running]
        oldest = min(marks, default=self._num_judged)
        self._forgotten_at = {n: at for n, at in self._forgotten_at.items() if at >= oldest}
        self._forgotten_at.update(dict.fromkeys(names, self._num_judged))
        self._num_judged += 1

    def give_up(self, sequence: Sequence) -> None:
        """The model fails on this prompt: nothing that it computed for it is kept."""
        self._forget(Suspects(tuple(sequence.shared_names)))

    def _suspects_of(self, sequence: Sequence) -> Suspects:
        """The blocks of a sequence's context, from the first that is spoilt for certain on."""
        checkpoints = [place.name for place in sequence.places]
        chain = [*sequence.hashes, *checkpoints]
        for index, name in enumerate(chain):
            block = self._pool.lookup(name)
            is_finite = block is None or self._is_finite(block)
            if is_finite is None:
                break
            if not is_finite:
                return Suspects((*chain[index:], *_saved_names(sequence.agent)), is_proven=True)
        return Suspects((*chain, *_saved_names(sequence.agent)))

    def _is_finite(self, block: KVBlock) -> bool | None:
        """Whether all of a block is finite; None where there is no memory to tell."""
        return self._spare.attempt(
            "look for what is spoilt: all of it is forgotten",
            lambda: all_finite(self._writer.to_bytes(block.payload)),
        )

    def _forget(self, suspects: Suspects) -> None:
        names = set(suspects.names)
        # Cheaper to put together again than to tell which of them the spoilt went into.
        self._agents.standing.drop_all()
        for agent in list(self._agents):
            if any(block.block_hash in names for block in agent.block_table):
                names |= _names_after(agent.block_table, names) if suspects.is_proven else set()
                self._drop_table(agent)
        for sequence in self._scheduler:
            self._cut(sequence.block_table, names)
            self._cut(sequence.restored, names)
        for name in names:
            self._pool.disown(name)
        if self._tier is not None and names:
            self._tier.forget_blocks(suspects.names, with_followers=suspects.is_proven)

    def _drop_table(self, agent: Agent) -> None:
        """What is not spoilt of it stays in the pool, and is found there by its name."""
        self._agents.store(agent, [], ())

    def _cut(self, table: list[KVBlock], names: set[bytes]) -> None:
        """Releases a table from the first forgotten block on; its holder has a copy of its own."""
        index = next((i for i, block in enumerate(table) if block.block_hash in names), len(table))
        self._pool.release_table(table[index:])
        del table[index:]


def _saved_names(agent: Agent) -> Iterator[bytes]:
    """The end of an agent's cache on disk, which has a name there only."""
    if agent.saved is not None and agent.saved.tail_token_ids:
        yield agent.saved.block_hashes[-1]


def _names_after(table: Iterable[KVBlock], names: set[bytes]) -> set[bytes]:
    """Names of the blocks of a table from the first of the given ones on."""
    found: set[bytes] = set()
    for block in table:
        if found or block.block_hash in names:
            found |= {block.block_hash} if block.block_hash else set()
    return found
