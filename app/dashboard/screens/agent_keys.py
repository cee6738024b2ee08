"""What keys and the palette do to agents: ask where something is lost, then command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from pathlib import Path

from textual.screen import Screen

from app.dashboard import questions
from app.dashboard.board import Board
from app.dashboard.dispatch import EngineDispatch
from app.dashboard.evictions import Evictions
from app.dashboard.screens.choice import ChoiceScreen
from app.dashboard.screens.confirm import ConfirmScreen
from app.exports import exported_files, free_path
from engine.face import EngineFace
from engine.snapshot import EMPTY_SNAPSHOT, AgentRow, EngineSnapshot, TurnRow
from engine.turn_limits import MAX_PRIORITY, MIN_PRIORITY
from widgets.format import clean, clock_time, percent, short_bytes, shorten

FILE_CELLS = 48


class AgentKeys(Screen[None]):
    """A screen with a board of agents that can be acted on.

    Args:
        engine: Where commands go.
        exports_folder: Where agents' files go and come from.
        zone: Of the times shown; None is the machine's own.
    """

    def __init__(self, engine: EngineFace, exports_folder: Path, zone: tzinfo | None) -> None:
        super().__init__()
        self._engine = engine
        self._dispatch = EngineDispatch(engine, self)
        self._evictions = Evictions()
        self._shown: EngineSnapshot = EMPTY_SNAPSHOT
        self._exports_folder = exports_folder
        self._zone = zone

    @property
    def _board(self) -> Board:
        return self.query_one(Board)

    def action_evict(self) -> None:
        """Asks, then drops the selected agent's cache."""
        agent = self._selected_or_say()
        if agent is None:
            return
        if agent.status in questions.BUSY:
            self._say(f"{clean(agent.agent_id)} has a turn in progress; x aborts it", is_bad=True)
            return
        question = questions.evict(self._board.detail_of(agent), agent)
        self._ask(question, lambda: self._dispatch.evict(agent))

    def action_evict_idle(self) -> None:
        """Asks, then drops the caches of all idle, unpinned agents."""
        idle = questions.evictable(self._shown.agents)
        if not idle:
            self._say("no idle, unpinned agent holds a cache")
            return
        question = questions.evict_idle(idle, self._board.prefill_tok_s)
        self._ask(question, lambda: self._dispatch.evict_idle(idle))

    def action_undo(self) -> None:
        """Brings back what was last evicted by hand."""
        agents = self._evictions.take_back(self._shown)
        if agents:
            self._dispatch.bring_back(agents)
        else:
            self._say("no eviction by hand can be undone")

    def action_warm(self) -> None:
        """Brings the selected agent's cache back from disk."""
        agent = self._selected_or_say()
        if agent is None:
            return
        if agent.status in questions.BUSY:
            self._say(f"{clean(agent.agent_id)} has a turn in progress", is_bad=True)
        elif not questions.is_warmable(agent):
            name = clean(agent.agent_id)
            self._say(
                f"all of {name} is in memory already"
                if agent.hot_bytes
                else f"nothing of {name} is on disk"
            )
        else:
            self._dispatch.warm(agent)

    def action_fork(self) -> None:
        """Makes a new agent that starts from the selected agent's cache."""
        agent = self._selected_or_say()
        if agent is not None:
            self._dispatch.fork(agent)

    def action_fork_turn(self) -> None:
        """Lets a turn be chosen, and makes a new agent that goes on from its end."""
        agent = self._selected_or_say()
        if agent is None:
            return
        turns = [turn for turn in reversed(agent.turns) if turn.resumable]
        if not turns:
            self._say(f"no turn of {clean(agent.agent_id)} is in memory or on disk")
            return
        self._choose(
            f"Fork {shorten(agent.agent_id, FILE_CELLS)} after which turn?",
            [self._turn_words(turn) for turn in turns],
            lambda index: self._dispatch.fork(agent, turns[index].number),
        )

    def _turn_words(self, turn: TurnRow) -> str:
        hit = turn.num_cached_tokens / turn.num_prompt_tokens if turn.num_prompt_tokens else None
        when = clock_time(turn.ended_time, self._zone)
        words = f"turn {turn.number:<4} {when}  {turn.num_context_tokens:>7,} tokens"
        return f"{words}  hit {percent(hit):>4}  {clean(turn.miss)}".rstrip()

    def action_export(self) -> None:
        """Writes the selected agent into a file."""
        agent = self._selected_or_say()
        if agent is not None:
            self._dispatch.export(agent, free_path(self._exports_folder, agent.agent_id))

    def action_import(self) -> None:
        """Lets a file be chosen, and takes its agent in."""
        files = exported_files(self._exports_folder)
        if not files:
            self._say(f"there is no exported agent in {self._exports_folder}")
            return
        lines = [
            f"{shorten(file.stem, FILE_CELLS):<{FILE_CELLS}} {short_bytes(file.num_bytes):>5}  "
            f"{clock_time(file.time, self._zone)}"
            for file in files
        ]
        self._choose(
            "Import which agent?", lines, lambda index: self._dispatch.take_in(files[index].path)
        )

    def action_remove(self) -> None:
        """Asks, then forgets the selected agent."""
        agent = self._selected_or_say()
        if agent is None:
            return
        if agent.status in questions.BUSY:
            self._say(f"{clean(agent.agent_id)} has a turn in progress; x aborts it", is_bad=True)
            return
        question = questions.remove(self._board.detail_of(agent), agent)
        self._ask(question, lambda: self._dispatch.remove(agent))

    def action_pin(self) -> None:
        """Pins or unpins the selected agent."""
        agent = self._selected_or_say()
        if agent is not None:
            self._dispatch.pin(agent, pinned=not agent.pinned)

    def action_pause_agent(self) -> None:
        """Pauses or resumes the selected agent."""
        agent = self._selected_or_say()
        if agent is not None:
            self._dispatch.pause(agent, paused=not agent.paused)

    def action_priority_up(self) -> None:
        """Lets the selected agent's turns go further ahead."""
        self._change_priority(1)

    def action_priority_down(self) -> None:
        """Lets the selected agent's turns wait longer."""
        self._change_priority(-1)

    def _change_priority(self, step: int) -> None:
        agent = self._selected_or_say()
        if agent is None:
            return
        priority = agent.priority + step
        if MIN_PRIORITY <= priority <= MAX_PRIORITY:
            self._dispatch.set_priority(agent, priority)
        else:
            end = "highest" if step > 0 else "lowest"
            self._say(f"{clean(agent.agent_id)} has the {end} priority already")

    def action_copy_id(self) -> None:
        """Copies the selected agent's id."""
        agent = self._selected_or_say()
        if agent is not None:
            self.app.copy_to_clipboard(agent.agent_id)
            self._say(f"copied {clean(agent.agent_id)}")

    def action_abort(self) -> None:
        """Asks, then ends the selected agent's turn."""
        agent = self._selected_or_say()
        if agent is None:
            return
        if agent.status not in questions.BUSY:
            self._say(f"{clean(agent.agent_id)} has no turn in progress")
            return
        self._ask(questions.abort(agent), lambda: self._dispatch.abort(agent))

    def _selected_or_say(self) -> AgentRow | None:
        agent = self._board.selected
        if agent is None:
            self._say("no agent is selected")
        return agent

    def _ask(self, question: questions.Question, act: Callable[[], None]) -> None:
        def answered(is_yes: bool | None) -> None:
            if is_yes:
                act()

        self.app.push_screen(ConfirmScreen(question), answered)

    def _choose(
        self, heading: str, lines: Sequence[str], act: Callable[[int], None], at: int = 0
    ) -> None:
        def chosen(index: int | None) -> None:
            if index is not None:
                act(index)

        self.app.push_screen(ChoiceScreen(heading, lines, at=at), chosen)

    def _say(self, text: str, *, is_bad: bool = False) -> None:
        self.notify(text, severity="warning" if is_bad else "information", markup=False)
