"""The explainer of one agent: what its cache holds and why its last turn cost what it did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from textual.content import Content

from engine.snapshot import AgentRow, AgentStatus
from styles.tokens import AGENT_ROLE, BRAND, BRIGHT, DIM, GOOD, MUTED, PLAIN
from widgets.bars import bar
from widgets.format import clean, duration, percent, rate, seconds, short_bytes, shorten
from widgets.lanes import state_words
from widgets.pane import Pane
from widgets.prompt_origin import loss_lines, origin_lines
from widgets.turn_table import turn_lines

LABEL_CELLS = 13


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
    """Facts of the selected agent, in the order in which questions come up.

    Args:
        zone: Of the times shown; None is the machine's own.
        widget_id: Its id in the tree.
        shows_turns: Whether the last turns stand below the facts.
    """

    can_focus = False

    def __init__(
        self,
        zone: tzinfo | None = None,
        *,
        widget_id: str = "agent-detail",
        shows_turns: bool = True,
    ) -> None:
        super().__init__(DetailSlice(), "selected agent", widget_id=widget_id)
        self._zone = zone
        self._shows_turns = shows_turns

    def draw(self, width: int, height: int) -> list[Content]:
        """State, context, cache, last prompt, what an eviction would cost, and the last turns."""
        agent = self._slice.agent
        if agent is None:
            return [Content.styled("no agent is selected", DIM)]
        lines = [
            *self._head(agent, width),
            Content(""),
            *self._cache(agent, width),
            Content(""),
            *self._prompt(agent, width),
            Content(""),
            *self._cost(agent, width),
        ]
        if not self._shows_turns:
            return lines
        turns = turn_lines(agent.turns, width, height - len(lines) - 1, self.glyphs, self._zone)
        return [*lines, Content(""), *turns] if turns else lines

    def _head(self, agent: AgentRow, width: int) -> list[Content]:
        word, number = state_words(agent)
        pin = f"{self.glyphs.pinned} " if agent.pinned else ""
        state = Content.assemble(
            (f"{self.glyphs.agent[agent.status]} {word}", AGENT_ROLE[agent.status]),
            (f"  {number.strip()}", PLAIN),
            (f"  {rate(agent.decode_tok_s)} tok/s" if agent.decode_tok_s else "", GOOD),
        )
        name = shorten(agent.title, width - len(pin), self.glyphs.ellipsis)
        return [
            Content.assemble((pin, BRAND), (name, f"bold {BRIGHT}")),
            _fact("state", state),
            *self._reading(agent),
            _fact(
                "turns",
                Content.assemble(
                    (f"{agent.num_turns}", PLAIN), (f", speaks {clean(agent.protocol)}", MUTED)
                ),
            ),
        ]

    def _reading(self, agent: AgentRow) -> list[Content]:
        if not agent.num_restoring_tokens:
            return []
        left = f", {seconds(agent.eta_s)} left" if agent.eta_s is not None else ""
        return [
            _fact(
                "reading",
                Content.assemble(
                    (f"{agent.num_restoring_tokens:,}", BRIGHT), (f" tokens from disk{left}", MUTED)
                ),
            )
        ]

    def _cache(self, agent: AgentRow, width: int) -> list[Content]:
        limit = agent.max_context_tokens
        ratio = agent.num_context_tokens / limit if limit else 0.0
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

    def _prompt(self, agent: AgentRow, width: int) -> list[Content]:
        if not agent.miss.num_prompt_tokens:
            return [Content.styled("no turn yet", DIM)]
        first_token = (
            [(", first token after ", MUTED), (seconds(agent.ttft_s), BRIGHT)]
            if agent.ttft_s is not None
            else []
        )
        total = Content.assemble(
            (f"{agent.miss.num_prompt_tokens:,}", BRIGHT), (" tokens", MUTED), *first_token
        )
        room = width - LABEL_CELLS
        origins, why = origin_lines(agent.miss, room, self.glyphs), loss_lines(agent.miss, room)
        return [
            _fact("last prompt", total),
            *(_fact("", line) for line in origins),
            *(_fact("" if at else "why", part) for at, part in enumerate(why)),
        ]

    def _cost(self, agent: AgentRow, width: int) -> list[Content]:
        if agent.status is AgentStatus.COLD:
            text = "its cache is gone; the next turn recomputes what is not shared"
        elif agent.status is AgentStatus.WARM:
            text = "its cache is on disk; the next turn reads it back, w does so now"
        elif agent.status is AgentStatus.TOOL_WAIT:
            waited = f"has waited {duration(agent.idle_s)} for its tools"
            text = f"{waited}: {self._eviction_cost(agent)}"
        elif agent.status is AgentStatus.IDLE:
            idle = f"idle for {duration(agent.idle_s)}: " if agent.idle_s >= 1 else ""
            text = f"{idle}{self._eviction_cost(agent)}"
        elif agent.status is AgentStatus.RESTORING:
            text = "its cache is being read from disk"
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


def _fact(label: str, value: Content) -> Content:
    return Content.assemble((f"{label:<{LABEL_CELLS}}", MUTED), value)
