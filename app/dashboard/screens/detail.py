"""One agent explained: its cache, its turns, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.screen import ModalScreen

from app.dashboard.dispatch import AgentTextRead, EngineDispatch
from engine.face import EngineFace
from engine.snapshot import AgentRow
from styles.tokens import Glyphs
from widgets.agent_detail import AgentDetail, DetailSlice
from widgets.agent_text import AgentTextPane, TextSlice
from widgets.key_bar import KeyBar, KeyHint
from widgets.pane import Pane
from widgets.turns import TurnPane, TurnsPane, shown_turns

REFRESH_S = 0.5
PAGES = ("-agent", "-turns", "-text")
"""Classes of the screen: what is seen of it where there is no room for everything."""
NO_TEXT = "What agents say is not part of a recording."


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailSettings:
    """What the screen is about, and what it can do.

    Attributes:
        agent: The agent as it was when it was chosen.
        look: Gives it as it is now.
        fork: Makes an agent that goes on from the end of a turn; None where none can be made.
        engine: Tells what it says; None where nobody can.
        glyphs: Marks to draw with.
        zone: Of the times shown; None is the machine's own.
    """

    agent: AgentRow
    look: Callable[[], DetailSlice]
    fork: Callable[[int], None] | None
    engine: EngineFace | None
    glyphs: Glyphs
    zone: tzinfo | None


class DetailScreen(ModalScreen[None]):
    """The explainer of one agent, kept up to date.

    Args:
        settings: What it is about.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,i", "dismiss", "Close it.", show=False),
        Binding("tab", "page(1)", "Turn the page, where not everything is seen.", show=False),
        Binding(
            "shift+tab", "page(-1)", "Turn the page, where not everything is seen.", show=False
        ),
        Binding("up,k", "turn(-1)", "Choose a turn.", show=False),
        Binding("down,j", "turn(1)", "Choose a turn.", show=False),
        Binding("pageup,ctrl+b", "turn(-10)", "Ten turns at once.", show=False),
        Binding("pagedown,ctrl+f", "turn(10)", "Ten turns at once.", show=False),
        Binding("home,g", "turn(-1000)", "Choose the newest or the oldest turn.", show=False),
        Binding("end,G", "turn(1000)", "Choose the newest or the oldest turn.", show=False),
        Binding("f", "fork", "Fork the agent at the chosen turn.", show=False),
        Binding("v", "live", "Show the running reply, or hide it.", show=False),
    ]
    AUTO_FOCUS = None

    def __init__(self, settings: DetailSettings) -> None:
        super().__init__(classes=PAGES[0])
        self._settings = settings
        self._dispatch = EngineDispatch(settings.engine, self) if settings.engine else None
        self._text = TextSlice(problem="" if settings.engine else NO_TEXT)
        self._is_asking = False

    def compose(self) -> ComposeResult:
        """Facts on the left, turns on the right, text below, keys at the foot."""
        settings = self._settings
        with Container(id="detail"):
            yield AgentDetail(settings.zone, widget_id="detail-facts", shows_turns=False)
            with Vertical(id="detail-turns"):
                yield TurnsPane(settings.zone)
                yield TurnPane(settings.zone, is_forkable=settings.fork is not None)
            yield AgentTextPane()
        yield KeyBar(self._hints())

    def on_mount(self) -> None:
        """Shows the agent now and from then on."""
        for pane in self.query(Pane):
            pane.glyphs = self._settings.glyphs
        self.query_one(AgentTextPane).update_from(self._text)
        self._refresh_agent()
        self._ask()
        self.set_interval(REFRESH_S, self._refresh_agent)
        self.set_interval(REFRESH_S, self._ask)

    def _hints(self) -> tuple[KeyHint, ...]:
        fork = [KeyHint(key="f", label="fork here", action="screen.fork", rank=2)]
        live = [KeyHint(key="v", label="reply", action="screen.live", rank=1)]
        return (
            KeyHint(key="esc", label="close", action="screen.dismiss", rank=0),
            KeyHint(key="j/k", label="turns", action="screen.turn(1)", rank=3),
            KeyHint(key="tab", label="page", action="screen.page(1)", rank=4),
            *(fork if self._settings.fork else []),
            *(live if self._settings.engine else []),
        )

    def _refresh_agent(self) -> None:
        shown = self._settings.look()
        self.query_one("#detail-facts", AgentDetail).update_from(shown)
        self.query_one(TurnsPane).update_from(shown_turns(shown.agent))
        self._show_turn()

    def on_turns_pane_moved(self) -> None:
        """Another turn is chosen."""
        self._show_turn()

    def _show_turn(self) -> None:
        self.query_one(TurnPane).update_from(self.query_one(TurnsPane).selected)

    def _ask(self) -> None:
        """Asks for the text, unless the last question is still open."""
        if self._dispatch is None or self._is_asking:
            return
        self._is_asking = True
        self._dispatch.read(self._settings.agent, with_reply=self._text.is_live)

    def on_agent_text_read(self, heard: AgentTextRead) -> None:
        """Shows what was heard."""
        self._is_asking = False
        text, is_live = heard.text, self._text.is_live
        if text is None:
            self._text = TextSlice(problem=heard.problem, is_live=is_live)
        else:
            self._text = TextSlice(
                lead=text.lead,
                was=text.was,
                now=text.now,
                is_live=is_live,
                reply=text.reply if is_live else None,
                is_cut=text.is_cut,
            )
        self.query_one(AgentTextPane).update_from(self._text)

    def action_live(self) -> None:
        """Shows the running reply, or hides it again."""
        if self._dispatch is None:
            return
        self._text = TextSlice(
            lead=self._text.lead,
            was=self._text.was,
            now=self._text.now,
            is_live=not self._text.is_live,
        )
        self.query_one(AgentTextPane).update_from(self._text)
        if self._text.is_live and not self.query_one(AgentTextPane).display:
            self._turn_to(PAGES.index("-text"))
        self._ask()

    def action_turn(self, step: int) -> None:
        """Chooses another turn."""
        self.query_one(TurnsPane).move(step)

    def action_page(self, step: int) -> None:
        """Turns to another page where not everything is seen."""
        now = next(at for at, page in enumerate(PAGES) if self.has_class(page))
        self._turn_to((now + step) % len(PAGES))

    def _turn_to(self, index: int) -> None:
        self.remove_class(*PAGES)
        self.add_class(PAGES[index])

    def action_fork(self) -> None:
        """Makes an agent that goes on from the end of the chosen turn."""
        shown = self.query_one(TurnsPane).selected
        if shown is None or self._settings.fork is None:
            return
        if shown.is_running:
            self._say("this turn is not over yet; choose one that is")
        elif not shown.turn.resumable:
            self._say(f"the end of turn {shown.turn.number} is not in memory or on disk any more")
        else:
            self._settings.fork(shown.turn.number)

    def _say(self, text: str) -> None:
        self.notify(text, severity="warning", markup=False)
