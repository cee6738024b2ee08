"""Agents on their way from one model to another: who they are goes along, their caches do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.cache.agent import Agent
from engine.cache.agents import AgentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedAgent:
    """What stays of an agent whatever model serves it.

    Attributes:
        agent_id: Its name.
        namespace: Whose it is.
        named_here: Whether the name was made here.
        protocol: How it talks to us.
        pinned: Whether it is never evicted.
        paused: Whether its turns are held back.
        priority: How far its turns go ahead of others'.
        last_active_s: When its last turn ended, monotonic seconds.
    """

    agent_id: str
    namespace: str
    named_here: bool
    protocol: str
    pinned: bool
    paused: bool
    priority: int
    last_active_s: float


def carried(agents: Iterable[Agent]) -> tuple[CarriedAgent, ...]:
    """What goes along of agents, in their order; those of a single turn stay behind."""
    return tuple(
        CarriedAgent(
            agent_id=agent.agent_id,
            namespace=agent.namespace,
            named_here=agent.named_here,
            protocol=agent.protocol,
            pinned=agent.pinned,
            paused=agent.paused,
            priority=agent.priority,
            last_active_s=agent.last_active_s,
        )
        for agent in agents
        if not agent.is_short_lived
    )


def take_in(store: AgentStore, agents: Iterable[CarriedAgent]) -> None:
    """Makes agents known to another model's store; what that has of their caches is theirs again.

    Args:
        store: The store, with the agents that the disk knows for its model.
        agents: Those who come, least recently active first.
    """
    for each in agents:
        agent = store.find(each.agent_id, each.namespace)
        if agent is None:
            agent = Agent(
                each.agent_id, each.namespace, named_here=each.named_here, protocol=each.protocol
            )
            store.adopt(agent)
        store.pin(agent, each.pinned)
        store.set_paused(agent, each.paused)
        store.set_priority(agent, each.priority)
        store.touch(agent, each.last_active_s)
