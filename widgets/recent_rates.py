"""How fast each agent was lately: one sample a second, kept for those that did anything."""

from __future__ import annotations

from collections.abc import Sequence

from engine.snapshot import AgentRow

NUM_SAMPLES = 24

AgentKey = tuple[str, str]
"""Namespace and id of an agent."""
Rates = tuple[float, ...]


class RecentRates:
    """Rates of agents by name, oldest first. An agent that rests for long is forgotten."""

    def __init__(self) -> None:
        """Has seen nothing yet."""
        self._rates: dict[AgentKey, Rates] = {}

    def add(self, agents: Sequence[AgentRow]) -> None:
        """Takes the rates of this second."""
        busy = {row.key: row.decode_tok_s for row in agents if row.decode_tok_s}
        there = {row.key for row in agents if row.key in self._rates}
        self._rates = {
            key: rates
            for key in there | busy.keys()
            if any(rates := (*self._rates.get(key, ()), busy.get(key, 0.0))[-NUM_SAMPLES:])
        }

    def of(self, key: AgentKey) -> Rates:
        """An agent's rates; nothing where it did nothing lately."""
        return self._rates.get(key, ())
