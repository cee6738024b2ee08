"""What keys and the palette do to the screen: which panes, how large, in which order."""

from __future__ import annotations

from typing import Any

from textual.geometry import Offset

from app.dashboard.board import Board
from app.dashboard.habits import Habits, HabitsFile
from app.dashboard.pane_layout import ALWAYS, LINES_PER_STEP, PRESETS, PaneLayout, preset
from app.dashboard.placing import plan, sheet_rows
from app.dashboard.screens.choice import ChoiceScreen
from app.dashboard.screens.jump import JumpScreen, Target
from app.dashboard.screens.replay_keys import ReplayKeys
from styles.theme_names import THEME_WORDS
from widgets.agents import AgentsPane
from widgets.block_legend import ColourBy
from widgets.block_map import BlockMapPane
from widgets.history import SPANS_S
from widgets.lane_list import LaneList
from widgets.pane import Pane


class ViewKeys(ReplayKeys):
    """A screen whose panes can be moved about, and that remembers how it was left."""

    _habits_file = HabitsFile(None)
    _kept = Habits()
    _chosen_theme = ""
    _span_s = SPANS_S[0]

    def draw_trend(self) -> None:
        """Draws the charts."""
        raise NotImplementedError

    # Remembering

    def use_habits(self, habits: Habits) -> None:
        """Makes the screen as it was left."""
        self._kept = habits
        self._chosen_theme = habits.theme
        if habits.sort_by:
            self._agents_pane.sort_by = habits.sort_by
        if habits.span_s in SPANS_S:
            self._span_s = habits.span_s
        if habits.colour_by in set(ColourBy):
            self._blocks_pane.colour_by = ColourBy(habits.colour_by)
        self._board.pane_layout = habits.layout

    def keep_habits(self) -> None:
        """Remembers how the screen is now."""
        habits = Habits(
            theme=self._chosen_theme,
            sort_by=self._agents_pane.sort_by,
            span_s=self._span_s,
            colour_by=self._blocks_pane.colour_by,
            layout=self._board.pane_layout,
        )
        if habits != self._kept:
            self._kept = habits
            self._habits_file.save(habits)

    @property
    def _agents_pane(self) -> AgentsPane:
        return self._board.query_one(AgentsPane)

    @property
    def _blocks_pane(self) -> BlockMapPane:
        return self._board.query_one(BlockMapPane)

    # Agents and charts

    def action_filter(self) -> None:
        """Types a filter."""
        if self._shown.agents:
            self._agents_pane.open_filter()

    def action_sort(self) -> None:
        """Next sort order."""
        self._agents_pane.cycle_sort()

    def on_agents_pane_sorted(self) -> None:
        """Remembers the order, whoever chose it."""
        self.keep_habits()

    def action_colour_blocks(self) -> None:
        """Next colouring of the block map."""
        self._blocks_pane.colour_by = self._blocks_pane.colour_by.next
        self.keep_habits()

    def action_chart_span(self) -> None:
        """Next span of the charts."""
        at = SPANS_S.index(self._span_s)
        self._span_s = SPANS_S[(at + 1) % len(SPANS_S)]
        self.draw_trend()
        self.keep_habits()

    def action_clear_log(self) -> None:
        """Takes the events so far off the screen."""
        self._board.clear_events()
        self.refresh_now()

    def action_theme(self) -> None:
        """Chooses colours."""
        before = self.app.theme
        names = list(THEME_WORDS)

        def shown(index: int) -> None:
            self.app.theme = names[index]

        def chosen(index: int | None) -> None:
            self.app.theme = before if index is None else names[index]
            if index is not None:
                self._chosen_theme = names[index]
                self.keep_habits()

        lines = [f"{name:<20} {words}" for name, words in THEME_WORDS.items()]
        at = names.index(before) if before in names else 0
        self.app.push_screen(ChoiceScreen("Which colours?", lines, at=at, preview=shown), chosen)

    # One pane alone

    def _focused_pane(self) -> Pane[Any]:
        focused = self.focused
        ancestors = focused.ancestors_with_self if focused is not None else []
        pane = next((node for node in ancestors if isinstance(node, Pane)), None)
        return pane or self._agents_pane

    def action_maximise(self) -> None:
        """Gives the focused pane, or the agents, all the room; or puts it back."""
        if self._board.maximised is not None:
            self.action_restore()
        else:
            self._board.maximise(self._focused_pane())

    def action_show_pane(self, name: str) -> None:
        """Gives one pane all the room; the same key again puts it back."""
        pane = self._board.query_one(f"#{name}", Pane)
        if self._board.maximised is pane:
            self.action_restore()
        else:
            self._board.maximise(pane)
            self.draw_trend()

    def action_restore(self) -> None:
        """Puts every pane back."""
        self._board.maximise(None)
        self.query_one(LaneList).focus()

    # Which panes, and how large

    def action_hide(self) -> None:
        """Hides the focused pane."""
        pane = self._focused_pane()
        if pane.id in ALWAYS:
            self._say("the agents stay; tab to another pane to hide it")
        elif self._can_arrange():
            self._arrange(self._board.pane_layout.hiding(str(pane.id)))
            self.query_one(LaneList).focus()
            self._say(f"{pane.id} is hidden; L brings it back")

    def action_layout(self) -> None:
        """Chooses a preset, or a hidden pane to bring back."""
        if not self._has_rows():
            return
        board = self._board
        pane_ids = [str(pane.id) for pane in board.query(Pane)]
        hidden = [pane for pane in board.query(Pane) if pane.id in board.pane_layout.hidden]
        layouts = [
            PaneLayout(),
            *(preset(name, pane_ids) for name, _, _ in PRESETS),
            *(board.pane_layout.showing(str(pane.id)) for pane in hidden),
        ]
        lines = [
            f"{'everything':<12} every pane, as large as it came",
            *(f"{name:<12} {words}" for name, words, _ in PRESETS),
            *(f"{'bring back':<12} {pane.id}" for pane in hidden),
        ]
        self._choose("Which panes?", lines, lambda index: self._arrange(layouts[index]))

    def action_wider(self) -> None:
        """Gives the focused pane another column."""
        self._widen(1)

    def action_narrower(self) -> None:
        """Takes a column from the focused pane."""
        self._widen(-1)

    def action_taller(self) -> None:
        """Gives the focused pane's row more lines."""
        self._heighten(LINES_PER_STEP)

    def action_shorter(self) -> None:
        """Takes lines from the focused pane's row."""
        self._heighten(-LINES_PER_STEP)

    def _widen(self, num_columns: int) -> None:
        if self._can_arrange():
            pane_id = str(self._focused_pane().id)
            self._resize(self._board.pane_layout.widening(pane_id, num_columns))

    def _heighten(self, num_lines: int) -> None:
        if self._can_arrange():
            pane_id = str(self._focused_pane().id)
            self._resize(self._board.pane_layout.heightening(pane_id, num_lines))

    def _resize(self, layout: PaneLayout) -> None:
        """Takes a layout, unless nothing can be made larger or smaller by it."""
        if plan(self._board, layout) != plan(self._board, self._board.pane_layout):
            self._arrange(layout)

    def _can_arrange(self) -> bool:
        if self._board.maximised is not None:
            self._say("this pane has all the room; z puts the others back")
            return False
        return self._has_rows()

    def _has_rows(self) -> bool:
        if sheet_rows(self._board):
            return True
        self._say("there is room for one pane here; 1 to 6 show the others")
        return False

    def _arrange(self, layout: PaneLayout) -> None:
        if self._board.maximised is not None:
            self.action_restore()
        self._board.pane_layout = layout
        self.call_after_refresh(self.draw_trend)
        self.keep_habits()

    # Jumping

    def action_jump(self) -> None:
        """Shows a letter on every pane and agent, and goes where it is told."""
        self.app.push_screen(JumpScreen(jump_targets(self._board)), self._jump_to)

    def _jump_to(self, target: Target | None) -> None:
        if target is None:
            return
        if target.lane is not None:
            lanes = self.query_one(LaneList)
            lanes.go_to(target.lane)
            lanes.focus()
        else:
            pane = self._board.query_one(f"#{target.pane}", Pane)
            (self.query_one(LaneList) if pane.id in ALWAYS else pane).focus()


def jump_targets(board: Board) -> list[Target]:
    """Every place on the screen that can be gone to: panes first, then agents."""
    panes = [
        Target(place=pane.region.offset, pane=str(pane.id))
        for pane in board.query(Pane)
        if pane.display and pane.region and (pane.can_focus or pane.id == "agents")
    ]
    lanes = [
        Target(place=Offset(2, y), pane="agents", lane=key)
        for lane_list in board.query(LaneList)
        for y, key in lane_list.lanes_on_screen()
    ]
    return [*panes, *lanes]
