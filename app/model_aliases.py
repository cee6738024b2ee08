"""Other names for models: what a client may ask for, and the model that it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ACTIVE = "active"
"""Stands for whichever model is active."""
MAX_NAME_CHARS = 200
_FORM = "must name models like claude-*=active,small=org/name, or be a table of them"


@dataclass(frozen=True, slots=True)
class ModelAlias:
    """A name that stands for a model.

    Attributes:
        name: The name; a ``*`` at its end stands for any rest.
        model: An id of the catalogue, or ``active``.
    """

    name: str
    model: str

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for more than one name."""
        return self.name.endswith("*")

    def fits(self, asked: str) -> bool:
        """Whether a name that was asked for is meant."""
        return asked.startswith(self.name[:-1]) if self.is_pattern else asked == self.name


BUILT_IN = (ModelAlias("claude-*", ACTIVE), ModelAlias("gpt-*", ACTIVE))
"""What clients ask for that were told nothing."""


class ModelAliases:
    """All aliases: those of the settings, and behind them those that need no set-up."""

    def __init__(self, aliases: Iterable[ModelAlias] = ()) -> None:
        """Orders them: a name comes before a pattern, a long pattern before a short one."""
        given = sorted(aliases, key=lambda alias: (alias.is_pattern, -len(alias.name)))
        self._aliases = (*given, *BUILT_IN)

    @property
    def names(self) -> list[str]:
        """Names that stand for one model each, in the alphabet's order."""
        return sorted(alias.name for alias in self._aliases if not alias.is_pattern)

    def meant(self, asked: str, active: str) -> str:
        """The model that a name stands for.

        Args:
            asked: What a client asked for; empty for any model.
            active: The active model, whose own name is never another's.

        Returns:
            A model's id; the name itself where it stands for nothing else.
        """
        if asked in ("", active):
            return active
        model = next((alias.model for alias in self._aliases if alias.fits(asked)), asked)
        return active if model == ACTIVE else model


def parse_aliases(given: object) -> tuple[ModelAlias, ...]:
    """Aliases from a TOML table (name to model), or from text like ``claude-*=active,x=org/name``.

    Raises:
        ValueError: It is neither, or one cannot be used; worded to follow the setting's name.
    """
    if isinstance(given, str):
        pairs = [_split(item) for item in given.split(",")]
    elif isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        raise ValueError(_FORM)
    aliases = tuple(ModelAlias(_name(name), _model(name, model)) for name, model in pairs)
    if len({alias.name for alias in aliases}) < len(aliases):
        raise ValueError("must name each alias once")
    return aliases


def _split(item: str) -> tuple[str, str]:
    name, equals, model = item.partition("=")
    if not equals:
        raise ValueError(_FORM)
    return name.strip(), model.strip()


def _name(name: str) -> str:
    is_text = name.isprintable() and name.strip() == name and 0 < len(name) <= MAX_NAME_CHARS
    if not is_text or "*" in name[:-1] or name == ACTIVE:
        raise ValueError(f"must have plain names, with one * at the end at most, unlike {name!r}")
    return name


def _model(name: str, model: object) -> str:
    is_text = isinstance(model, str) and model.isprintable() and model.strip() == model
    if not isinstance(model, str) or not is_text or not model:
        raise ValueError(
            f"must give a model for {name!r}: an id of `stoker models list`, or active"
        )
    return model
