"""What is asked before something is lost: each question says the loss in tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.snapshot import AgentRow, AgentStatus
from widgets.agent_detail import DetailSlice, lost_tokens, recompute_words
from widgets.format import clean, short_bytes

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


def evict(detail: DetailSlice, agent: AgentRow) -> Question:
    """About one agent's cache."""
    freed = agent.hot_bytes - agent.shared_bytes
    shared = (
        f"{short_bytes(agent.shared_bytes)} is shared with other agents and stays."
        if agent.shared_bytes
        else "Nothing of it is shared, so nothing stays."
    )
    lines = [
        f"Its next turn recomputes {recompute_words(lost_tokens(agent), detail.prefill_tok_s)}.",
        f"Frees {short_bytes(freed)}. {shared}",
    ]
    if agent.pinned:
        lines.append("It is pinned: somebody meant to keep it.")
    return Question(
        text=f"Evict the cache of {clean(agent.agent_id)}?", consequences=tuple(lines), verb="evict"
    )


def evict_idle(idle: Sequence[AgentRow]) -> Question:
    """About the caches of all idle, unpinned agents."""
    tokens = sum(lost_tokens(row) for row in idle)
    freed = sum(row.hot_bytes - row.shared_bytes for row in idle)
    agents = "1 idle agent" if len(idle) == 1 else f"{len(idle)} idle agents"
    return Question(
        text=f"Evict the caches of {agents}?",
        consequences=(
            f"Their next turns recompute at least {tokens:,} tokens.",
            f"Frees {short_bytes(freed)} or more. Pinned and busy agents keep theirs.",
        ),
        verb="evict all",
    )


def abort(agent: AgentRow) -> Question:
    """About one agent's turn."""
    num_generated = agent.num_generated_tokens
    lost = (
        f"Its client loses a reply of {num_generated:,} tokens so far."
        if num_generated
        else "Its client gets no reply; nothing has been generated yet."
    )
    return Question(
        text=f"Abort the turn of {clean(agent.agent_id)}?",
        consequences=(lost, "What is computed of its prompt stays in the cache."),
        verb="abort",
    )
