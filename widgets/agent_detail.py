"""The explainer of one agent: what its cache holds and why its last turn cost what it did."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from engine.snapshot import AgentRow, AgentStatus
from styles.tokens import AGENT_ROLE, BRAND, BRIGHT, DIM, GOOD, MUTED, PLAIN, WARN, WORKING
from widgets.bars import bar
from widgets.format import clean, duration, percent, rate, seconds, short_bytes, shorten
from widgets.lanes import state_words
from widgets.pane import Pane

LABEL_CELLS = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailSlice:
    """One agent and the rate that turns lost tokens into seconds.

    Attributes:
        agent: The agent; None when none is selected.
        prefill_tok_s: Best prefill rate measured so far; 0 when not known yet.
    """

    agent: AgentRow | None = None
    prefill_tok_s: float = 0.0


def is_on_disk(agent: AgentRow) -> bool:
    """Whether the disk has all that memory has of an agent's cache."""
    return 0 < agent.hot_bytes <= agent.warm_bytes


def lost_tokens(agent: AgentRow) -> int:
    """Tokens that an eviction would make the next turn recompute: neither shared nor on disk."""
    if not agent.hot_bytes:
        return 0
    # Both begin where the context begins, so the longer one counts.
    kept = min(1.0, max(agent.shared_bytes, agent.warm_bytes) / agent.hot_bytes)
    return round(agent.num_context_tokens * (1.0 - kept))


def reread_bytes(agent: AgentRow) -> int:
    """Bytes that the next turn after an eviction would read back from disk."""
    return max(0, min(agent.hot_bytes, agent.warm_bytes) - agent.shared_bytes)


def recompute_words(num_tokens: int, prefill_tok_s: float) -> str:
    """What recomputing costs: tokens, and seconds where the rate is known."""
    words = f"{num_tokens:,} tokens"
    return f"{words}, {seconds(num_tokens / prefill_tok_s)} at best" if prefill_tok_s else words


