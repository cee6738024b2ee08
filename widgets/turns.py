"""The turns of one agent to choose from, and the chosen one explained."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from textual import events
from textual.content import Content
from textual.message import Message

from engine.snapshot import AgentRow, AgentStatus, TurnRow
from styles.tokens import BRAND, BRIGHT, DIM, MUTED, PLAIN, WARN, Glyphs
from widgets.format import clock_time, fit, percent, rate, seconds, short_count
from widgets.pane import Pane
from widgets.turn_phases import PHASE_ROLES, PHASE_WORDS, phase_bar, phase_lines

FIGURE_CELLS = 48
"""All columns but the bar and the reason."""
WIDE_FROM = 100
RUNNING_WORD = "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTurn:
    """A turn as the list shows it.

    Attributes:
        turn: The turn; one in progress has the numbers it has so far.
        is_running: Whether it is in progress.
    """

    turn: TurnRow
    is_running: bool = False


def shown_turns(agent: AgentRow | None) -> tuple[ShownTurn, ...]:
    """An agent's turns, newest first, the one in progress before all others."""
    if agent is None:
        return ()
    past = [ShownTurn(turn=turn) for turn in reversed(agent.turns)]
    if agent.times.total_s <= 0:
        return tuple(past)
    is_in = agent.status in (AgentStatus.PREFILLING, AgentStatus.DECODING)
    last_number = max(agent.num_turns, agent.turns[-1].number if agent.turns else 0)
    now = TurnRow(
        number=last_number + 1,
        num_prompt_tokens=agent.num_prompt_tokens if is_in else agent.num_context_tokens,
        num_context_tokens=agent.num_context_tokens,
        num_cached_tokens=agent.num_cached_tokens if is_in else 0,
        ttft_s=agent.ttft_s if agent.status is AgentStatus.DECODING else None,
        miss=agent.miss.words if is_in and agent.miss.num_lost_tokens else "",
        times=agent.times,
    )
    return (ShownTurn(turn=now, is_running=True), *past)


