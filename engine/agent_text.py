"""What an agent's conversation says, for whoever asks. It is told to them and kept nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.agent_commands import AgentText, ReadAgent
from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.scheduler import Scheduler

MAX_LIVE_TOKENS = 400
"""The end of a running reply that is told; all of it would grow slow to spell."""


@dataclass(frozen=True, slots=True)
class AgentTexts:
    """Spells what an agent is saying, and where its last prompt changed.

    Attributes:
        agents: All agents.
        scheduler: Knows whose turns run.
        spell: The text of a few tokens, special ones included.
    """

    agents: AgentStore
    scheduler: Scheduler
    spell: Callable[[Sequence[int]], str]

    def read(self, command: ReadAgent) -> AgentText:
        """The text of an agent at this moment.

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        agent = self.agents.get(command.agent_id, command.namespace)
        reply = self._reply(agent) if command.with_reply else None
        change = agent.change
        return AgentText(
            reply=None if reply is None else self.spell(reply[-MAX_LIVE_TOKENS:]),
            is_cut=reply is not None and len(reply) > MAX_LIVE_TOKENS,
            lead=self.spell(change.lead) if change else "",
            was=self.spell(change.was) if change else "",
            now=self.spell(change.now) if change else "",
        )

    def _reply(self, agent: Agent) -> list[int] | None:
        for sequence in self.scheduler.running:
            if sequence.agent is agent:
                return sequence.token_ids[sequence.num_prompt_tokens :]
        return None
