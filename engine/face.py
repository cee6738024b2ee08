"""The face that the dashboard and the API see; ``Engine`` and ``ScriptedEngine`` both have it."""

from __future__ import annotations

from typing import Protocol

from engine.commands import Command
from engine.messages import ChatFormat
from engine.snapshot import EngineSnapshot


class EngineFace(Protocol):
    """An engine as its users see it. Every method may be called from any thread."""

    @property
    def snapshot(self) -> EngineSnapshot:
        """The newest snapshot; the object never changes, it is replaced."""

    @property
    def chat_format(self) -> ChatFormat | None:
        """The text side of the active model; None until one is loaded."""

    def start(self) -> None:
        """Starts the engine's thread; returns at once."""

    def send(self, command: Command) -> None:
        """Queues a command; never blocks. Its future or sink answers."""

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the engine's thread to end; False on time-out."""
