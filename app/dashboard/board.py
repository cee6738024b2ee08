"""The body of the main screen: which panes there are, and which part of a snapshot each gets."""

from __future__ import annotations

from dataclasses import replace
from datetime import tzinfo
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container
from textual.reactive import reactive

from app.dashboard.log_rows import LogRows
from app.dashboard.pane_layout import PaneLayout
from app.dashboard.placing import lay_out, undo_layout
from engine.snapshot import (
    EMPTY_SNAPSHOT,
    AgentRow,
    AgentStatus,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
)
from styles.tokens import UNICODE, Glyphs
from widgets.agent_detail import AgentDetail, DetailSlice
from widgets.agents import AgentsPane
from widgets.batch import BatchPane, batch_slice
from widgets.block_map import BlockMapPane, BlockMapSlice
from widgets.event_pane import EventsPane, EventsSlice
from widgets.history import History
from widgets.loading import LoadingPane, LoadingSlice
from widgets.model import ModelPane, ModelSlice
from widgets.pane import Pane
from widgets.throughput import ThroughputPane, ThroughputSlice
from widgets.welcome import WelcomePane, WelcomeSlice

UP = (EngineStatus.SERVING, EngineStatus.DRAINING)
STAGE = (AgentsPane, WelcomePane, LoadingPane)
"""Panes that take turns in one place."""


def max_context_tokens(snapshot: EngineSnapshot) -> int:
    """The active model's context limit in tokens; 0 when there is no model."""
    return snapshot.model_detail.max_context_tokens if snapshot.model_detail else 0


def awaiting(snapshot: EngineSnapshot) -> tuple[AgentRow, ...]:
    """The agents; whose turns wait for a model, with the time that is left until it serves."""
    swap = snapshot.swap
    if snapshot.status is not EngineStatus.SWAPPING or swap is None or swap.eta_s is None:
        return snapshot.agents
    return tuple(
        replace(row, eta_s=swap.eta_s) if row.status is AgentStatus.QUEUED else row
        for row in snapshot.agents
    )


