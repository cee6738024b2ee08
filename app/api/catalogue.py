"""The models that clients are told of: the active one, its aliases, and what else is here."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from app.model_aliases import ModelAliases
from engine.face import EngineFace
from engine.models.entry import ModelEntry, Room
from engine.models.places import list_models

KEPT_S = 5.0
"""How long a look at the disk is good for; clients ask for the list in bursts."""
_NO_ROOM = Room(0, widens=False)
"""What fits is not asked here."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as clients are told of it.

    Attributes:
        model_id: What they ask for.
        max_context_tokens: Its context limit; 0 where it is not known.
    """

    model_id: str
    max_context_tokens: int


class Catalogue:
    """What can be asked for. Belongs to the API's loop."""

    def __init__(self, engine: EngineFace, aliases: ModelAliases, models_dir: Path | None) -> None:
        """Looks at nothing yet.

        Args:
            engine: Has the active model.
            aliases: Other names for models.
            models_dir: The folder of converted models; None where only the active one is told.
        """
        self._engine = engine
        self._aliases = aliases
        self._models_dir = models_dir
        self._entries: tuple[ModelEntry, ...] = ()
        self._looked_s = -KEPT_S

    async def models(self) -> list[ListedModel]:
        """All models, the active one first, then aliases, then what a swap could make active."""
        active = self._engine.snapshot.model_detail
        others = [_listed(entry) for entry in await self._others()]
        if active is None:
            return others
        first = ListedModel(active.model_id, active.max_context_tokens)
        by_id = {model.model_id: model for model in (first, *others)}
        aliases = [
            ListedModel(name, by_id[meant].max_context_tokens)
            for name in self._aliases.names
            if name not in by_id and (meant := self._aliases.meant(name, active.model_id)) in by_id
        ]
        return [first, *aliases, *others]

    async def find(self, name: str) -> ListedModel | None:
        """The model that a name stands for; None where it is none of those here."""
        active = self._engine.snapshot.model
        meant = self._aliases.meant(name, active)
        return next((model for model in await self.models() if model.model_id == meant), None)

    async def _others(self) -> list[ModelEntry]:
        """Models on this machine that are not active and could be loaded."""
        if self._models_dir is None:
            return []
        if time.monotonic() - self._looked_s >= KEPT_S:
            entries = await asyncio.to_thread(list_models, self._models_dir, _NO_ROOM)
            self._entries = tuple(entry for entry in entries if not entry.refusal)
            self._looked_s = time.monotonic()
        active = self._engine.snapshot.model_detail
        path = Path(active.path).resolve() if active is not None and active.path else None
        return [entry for entry in self._entries if Path(entry.path).resolve() != path]


def _listed(entry: ModelEntry) -> ListedModel:
    return ListedModel(entry.model_id, entry.max_context_tokens)