class AgentDetail(Pane[DetailSlice]):
    """Facts of the selected agent, in the order in which questions come up."""

    can_focus = False

    def __init__(self, *, widget_id: str = "agent-detail") -> None:
        super().__init__(DetailSlice(), "selected agent", widget_id=widget_id)

    def draw(self, width: int, height: int) -> list[Content]:
        """State, context, cache, last turn, and what an eviction would cost."""
        agent = self._slice.agent
        if agent is None:
            return [Content.styled("no agent is selected", DIM)]
        return [
            *self._head(agent, width),
            Content(""),
            *self._cache(agent, width),
            Content(""),
            *self._last_turn(agent, width),
            Content(""),
            *self._cost(agent, width),
        ]

    def _head(self, agent: AgentRow, width: int) -> list[Content]:
        word, number = state_words(agent)
        pin = f"{self.glyphs.pinned} " if agent.pinned else ""
        state = Content.assemble(
            (f"{self.glyphs.agent[agent.status]} {word}", AGENT_ROLE[agent.status]),
            (f"  {number.strip()}", PLAIN),
            (f"  {rate(agent.decode_tok_s)} tok/s" if agent.decode_tok_s else "", GOOD),
        )
        name = shorten(agent.agent_id, width - len(pin), self.glyphs.ellipsis)
        return [
            Content.assemble((pin, BRAND), (name, f"bold {BRIGHT}")),
            _fact("state", state),
            _fact("speaks", Content.styled(clean(agent.protocol), PLAIN)),
            _fact("turns", Content.styled(f"{agent.num_turns}", PLAIN)),
        ]

    def _cache(self, agent: AgentRow, width: int) -> list[Content]:
        limit = agent.max_context_tokens
        ratio = agent.num_context_tokens / limit if limit else 0.0
        shared = agent.shared_bytes / agent.hot_bytes if agent.hot_bytes else 0.0
        room = max(4, width - LABEL_CELLS - 6)
        return [
            _fact(
                "context",
                Content.assemble(
                    (f"{agent.num_context_tokens:,}", BRIGHT), (f" of {limit:,} tokens", MUTED)
                ),
            ),
            _fact("", self._meter(ratio, room, PLAIN)),
            _fact("in memory", _in_memory(agent)),
            _fact("", self._meter(shared, room, WORKING)),
            _fact("on disk", self._stored(agent)),
        ]

    def _stored(self, agent: AgentRow) -> Content:
        if not agent.warm_bytes:
            return Content.styled("nothing", DIM)
        missing = max(0, agent.hot_bytes - agent.warm_bytes)
        rest = f", {short_bytes(missing)} not yet written" if missing else ""
        return Content.assemble((short_bytes(agent.warm_bytes), BRIGHT), (rest, MUTED))

    def _meter(self, ratio: float, room: int, role: str) -> Content:
        return Content.assemble(
            *bar(ratio, room, role, self.glyphs), (f" {percent(ratio):>4}", MUTED)
        )

    def _last_turn(self, agent: AgentRow, width: int) -> list[Content]:
        if not agent.num_prompt_tokens:
            return [Content.styled("no turn yet", DIM)]
        computed = agent.num_prompt_tokens - agent.num_cached_tokens
        room = max(4, width - LABEL_CELLS - 6)
        lines = [
            _fact(
                "last turn",
                Content.assemble(
                    (f"{agent.num_prompt_tokens:,}", BRIGHT), (" prompt tokens", MUTED)
                ),
            ),
            _fact("reused", _reused(agent)),
            _fact("", self._meter(agent.hit_ratio or 0.0, room, WORKING)),
            _fact("computed", Content.styled(f"{computed:,}", BRIGHT)),
            _fact("ttft", Content.styled(seconds(agent.ttft_s), BRIGHT)),
        ]
        why = agent.last_miss or ("nothing was lost" if agent.num_turns else "first turn")
        role = WARN if agent.last_miss else MUTED
        wrapped = Content.styled(clean(why), role).wrap(max(8, width - LABEL_CELLS))
        return [*lines, *(_fact("" if at else "why", part) for at, part in enumerate(wrapped))]

    def _cost(self, agent: AgentRow, width: int) -> list[Content]:
        if agent.status is AgentStatus.COLD:
            text = "its cache is gone; the next turn recomputes what is not shared"
        elif agent.status is AgentStatus.WARM:
            text = "its cache is on disk; the next turn reads it back, w does so now"
        elif agent.status is AgentStatus.IDLE:
            idle = f"idle for {duration(agent.idle_s)}: " if agent.idle_s >= 1 else ""
            text = f"{idle}{self._eviction_cost(agent)}"
        else:
            text = "it has a turn in progress, so it cannot be evicted"
        return Content.styled(text, MUTED).wrap(max(8, width))

    def _eviction_cost(self, agent: AgentRow) -> str:
        if is_on_disk(agent):
            return "evicting it loses nothing, its cache stays on disk"
        words = recompute_words(lost_tokens(agent), self._slice.prefill_tok_s)
        return f"evicting it would cost the next turn {words}"


def _in_memory(agent: AgentRow) -> Content:
    if not agent.hot_bytes:
        return Content.styled("nothing", DIM)
    shared = short_bytes(agent.shared_bytes) if agent.shared_bytes else "none"
    return Content.assemble(
        (short_bytes(agent.hot_bytes), BRIGHT), (f", {shared} of it shared with others", MUTED)
    )


def _reused(agent: AgentRow) -> Content:
    """Prompt tokens from the cache, told apart by where they were."""
    num_restored = agent.num_restored_tokens
    if not num_restored:
        return Content.assemble(
            (f"{agent.num_cached_tokens:,}", BRIGHT), (" from the cache", MUTED)
        )
    num_hot = max(0, agent.num_cached_tokens - num_restored)
    return Content.assemble(
        (f"{num_hot:,}", BRIGHT),
        (" from memory, ", MUTED),
        (f"{num_restored:,}", BRIGHT),
        (" from disk", MUTED),
    )


def _fact(label: str, value: Content) -> Content:
    return Content.assemble((f"{label:<{LABEL_CELLS}}", MUTED), value)
