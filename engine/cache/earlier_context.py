"""An agent's context of before, held against a new prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.cache.agent import Agent
from engine.cache.block import BLOCK_TOKENS
from engine.cache.prefix import PrefixMatch, common_prefix
from engine.cache.prompt_index import prompt_digest
from engine.cache.token_change import TokenChange
from engine.snapshot import MissCause

WINDOW_TOKENS = 16
"""So many tokens are compared as text: another tokenisation of the same text meets the first one
again within a word or two."""
LEAD_TOKENS = 24
"""So many equal tokens before a change are kept to find one's bearings by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierContext:
    """An agent's context of before, held against a new prompt.

    Attributes:
        num_tokens: Its length.
        changed_token: Index of the first token that differs; None where none is known to.
        following: The few of its tokens from there on, as far as they are known.
        num_saved_tokens: The part of it that was on disk.
        is_in_memory: Whether its blocks are in memory.
        is_evicted: Whether they were taken out of memory in this process.
        is_first: Whether there was no turn before.
        foreign_cause: What makes it unusable where it is another model's or another format's.
    """

    num_tokens: int = 0
    changed_token: int | None = None
    following: tuple[int, ...] = ()
    num_saved_tokens: int = 0
    is_in_memory: bool = False
    is_evicted: bool = False
    is_first: bool = False
    foreign_cause: MissCause = MissCause.NONE

    def num_comparable(self, num_prompt_tokens: int) -> int:
        """Tokens of a prompt that lie where it lay; the last one is always computed."""
        return min(self.num_tokens, num_prompt_tokens - 1)

    def change_at(self, token: int | None, token_ids: Sequence[int]) -> TokenChange | None:
        """The tokens around a change of a prompt.

        Args:
            token: Index of the first token that differs; None where nothing changed.
            token_ids: The prompt.
        """
        if token is None:
            return None
        return TokenChange(
            lead=tuple(token_ids[max(0, token - LEAD_TOKENS) : token]),
            was=self.following,
            now=tuple(token_ids[token : token + WINDOW_TOKENS]),
        )


def earlier_context(
    agent: Agent, token_ids: Sequence[int], hashes: Sequence[bytes], match: PrefixMatch
) -> EarlierContext:
    """Holds what is known of an agent against a prompt, before the turn changes the agent.

    Args:
        agent: The agent.
        token_ids: The new prompt.
        hashes: Hashes of the prompt's full blocks.
        match: What the cache has of it. Where it ends inside one of the agent's own blocks, that
            block tells the first token that differs.
    """
    saved = agent.saved
    changed_token, following = _first_change(agent, token_ids, hashes, match)
    return EarlierContext(
        num_tokens=_length(agent),
        changed_token=changed_token,
        following=following,
        num_saved_tokens=saved.num_tokens if saved else 0,
        is_in_memory=bool(agent.block_table),
        is_evicted=agent.num_evicted_tokens > 0,
        is_first=agent.num_turns == 0,
    )


def repeated_prompt(agent: Agent, token_ids: Sequence[int]) -> EarlierContext:
    """What a prompt repeats of an agent's last one, for models whose caches are not kept."""
    return EarlierContext(
        num_tokens=common_prefix(agent.prompt_token_ids, token_ids),
        is_first=agent.num_turns == 0,
    )


def _length(agent: Agent) -> int:
    if agent.block_table:
        return len(agent.token_ids)
    if agent.num_evicted_tokens:
        return agent.num_evicted_tokens
    num_saved = agent.saved.num_tokens if agent.saved else 0
    # A prompt known by its digest alone is from before a restart, and more than what is on disk
    # where the end of that is gone.
    return num_saved if agent.prompt_token_ids else max(num_saved, agent.num_last_prompt_tokens)


def _first_change(
    agent: Agent, token_ids: Sequence[int], hashes: Sequence[bytes], match: PrefixMatch
) -> tuple[int | None, tuple[int, ...]]:
    known = agent.token_ids if agent.block_table else agent.prompt_token_ids[: _length(agent)]
    num_common = common_prefix(known, token_ids)
    if num_common < min(len(known), len(token_ids)):
        return num_common, known[num_common : num_common + WINDOW_TOKENS]
    if agent.block_table or _repeats_last_prompt(agent, token_ids):
        return None, ()
    if match.partial is not None and match.num_tokens < len(token_ids) - 1:
        rest = match.partial.token_ids[match.num_partial_tokens :]
        if rest:
            return match.num_tokens, rest[:WINDOW_TOKENS]
    return _change_in_saved(agent, token_ids, hashes)


def _repeats_last_prompt(agent: Agent, token_ids: Sequence[int]) -> bool:
    """Whether the prompt begins with the last one and all that is left of it is a reply."""
    num_last = agent.num_last_prompt_tokens
    if not num_last or _length(agent) > num_last or num_last > len(token_ids):
        return False
    return prompt_digest(token_ids[:num_last]) == agent.prompt_digest


def _change_in_saved(
    agent: Agent, token_ids: Sequence[int], hashes: Sequence[bytes]
) -> tuple[int | None, tuple[int, ...]]:
    saved = agent.saved
    if saved is None:
        return None, ()
    num_full = saved.num_tokens // BLOCK_TOKENS
    num_equal = common_prefix(saved.block_hashes[:num_full], hashes)
    if num_equal < min(num_full, len(hashes)):
        return num_equal * BLOCK_TOKENS, ()
    if num_equal < num_full or not saved.tail_token_ids:
        return None, ()
    tail, rest = saved.tail_token_ids, token_ids[num_full * BLOCK_TOKENS :]
    num_common = common_prefix(tail, rest)
    if num_common == min(len(tail), len(rest)):
        return None, ()
    return (
        num_full * BLOCK_TOKENS + num_common,
        tail[num_common : num_common + WINDOW_TOKENS],
    )
