"""The main screen: polls the engine, and carries out what keys, clicks and the palette ask."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.notifications import SeverityLevel

from app.dashboard.action import Power
from app.dashboard.actions import ACTIONS, bindings, key_hints, offered
from app.dashboard.board import UP, Board
from app.dashboard.dispatch import BlockDescribed, CommandAnswered
from app.dashboard.main_settings import MainSettings
from app.dashboard.model_dispatch import SwapAnswered
from app.dashboard.notices import Notices
from app.dashboard.palette import DashboardCommands
from app.dashboard.screens.detail import DetailScreen, DetailSettings
from app.dashboard.screens.model_keys import ModelKeys
from engine.face import EngineFace
from engine.snapshot import EngineSnapshot, EngineStatus
from styles.tokens import Glyphs
from widgets.banner import Banner
from widgets.block_map import BlockMapPane
from widgets.event_log import LatestEvent
from widgets.header import Header, header_slice
from widgets.key_bar import KeyBar
from widgets.lane_list import LaneList
from widgets.pool_line import PoolLine
from widgets.source import SourceSlice
from widgets.swap_line import SwapLine

POLL_S = 0.25
SAMPLE_S = 1.0
POLLS_PER_TABLE = 2
NOTICE_S = 15.0
"""What needs a person is told for longer than an answer to a key."""


class MainScreen(ModelKeys):
    """Shows the engine's newest snapshot and sends commands.

    Args:
        engine: What is shown and commanded.
        settings: Everything else.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings()
    COMMANDS: ClassVar = {DashboardCommands}
    AUTO_FOCUS = "LaneList"

    def __init__(self, engine: EngineFace, settings: MainSettings) -> None:
        super().__init__(engine, settings.exports_folder, settings.zone)
        self._settings = settings
        self._num_polls = 0
        self._are_tables_stale = False
        self._sampled_at = settings.clock()
        self._habits_file = settings.habits_file
        self._notices = Notices()
        self._is_paused = False
        self._source = SourceSlice()
        self._replay = settings.replay
        self._own_settings = settings.own
        self._marks = settings.glyphs
        self.offered = offered(settings.powers)
        """The actions that can be carried out here."""
        self._refused = {each.name for each in ACTIONS} - {each.name for each in self.offered}

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action is offered; keys and clicks do nothing where it is not."""
        return action not in self._refused and super().check_action(action, parameters)

    def compose(self) -> ComposeResult:
        """Header, board, and the lines that stand in for panes on small screens."""
        settings = self._settings
        yield Header()
        yield Banner()
        yield SwapLine()
        yield Board(settings.base_url, settings.zone, settings.log)
        yield PoolLine()
        yield LatestEvent(settings.zone)
        yield KeyBar(key_hints(self.offered, settings.glyphs))

    def on_mount(self) -> None:
        """Draws the empty state and starts the timers."""
        self._use_glyphs(self._settings.glyphs)
        self.use_habits(self._settings.habits)
        self._draw_everything()
        self.set_interval(POLL_S, self._poll)
        self.set_interval(SAMPLE_S, self._sample)

    def _use_glyphs(self, glyphs: Glyphs) -> None:
        self._board.glyphs = glyphs
        self.query_one(Header).glyphs = glyphs
        self.query_one(Banner).glyphs = glyphs
        self.query_one(SwapLine).glyphs = glyphs
        self.query_one(PoolLine).glyphs = glyphs
        self.query_one(LatestEvent).glyphs = glyphs

    def _poll(self) -> None:
        self._keep_focus()
        self._look_at_source()
        if self._is_paused:
            return
        self._num_polls += 1
        snapshot = self._engine.snapshot
        if snapshot is not self._shown and snapshot != self._shown:
            before, self._shown = self._shown, snapshot
            self._tell_of_swap(before.swap, snapshot)
            self._are_tables_stale = True
            self._draw()
        if self._are_tables_stale and self._num_polls % POLLS_PER_TABLE == 0:
            self._are_tables_stale = False
            self._board.show_tables()

    def _keep_focus(self) -> None:
        """Gives the keys to the agents where nobody has them: a list that is hidden takes none."""
        if self.focused is None and self._shown.agents and self.is_current:
            self.query_one(LaneList).focus()

    def _look_at_source(self) -> None:
        before, source = self._source, self._settings.source
        if source is None or source.state == before:
            return
        self._source = source.state
        self._draw_header()
        self._draw_banner()
        if self._source.notice not in ("", before.notice):
            self._say(self._source.notice, is_bad=True)

    def _sample(self) -> None:
        now = self._settings.clock()
        if now - self._sampled_at >= SAMPLE_S / 2:
            self._sampled_at = now
            self._board.sample()
            snapshot = self._engine.snapshot
            if snapshot.status in (*UP, EngineStatus.SWAPPING) and self._replay is None:
                self._settings.history.add(snapshot.throughput)
        if not self._is_paused:
            self.draw_trend()

    def _draw(self) -> None:
        shown = self._shown
        self._draw_header()
        self._draw_banner()
        self.query_one(SwapLine).swap = shown.swap
        self._board.show(shown)
        self.query_one(PoolLine).pool = shown.pool
        events = self._board.events
        self.query_one(LatestEvent).event = events[-1] if events else None
        self._notify_person()

    def _notify_person(self) -> None:
        for text, is_error in self._notices.take(self._shown.events):
            if self._replay is None:
                severity: SeverityLevel = "error" if is_error else "warning"
                self.notify(text, severity=severity, timeout=NOTICE_S, markup=False)

    def _draw_header(self) -> None:
        self.query_one(Header).shown = header_slice(
            self._shown,
            self._settings.address,
            self._settings.base_url,
            self._source,
            is_paused=self._is_paused,
            is_readonly=self._settings.is_readonly,
        )

    def _draw_banner(self) -> None:
        self.query_one(Banner).text = self._source.problem or _failure_words(self._shown)

    def draw_trend(self) -> None:
        """Draws the charts."""
        history = self._settings.history if self._replay is None else self._replay.history
        self._board.show_trend(history, self._span_s)

    def _draw_everything(self) -> None:
        before, self._shown = self._shown, self._engine.snapshot
        self._tell_of_swap(before.swap, self._shown)
        self._look_at_source()
        self._draw()
        self._board.show_tables()
        self.draw_trend()

    def refresh_now(self) -> None:
        """Draws the engine's state at once, unless the display is paused."""
        if not self._is_paused:
            self._draw_everything()

    def on_command_answered(self, answer: CommandAnswered) -> None:
        """Says how a command ended and shows its effect."""
        self.notify(
            answer.text, severity="error" if answer.is_error else "information", markup=False
        )
        if answer.evicted:
            self._evictions.add(answer.evicted)
        self.refresh_now()

    def on_swap_answered(self, answer: SwapAnswered) -> None:
        """Says how a swap that was asked for here ended."""
        self.on_command_answered(answer)
        self._wanted_model = ""

    def on_throughput_pane_resized(self) -> None:
        """The charts' columns depend on the width."""
        self.draw_trend()

    def on_block_map_pane_asked(self, question: BlockMapPane.Asked) -> None:
        """Somebody points at a block."""
        self._dispatch.describe_block(question.block_id)

    def on_block_described(self, answer: BlockDescribed) -> None:
        """Shows what is in the block."""
        self._board.query_one(BlockMapPane).take_answer(answer.block_id, answer.block)

    def on_lane_list_moved(self) -> None:
        """Another agent is selected."""
        self._board.show_detail()

    def on_lane_list_opened(self) -> None:
        """Enter or a double click on a lane."""
        self.action_detail()

    def action_detail(self) -> None:
        """Explains the selected agent."""
        agent = self._selected_or_say()
        if agent is None:
            return
        board, dispatch, powers = self._board, self._dispatch, self._settings.powers
        self.app.push_screen(
            DetailScreen(
                DetailSettings(
                    agent=agent,
                    look=lambda: board.detail_of(agent),
                    fork=(lambda turn: dispatch.fork(agent, turn))
                    if Power.CHANGE in powers
                    else None,
                    engine=self._engine if Power.EXPORT in powers else None,
                    glyphs=self._settings.glyphs,
                    zone=self._zone,
                )
            )
        )

    def action_pause(self) -> None:
        """Freezes the display, or lets it go on."""
        self._is_paused = not self._is_paused
        self._draw_header()
        self.refresh_now()


def _failure_words(snapshot: EngineSnapshot) -> str:
    if snapshot.status is not EngineStatus.FAILED:
        return ""
    reason = snapshot.status_text or "the engine stopped without a reason"
    return f"The engine failed and serves nothing: {reason}"