class TurnsPane(Pane[tuple[ShownTurn, ...]]):
    """One line per turn with a bar of its time; a cursor chooses one.

    Args:
        zone: Of the times shown; None is the machine's own.
    """

    class Moved(Message):
        """Another turn is chosen."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        super().__init__((), "turns", widget_id="turns")
        self._zone = zone
        self._number: int | None = None

    @property
    def selected(self) -> ShownTurn | None:
        """The chosen turn."""
        return self._slice[self._index] if self._slice else None

    @property
    def _index(self) -> int:
        """Where the chosen turn is; the newest one where it is gone."""
        numbers = [each.turn.number for each in self._slice]
        return numbers.index(self._number) if self._number in numbers else 0

    def move(self, step: int) -> None:
        """Chooses another turn."""
        if self._slice:
            self._choose(self._index + step)

    def on_click(self, event: events.Click) -> None:
        """Chooses the turn under the mouse."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y > 0 and self._slice:
            self._choose(self._top(self.content_size.height) + offset.y - 1)

    def _choose(self, index: int) -> None:
        index = max(0, min(index, len(self._slice) - 1))
        # The newest is followed: whoever looks at it wants the next one too.
        self._number = self._slice[index].turn.number if index else None
        self.refresh()
        self.post_message(self.Moved())

    def _top(self, height: int) -> int:
        """The first turn that is drawn."""
        room = max(1, height - 1)
        return max(0, min(self._index - room // 2, len(self._slice) - room))

    def draw(self, width: int, height: int) -> list[Content]:
        """Headings and as many turns as fit, around the chosen one."""
        if not self._slice:
            return [Content.styled("no turn yet", DIM)]
        bar_cells, why_cells = _rooms(width)
        longest_s = max(each.turn.times.total_s for each in self._slice)
        top = self._top(height)
        return [
            _headings(bar_cells, why_cells, self.glyphs),
            *(
                self._line(each, top + at == self._index, longest_s, bar_cells, why_cells)
                for at, each in enumerate(self._slice[top : top + max(1, height - 1)])
            ),
        ]

    def _line(
        self, shown: ShownTurn, is_chosen: bool, longest_s: float, bar_cells: int, why_cells: int
    ) -> Content:
        turn, glyphs = shown.turn, self.glyphs
        hit = turn.num_cached_tokens / turn.num_prompt_tokens if turn.num_prompt_tokens else None
        ended = RUNNING_WORD if shown.is_running else clock_time(turn.ended_time, self._zone)
        mark, role = _mark(shown, glyphs)
        total_s = turn.times.total_s
        return Content.assemble(
            (glyphs.cursor if is_chosen else " ", BRAND),
            (f"{mark} ", role),
            (f"{turn.number:>4}  ", BRIGHT),
            (f"{ended:<8}  ", MUTED),
            (f"{short_count(turn.num_prompt_tokens):>6}  ", PLAIN),
            (f"{percent(hit):>4}  ", PLAIN),
            (f"{seconds(turn.ttft_s):>5}  ", PLAIN),
            (f"{seconds(total_s) if total_s else '-':>5}  ", PLAIN if total_s else DIM),
            *phase_bar(turn.times, longest_s, bar_cells, glyphs),
            (f"  {fit(turn.miss or '-', why_cells, glyphs.ellipsis)}" if why_cells else "", MUTED),
        )


class TurnPane(Pane[ShownTurn | None]):
    """One turn explained: its phases, why tokens were lost, and whether a fork can start there.

    Args:
        zone: Of the times shown; None is the machine's own.
        is_forkable: Whether forks can be made here at all.
    """

    can_focus = False

    def __init__(self, zone: tzinfo | None = None, *, is_forkable: bool) -> None:
        super().__init__(None, "chosen turn", widget_id="turn")
        self._zone = zone
        self._is_forkable = is_forkable

    def draw(self, width: int, height: int) -> list[Content]:
        """Head, phases, reason, fork."""
        if self._slice is None:
            return [Content.styled("an agent's first turn is explained here", DIM)]
        turn, is_running = self._slice.turn, self._slice.is_running
        when = RUNNING_WORD if is_running else clock_time(turn.ended_time, self._zone)
        head = Content.assemble(
            (f"turn {turn.number}", f"bold {BRIGHT}"),
            (f"  {when}  ", MUTED),
            (f"{turn.num_context_tokens:,}", PLAIN),
            (" tokens of context at its end" if not is_running else " tokens so far", MUTED),
        )
        lines = [head, *self._phases(turn, width)]
        if turn.miss:
            lines += Content.styled(f"lost: {turn.miss}", WARN).wrap(max(8, width))
        return [*lines, *self._fork(width)]

    def _phases(self, turn: TurnRow, width: int) -> list[Content]:
        if turn.times.total_s <= 0:
            return [Content.styled("how long it took was not measured", DIM)]
        lines = phase_lines(turn.times, width, self.glyphs)
        num_generated = turn.num_context_tokens - turn.num_prompt_tokens
        if turn.times.decode_s > 0 and num_generated > 0:
            words = f"  {rate(num_generated / turn.times.decode_s)} tok/s"
            lines[-1] = Content.assemble(lines[-1].truncate(max(0, width - len(words))), words)
        return lines

    def _fork(self, width: int) -> list[Content]:
        assert self._slice is not None
        if self._slice.is_running or not self._is_forkable:
            return []
        text = (
            "a fork can start at its end: f makes an agent that goes on from there"
            if self._slice.turn.resumable
            else "its end is neither in memory nor on disk, so no fork can start there"
        )
        return Content.styled(text, MUTED).wrap(max(8, width))


def _rooms(width: int) -> tuple[int, int]:
    """Cells of the bar, and of the reason; 0 where there is no room for it."""
    room = max(0, width - FIGURE_CELLS)
    if width < WIDE_FROM:
        return room, 0
    return room // 2, room - room // 2 - 2


def _headings(bar_cells: int, why_cells: int, glyphs: Glyphs) -> Content:
    names = f"   {'turn':>4}  {'ended':<8}  {'prompt':>6}  {'hit':>4}  {'ttft':>5}  {'total':>5}  "
    key = [
        (f"{mark} {word}  ", role)
        for mark, word, role in zip(glyphs.phases, PHASE_WORDS, PHASE_ROLES, strict=True)
    ]
    legend = Content.assemble(*key)
    if legend.cell_length > bar_cells:
        legend = Content.styled(fit("where the time went", bar_cells, glyphs.ellipsis), MUTED)
    gap = " " * (bar_cells - legend.cell_length)
    why = f"  {fit('why tokens were lost', why_cells, glyphs.ellipsis)}" if why_cells else ""
    return Content.assemble((names, MUTED), legend, gap, (why, MUTED))


def _mark(shown: ShownTurn, glyphs: Glyphs) -> tuple[str, str]:
    if shown.is_running:
        return glyphs.agent[AgentStatus.DECODING], BRAND
    status = AgentStatus.IDLE if shown.turn.resumable else AgentStatus.COLD
    return glyphs.agent[status], PLAIN if shown.turn.resumable else DIM