class Board(Container):
    """All panes. Style sheets lay them out by the size of the screen.

    Args:
        base_url: Of the API, for the lines that are shown to be pasted.
        zone: Of the times shown; None is the machine's own.
        log: The log of this process; None where that tells nothing of the engine.
    """

    glyphs: reactive[Glyphs] = reactive(UNICODE)

    def __init__(
        self, base_url: str, zone: tzinfo | None = None, log: LogRows | None = None
    ) -> None:
        super().__init__(id="board")
        self._base_url = base_url
        self._zone = zone
        self._log = log
        self._shown: EngineSnapshot = EMPTY_SNAPSHOT
        self._prefill_tok_s = 0.0
        self._maximised: Pane[Any] | None = None
        self._on_stage: type[Pane[Any]] | None = None
        self._layout = PaneLayout()
        self._cleared_to = 0

    def compose(self) -> ComposeResult:
        """Panes in reading order."""
        yield LoadingPane()
        yield WelcomePane()
        yield AgentsPane()
        yield AgentDetail(self._zone)
        yield BlockMapPane()
        yield ThroughputPane()
        yield BatchPane()
        yield ModelPane()
        yield EventsPane(self._zone)

    @property
    def selected(self) -> AgentRow | None:
        """The selected agent as last shown."""
        row = self.query_one(AgentsPane).selected
        return self._shown.agent(row.agent_id, row.namespace) if row else None

    def show(self, snapshot: EngineSnapshot) -> None:
        """Draws the parts that may change at every poll."""
        self._shown = snapshot
        # The rate fades after a prefill, so what a recompute takes is judged by the best one seen.
        self._prefill_tok_s = max(self._prefill_tok_s, snapshot.throughput.prefill_tok_s)
        self._choose_stage()
        self.query_one(BatchPane).update_from(batch_slice(snapshot))
        self._show_events()
        self.query_one(ModelPane).update_from(
            ModelSlice(
                model=snapshot.model_detail,
                device=snapshot.device_detail,
                disk=snapshot.disk,
                swap=snapshot.swap,
                last_swap=snapshot.last_swap,
            )
        )

    def _show_events(self) -> None:
        pane, log = self.query_one(EventsPane), self._log
        # The log is looked through only while somebody reads it.
        rows = (log.rows if pane.shows_log else ()) if log is not None else None
        pane.update_from(EventsSlice(events=self.events, log=rows))

    @property
    def events(self) -> tuple[EngineEvent, ...]:
        """The events that were not cleared away, oldest first."""
        events = self._shown.events
        if events and events[-1].number < self._cleared_to:  # another process counts anew
            self._cleared_to = 0
        if not self._cleared_to:
            return events
        return tuple(event for event in events if event.number > self._cleared_to)

    def clear_events(self) -> None:
        """Takes the events so far off the screen."""
        events = self._shown.events
        self._cleared_to = events[-1].number if events else 0
        self._show_events()

    def show_tables(self) -> None:
        """Draws the agents and the block map of the snapshot last shown."""
        agents = awaiting(self._shown)
        if not self.query_one(AgentsPane).has_class("-offstage"):
            self.query_one(AgentsPane).update_from(agents)
        self.query_one(BlockMapPane).update_from(
            BlockMapSlice(
                pool=self._shown.pool,
                agent_ids=tuple(row.title for row in agents),
                num_pending=self._shown.disk.num_pending,
            )
        )
        self.show_detail()

    def show_detail(self) -> None:
        """Draws the selected agent."""
        self.query_one(AgentDetail).update_from(self.detail_of(self.selected))

    def sample(self) -> None:
        """Takes note of how fast every agent is at this second."""
        self.query_one(AgentsPane).lanes.recent.add(self._shown.agents)

    def show_trend(self, history: History, span_s: int) -> None:
        """Draws the charts, going back so far; nothing where they are hidden."""
        pane = self.query_one(ThroughputPane)
        if pane.chart_cells:
            trend = history.trend(span_s, pane.chart_cells)
            pane.update_from(ThroughputSlice(now=self._shown.throughput, trend=trend))

    @property
    def prefill_tok_s(self) -> float:
        """The best rate of prefill that was seen; 0 before one was."""
        return self._prefill_tok_s

    def detail_of(self, row: AgentRow | None) -> DetailSlice:
        """What the explainer shows of an agent, as it is now."""
        agent = self._shown.agent(row.agent_id, row.namespace) if row is not None else None
        return DetailSlice(agent=agent, prefill_tok_s=self._prefill_tok_s)

    def maximise(self, pane: Pane[Any] | None) -> None:
        """Gives one pane all the room; None puts every pane back.

        It sets styles and no classes: a class of the board would have every style rule weighed
        again for every widget in it, which a key press under load cannot afford.
        """
        self._maximised = pane
        undo_layout(self)
        self.styles.layout = "vertical" if pane is not None else None
        for each in self.query(Pane):
            is_whole = each is pane
            each.styles.display = None if pane is None else "block" if is_whole else "none"
            each.styles.width = each.styles.height = "1fr" if is_whole else None
        if pane is not None:
            pane.focus()
        else:
            self._lay_out()

    @property
    def maximised(self) -> Pane[Any] | None:
        """The pane that has all the room."""
        return self._maximised

    @property
    def pane_layout(self) -> PaneLayout:
        """What a person changed about the panes' places."""
        return self._layout

    @pane_layout.setter
    def pane_layout(self, layout: PaneLayout) -> None:
        if layout != self._layout:
            self._layout = layout
            self._lay_out()

    def on_resize(self) -> None:
        """Another size may have other panes, in other rows."""
        self.call_after_refresh(self._lay_out)

    def _lay_out(self) -> None:
        if self._maximised is None:
            lay_out(self, self._layout)

    def watch_glyphs(self, glyphs: Glyphs) -> None:
        """Passes the marks on."""
        for pane in self.query(Pane):
            pane.glyphs = glyphs

    def _choose_stage(self) -> None:
        shown = self._shown
        on_stage = (
            AgentsPane if shown.agents else WelcomePane if shown.status in UP else LoadingPane
        )
        if on_stage is not self._on_stage:
            self._on_stage = on_stage
            for pane in STAGE:
                self.query_one(pane).set_class(pane is not on_stage, "-offstage")
            self.call_after_refresh(self._lay_out)
        self.query_one(LoadingPane).update_from(
            LoadingSlice(status=shown.status, progress=shown.progress, text=shown.status_text)
        )
        self.query_one(WelcomePane).update_from(
            WelcomeSlice(
                base_url=self._base_url,
                model=shown.model,
                max_context_tokens=max_context_tokens(shown),
            )
        )
