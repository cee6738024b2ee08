"""Explains each turn's misses: asks the parts that know for what the pure explainer needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.cache.block import BLOCK_TOKENS, chain_hashes
from engine.cache.earlier_context import EarlierContext
from engine.cache.miss import CacheState, Spell, explain_miss, found_later
from engine.cache.prefix import common_prefix
from engine.persistence import Persistence
from engine.sequence import Sequence
from engine.snapshot import MissCause


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Keeps ``Sequence.miss`` true from admission to the first token.

    Attributes:
        persistence: Knows what is on disk; None without a warm tier.
        reuses: Whether the model's caches may be reused.
        needs_checkpoints: Whether they can be resumed at checkpoints only.
        spell: The text of a few tokens, special ones included.
        price: Seconds that prefilling a number of tokens takes; None before it was measured.
    """

    persistence: Persistence | None
    reuses: bool
    needs_checkpoints: bool
    spell: Spell
    price: Callable[[int], float | None]

    def begin(self, sequence: Sequence) -> None:
        """Explains a turn that was admitted, from what the cache had of its prompt."""
        if sequence.earlier.num_tokens == 0 and sequence.earlier.is_first:
            sequence.earlier = self._foreign_context(sequence)
        sequence.miss = explain_miss(
            sequence.earlier,
            sequence.request.prompt_token_ids,
            num_hot_tokens=sequence.num_cached_tokens - sequence.num_restored_tokens,
            num_warm_tokens=sequence.num_restored_tokens,
            state=CacheState(
                reuses=self.reuses,
                is_trusted=not sequence.avoids_cache,
                needs_checkpoints=self.needs_checkpoints,
                has_memory=not sequence.lacked_memory,
                is_on_disk=self._is_next_on_disk(sequence),
            ),
            parts=sequence.request.parts,
            spell=self.spell,
        )
        sequence.agent.change = sequence.earlier.change_at(
            sequence.miss.changed_token, sequence.request.prompt_token_ids
        )
        self.settle(sequence)

    def found(self, sequence: Sequence, start_token: int, num_tokens: int) -> None:
        """Takes in that more of the prompt was found in memory, computed by others meanwhile."""
        if num_tokens:
            sequence.miss = found_later(sequence.miss, start_token, num_tokens, sequence.earlier)

    def settle(self, sequence: Sequence) -> None:
        """Puts the loss in seconds, by the rate measured so far."""
        num_lost = sequence.miss.num_lost_tokens
        if num_lost:
            sequence.miss = replace(sequence.miss, lost_s=self.price(num_lost))

    def _is_next_on_disk(self, sequence: Sequence) -> bool:
        saved = sequence.agent.saved
        index = sequence.num_cached_tokens // BLOCK_TOKENS
        if self.persistence is None or saved is None or index >= len(saved.block_hashes):
            return False
        return self.persistence.tier.can_read(saved.block_hashes[index])

    def _foreign_context(self, sequence: Sequence) -> EarlierContext:
        """What another model, or this one in another format, left on disk of an unknown agent.

        Only what its block hashes prove to be the same tokens counts as known: another model's
        tokens are not this one's.
        """
        foreign = self.persistence.foreign(sequence.agent) if self.persistence else None
        if foreign is None:
            return sequence.earlier
        root = foreign.space.root_hash_of(sequence.agent.namespace)
        hashes = chain_hashes(root, sequence.request.prompt_token_ids)
        num_equal = common_prefix(foreign.record.block_hashes, hashes)
        return EarlierContext(
            num_tokens=num_equal * BLOCK_TOKENS,
            foreign_cause=MissCause.OTHER_KV_FORMAT
            if foreign.is_same_model
            else MissCause.OTHER_MODEL,
        )
