"""Keys that work in one place alone: in a pane, or on a screen over the main one.

They are told from the bindings of these places, so that help and docs name what there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from textual.binding import Binding, BindingType
from textual.dom import DOMNode

from app.dashboard.key_words import key_words
from app.dashboard.screens.capacity import CapacityScreen
from app.dashboard.screens.choice import ChoiceScreen
from app.dashboard.screens.confirm import ConfirmScreen
from app.dashboard.screens.detail import DetailScreen
from app.dashboard.screens.help import HelpScreen, HelpText
from app.dashboard.screens.jump import JumpScreen
from app.dashboard.screens.models import ModelsScreen
from app.dashboard.screens.page import PageScreen
from widgets.agents import AgentsPane
from widgets.block_map import BlockMapPane
from widgets.event_pane import EventsPane
from widgets.lane_list import LaneList
from widgets.model_list import ModelList
from widgets.page import Page


@dataclass(frozen=True, slots=True)
class Place:
    """Where keys work that mean nothing, or something else, elsewhere.

    Attributes:
        title: Its heading.
        kinds: Whose bindings they are.
        more: What else can be done there: keys and words.
    """

    title: str
    kinds: tuple[type[DOMNode], ...]
    more: tuple[tuple[str, str], ...] = ()

    @property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """Keys and what they do; those that do the same in different directions are one."""
        told: dict[str, list[str]] = {}
        for kind in self.kinds:
            for binding in own_bindings(kind):
                told.setdefault(binding.description, []).extend(binding.key.split(","))
        return (*((key_words(keys), words) for words, keys in told.items()), *self.more)


PLACES: tuple[Place, ...] = (
    Place("In the agents", (LaneList, AgentsPane), (("esc", "Clear the filter."),)),
    Place("In the block map", (BlockMapPane,), (("esc", "Take the cursor away."),)),
    Place("In the events", (EventsPane,), (("esc", "Clear the filter."),)),
    Place("On an agent's screen", (DetailScreen,)),
    Place("On a page", (PageScreen, Page)),
    Place("On the help page", (HelpScreen, HelpText)),
    Place("On the page on capacity", (CapacityScreen,)),
    # Its screen takes long to import, and is not needed before somebody asks for it.
    Place("On the doctor's page", (), (("r", "Check again."),)),
    Place("In the list of models", (ModelsScreen, ModelList), (("enter", "Change to that one."),)),
    Place("In a list of choices", (ChoiceScreen,), (("enter", "Choose."),)),
    Place("In a question", (ConfirmScreen,)),
    Place("While jumping", (JumpScreen,), (("a letter", "Go to its pane or agent."),)),
)


def own_bindings(kind: type[DOMNode]) -> Iterator[Binding]:
    """The bindings that a kind of node adds to those of its parent."""
    bindings: list[BindingType] = kind.__dict__.get("BINDINGS", [])
    for binding in bindings:
        yield binding if isinstance(binding, Binding) else Binding(*binding)
