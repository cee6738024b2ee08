"""Where in a prompt checkpoints are made and looked for, and what they cost.

A model with window or state layers can be resumed only at a checkpoint: a copy of what those
layers hold at one place, beside the rows of the full layers since the last full block. Its name is
the hash of the chain up to that place, so agents with the same prefix share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.cache.block import BLOCK_TOKENS, block_hash, blocks_for
from engine.cache.spec import CacheSpec
from engine.request import PromptPart

MIN_CHECKPOINT_TOKENS = 64
"""A shorter prefix is computed again sooner than a checkpoint of it pays for its room."""

_SHARED_LABELS = ("tools", "system", "tools and system")
_REPLY_LABEL = "reply"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a token sequence.

    Attributes:
        num_tokens: Tokens before it.
        name: What a checkpoint there is called.
    """

    num_tokens: int
    name: bytes

    @property
    def num_blocks(self) -> int:
        """Full blocks before it."""
        return self.num_tokens // BLOCK_TOKENS

    @property
    def num_rest(self) -> int:
        """Tokens between the last full block and it, 0 to 255."""
        return self.num_tokens % BLOCK_TOKENS


def places_at(
    root_hash: bytes, hashes: Sequence[bytes], token_ids: Sequence[int], counts: Iterable[int]
) -> tuple[Place, ...]:
    """Names places of a prompt, the last one first.

    Args:
        root_hash: Parent of the first block.
        hashes: ``chain_hashes`` of the prompt.
        token_ids: The prompt.
        counts: Tokens before each place. Places outside the prompt, or after its last token,
            whose logits are needed, are left out.
    """
    places = []
    for num_tokens in sorted({n for n in counts if 0 < n < len(token_ids)}, reverse=True):
        num_blocks = num_tokens // BLOCK_TOKENS
        parent = hashes[num_blocks - 1] if num_blocks else root_hash
        rest = token_ids[num_blocks * BLOCK_TOKENS : num_tokens]
        places.append(Place(num_tokens, block_hash(parent, rest)))
    return tuple(places)


def counts_to_make(parts: Sequence[PromptPart], num_prompt_tokens: int) -> tuple[int, ...]:
    """Where in a prompt checkpoints are made: what many turns begin with, and where it ends.

    The end is taken before the first words of the reply where that place is known: a client may
    send the reply back in other words.

    Returns:
        Tokens before each place, ascending.
    """
    shared = [part.start_token for part in parts if part.label not in _SHARED_LABELS][:1]
    replies = [part.start_token for part in parts[-1:] if part.label == _REPLY_LABEL]
    ends = replies or [num_prompt_tokens - 1]
    wanted = {n for n in (*shared, *ends) if MIN_CHECKPOINT_TOKENS <= n < num_prompt_tokens}
    return tuple(sorted(wanted))


def checkpoint_slots(spec: CacheSpec) -> int:
    """Slots that one checkpoint is charged in all: its own rows, and what only it holds."""
    return 1 + spec.checkpoint_slots


def sequence_slots(spec: CacheSpec, num_tokens: int) -> int:
    """Slots that a running sequence is charged.

    They turn into its blocks and its last checkpoint or tail when it ends, one for one.
    """
    if not spec.needs_checkpoints:
        return blocks_for(num_tokens)
    return num_tokens // BLOCK_TOKENS + checkpoint_slots(spec)


def max_tokens(spec: CacheSpec, num_slots: int) -> int:
    """The longest sequence that so many slots can hold."""
    if not spec.needs_checkpoints:
        return num_slots * BLOCK_TOKENS
    return max(0, (num_slots - checkpoint_slots(spec) + 1) * BLOCK_TOKENS - 1)
