"""From a key press to the engine and back, without ever waiting for the engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from engine.commands import AbortAgent, EvictAgent, EvictIdle, ForkAgent, PinAgent, WarmAgent
from engine.errors import StokerError
from engine.face import EngineFace
from widgets.format import clean, short_bytes


class CommandAnswered(Message):
    """The engine has answered a command.

    Attributes:
        text: The outcome in words.
        is_error: Whether the command failed.
    """

    def __init__(self, text: str, *, is_error: bool) -> None:
        self.text = text
        self.is_error = is_error
        super().__init__()


class EngineDispatch:
    """Sends commands; the answers arrive as ``CommandAnswered`` messages.

    Args:
        engine: Where commands go.
        receiver: Who hears of the outcome; may be posted to from the engine's thread.
    """

    def __init__(self, engine: EngineFace, receiver: MessagePump) -> None:
        self._engine = engine
        self._receiver = receiver

    def evict(self, agent_id: str) -> None:
        """Drops one agent's cache."""
        command = EvictAgent(agent_id=agent_id)
        self._report(
            command.done, lambda freed: f"{clean(agent_id)} evicted, {short_bytes(freed)} freed"
        )
        self._engine.send(command)

    def evict_idle(self) -> None:
        """Drops the caches of all idle, unpinned agents."""
        command = EvictIdle()
        self._report(command.done, lambda freed: f"idle agents evicted, {short_bytes(freed)} freed")
        self._engine.send(command)

    def warm(self, agent_id: str) -> None:
        """Brings one agent's cache back from disk."""
        command = WarmAgent(agent_id=agent_id)
        self._report(
            command.done, lambda tokens: f"{clean(agent_id)} is in memory, {tokens:,} tokens"
        )
        self._engine.send(command)

    def fork(self, agent_id: str) -> None:
        """Makes a new agent that starts from one agent's cache."""
        command = ForkAgent(agent_id=agent_id)
        self._report(command.done, lambda name: f"{clean(agent_id)} forked as {clean(name)}")
        self._engine.send(command)

    def pin(self, agent_id: str, *, pinned: bool) -> None:
        """Pins or unpins one agent."""
        command = PinAgent(agent_id=agent_id, pinned=pinned)
        self._report(
            command.done,
            lambda is_pinned: f"{clean(agent_id)} {'pinned' if is_pinned else 'unpinned'}",
        )
        self._engine.send(command)

    def abort(self, agent_id: str) -> None:
        """Ends one agent's turns."""
        command = AbortAgent(agent_id=agent_id)
        self._report(command.done, lambda ended: _aborted_words(agent_id, ended))
        self._engine.send(command)

    def _report(self, future: Future[Any], describe: Callable[[Any], str]) -> None:
        future.add_done_callback(lambda done: self._receiver.post_message(_answer(done, describe)))


def _aborted_words(agent_id: str, num_ended: int) -> str:
    if not num_ended:
        return f"{clean(agent_id)} had no turn in progress"
    turns = "turn" if num_ended == 1 else "turns"
    return f"{num_ended} {turns} of {clean(agent_id)} aborted"


def _answer(future: Future[Any], describe: Callable[[Any], str]) -> CommandAnswered:
    try:
        return CommandAnswered(describe(future.result()), is_error=False)
    except StokerError as error:
        return CommandAnswered(clean(str(error)), is_error=True)
    except CancelledError:
        return CommandAnswered("the engine dropped the command", is_error=True)
