"""What is asked before something is lost: each question says the loss in tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.snapshot import AgentRow, AgentStatus
from widgets.agent_detail import (
    DetailSlice,
    is_on_disk,
    lost_tokens,
    recompute_words,
    reread_bytes,
)
from widgets.format import clean, seconds, short_bytes

BUSY = (
    AgentStatus.QUEUED,
    AgentStatus.RESTORING,
    AgentStatus.PREFILLING,
    AgentStatus.DECODING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to confirm.

    Attributes:
        text: The question.
        consequences: What is lost and what stays, a line each.
        verb: Names the answer that goes ahead.
    """

    text: str
    consequences: tuple[str, ...]
    verb: str


def evictable(agents: Sequence[AgentRow]) -> tuple[AgentRow, ...]:
    """Agents that evicting all idle ones would hit."""
    return tuple(
        row for row in agents if row.status is AgentStatus.IDLE and not row.pinned and row.hot_bytes
    )


def is_warmable(agent: AgentRow) -> bool:
    """Whether the disk has more of an agent's cache than memory has."""
    return agent.status is AgentStatus.WARM or agent.warm_bytes > agent.hot_bytes


def evict(detail: DetailSlice, agent: AgentRow) -> Question:
    """About one agent's cache."""
    freed = agent.hot_bytes - agent.shared_bytes
    frees = f"Frees {short_bytes(freed)}."
    if agent.shared_bytes:
        frees += f" {short_bytes(agent.shared_bytes)} is shared with other agents and stays."
    elif not agent.warm_bytes:
        frees += " Nothing of it is shared, so nothing stays."
    lines = [_after_eviction(detail, agent), frees]
    if agent.pinned:
        lines.append("It is pinned: somebody meant to keep it.")
    return Question(
        text=f"Evict the cache of {clean(agent.agent_id)}?", consequences=tuple(lines), verb="evict"
    )


def _after_eviction(detail: DetailSlice, agent: AgentRow) -> str:
    num_reread = reread_bytes(agent)
    if is_on_disk(agent):
        back = f": its next turn reads {short_bytes(num_reread)} back" if num_reread else ""
        return f"Nothing is lost. It stays on disk{back}."
    words = recompute_words(lost_tokens(agent), detail.prefill_tok_s)
    more = f" and reads {short_bytes(num_reread)} back from disk" if num_reread else ""
    return f"Its next turn recomputes {words}{more}."


def evict_idle(idle: Sequence[AgentRow], prefill_tok_s: float) -> Question:
    """About the caches of all idle, unpinned agents; the rate says how long a recompute takes."""
    tokens = sum(lost_tokens(row) for row in idle)
    freed = sum(row.hot_bytes - row.shared_bytes for row in idle)
    num_reread = sum(reread_bytes(row) for row in idle)
    agents = "1 idle agent" if len(idle) == 1 else f"{len(idle)} idle agents"
    if all(is_on_disk(row) for row in idle):
        cost = f"Nothing is lost. Their next turns read {short_bytes(num_reread)} back from disk."
    else:
        more = f" and read {short_bytes(num_reread)} back from disk" if num_reread else ""
        words = recompute_words(tokens, prefill_tok_s)
        cost = f"Their next turns recompute at least {words}{more}."
    return Question(
        text=f"Evict the caches of {agents}?",
        consequences=(
            cost,
            f"Frees {short_bytes(freed)} or more. Pinned and busy agents keep theirs.",
        ),
        verb="evict all",
    )


def remove(detail: DetailSlice, agent: AgentRow) -> Question:
    """About one agent, its name, and its cache in memory and on disk."""
    num_tokens = agent.num_context_tokens
    if agent.hot_bytes or agent.warm_bytes:
        cost = recompute_words(num_tokens, detail.prefill_tok_s)
        lines = [f"Its cache is lost in memory and on disk: {cost} to get it back."]
    else:
        lines = ["It has no cache; only its name and its history are lost."]
    if agent.shared_bytes:
        lines.append(f"{short_bytes(agent.shared_bytes)} is shared with other agents and stays.")
    if agent.pinned:
        lines.append("It is pinned: somebody meant to keep it.")
    lines.append("Export it first (o) to keep it in a file.")
    return Question(
        text=f"Remove {clean(agent.agent_id)}?", consequences=tuple(lines), verb="remove"
    )


def abort(agent: AgentRow) -> Question:
    """About one agent's turn."""
    num_generated, rate = agent.num_generated_tokens, agent.decode_tok_s
    took = f", {seconds(num_generated / rate)} of decoding" if rate else ""
    lost = (
        f"Its client loses a reply of {num_generated:,} tokens so far{took}."
        if num_generated
        else "Its client gets no reply; nothing has been generated yet."
    )
    return Question(
        text=f"Abort the turn of {clean(agent.agent_id)}?",
        consequences=(lost, "What is computed of its prompt stays in the cache."),
        verb="abort",
    )
