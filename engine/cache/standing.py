"""Standing caches: what the last turns ran on, kept whole while nobody needs the room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.cache.block import BLOCK_TOKENS, KVBlock
from engine.cache.pool import BlockPool

if TYPE_CHECKING:
    from engine.cache.agent import Agent

MIN_STANDING_TOKENS = BLOCK_TOKENS
"""A shorter cache is put together from its blocks in no time."""
MAX_STANDING = 1
"""Each is a whole copy: with one of every agent, agents that share a prefix would not share it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The cache of an agent's last turn, as the turn left it.

    Attributes:
        caches: The sequence's own cache; whoever takes it may write to it.
        token_ids: The tokens that it holds.
        working_blocks: Slots that pay for it.
    """

    caches: Any
    token_ids: tuple[int, ...]
    working_blocks: list[KVBlock]

    def begins(self, token_ids: Sequence[int], num_tokens: int, *, is_exact: bool) -> bool:
        """Whether a prompt may go on in it after so many tokens.

        Args:
            token_ids: The prompt.
            num_tokens: Tokens of the prompt that are known.
            is_exact: Whether it must hold no more than those.
        """
        num_held = len(self.token_ids)
        fits = num_held == num_tokens if is_exact else num_held >= num_tokens
        return fits and self.token_ids[:num_tokens] == tuple(token_ids[:num_tokens])


class StandingCaches:
    """At most one for each agent; the one that was kept first goes first."""

    def __init__(self, pool: BlockPool) -> None:
        """Starts with none.

        Args:
            pool: Told which slots may be had at once; takes them back through ``give_up_spare``.
        """
        self._pool = pool
        self._standing: OrderedDict[Agent, Standing] = OrderedDict()
        pool.give_up_spare = self._give_up_oldest

    def __iter__(self) -> Iterator[Standing]:
        """All of them, the first to go first."""
        return iter(self._standing.values())

    def keep(self, agent: Agent, standing: Standing) -> None:
        """Keeps an agent's cache; the holds of its working blocks pass to it."""
        self.drop(agent)
        while len(self._standing) >= MAX_STANDING:
            self._give_up_oldest()
        self._standing[agent] = standing
        self._pool.mark_spare(standing.working_blocks)

    def take(self, agent: Agent) -> Standing | None:
        """Gives an agent's cache away, with the holds of its working blocks; None without one."""
        standing = self._standing.pop(agent, None)
        if standing is not None:
            self._pool.unmark_spare(standing.working_blocks)
        return standing

    def drop(self, agent: Agent) -> None:
        """Lets an agent's cache go, if there is one; what its blocks hold stays."""
        standing = self.take(agent)
        if standing is not None:
            self._pool.release_table(standing.working_blocks)

    def drop_all(self) -> None:
        """Lets all of them go."""
        while self._standing:
            self._give_up_oldest()

    def _give_up_oldest(self) -> None:
        self.drop(next(iter(self._standing)))
