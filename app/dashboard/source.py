"""What a dashboard knows of an engine that is not in its own process."""

from __future__ import annotations

from typing import Protocol

from widgets.source import SourceSlice


class Source(Protocol):
    """Tells where the picture comes from; asked at every poll."""

    @property
    def state(self) -> SourceSlice:
        """How it is now."""
