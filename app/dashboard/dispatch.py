"""From a key press to the engine and back, without ever waiting for the engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from engine.commands import (
    AbortAgent,
    AgentText,
    EvictAgent,
    EvictIdle,
    Eviction,
    ExportAgent,
    ExportedAgent,
    ForkAgent,
    ImportAgent,
    PinAgent,
    ReadAgent,
    RemoveAgent,
    WarmAgent,
)
from engine.errors import StokerError
from engine.face import EngineFace
from engine.snapshot import AgentRow
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


class AgentTextRead(Message):
    """The engine has told what an agent is saying.

    Attributes:
        text: The text; None where it could not be told.
        problem: Why it could not, in words.
    """

    def __init__(self, text: AgentText | None, problem: str = "") -> None:
        self.text = text
        self.problem = problem
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

    def evict(self, agent: AgentRow) -> None:
        """Drops one agent's cache."""
        command = EvictAgent(agent_id=agent.agent_id, namespace=agent.namespace)
        self._report(command.done, lambda done: _evicted_words(agent.agent_id, done))
        self._engine.send(command)

    def evict_idle(self) -> None:
        """Drops the caches of all idle, unpinned agents."""
        command = EvictIdle()
        self._report(command.done, lambda done: _evicted_words("idle agents", done))
        self._engine.send(command)

    def warm(self, agent: AgentRow) -> None:
        """Brings one agent's cache back from disk."""
        command = WarmAgent(agent_id=agent.agent_id, namespace=agent.namespace)
        self._report(
            command.done, lambda tokens: f"{clean(agent.agent_id)} is in memory, {tokens:,} tokens"
        )
        self._engine.send(command)

    def fork(self, agent: AgentRow, turn: int | None = None) -> None:
        """Makes a new agent that starts from one agent's cache, now or at the end of a turn."""
        command = ForkAgent(agent_id=agent.agent_id, turn=turn, namespace=agent.namespace)
        place = "" if turn is None else f" after turn {turn}"
        self._report(
            command.done, lambda name: f"{clean(agent.agent_id)} forked{place} as {clean(name)}"
        )
        self._engine.send(command)

    def pin(self, agent: AgentRow, *, pinned: bool) -> None:
        """Pins or unpins one agent."""
        command = PinAgent(agent_id=agent.agent_id, pinned=pinned, namespace=agent.namespace)
        self._report(
            command.done,
            lambda is_pinned: f"{clean(agent.agent_id)} {'pinned' if is_pinned else 'unpinned'}",
        )
        self._engine.send(command)

    def abort(self, agent: AgentRow) -> None:
        """Ends one agent's turns."""
        command = AbortAgent(agent_id=agent.agent_id, namespace=agent.namespace)
        self._report(command.done, lambda ended: _aborted_words(agent.agent_id, ended))
        self._engine.send(command)

    def remove(self, agent: AgentRow) -> None:
        """Forgets one agent."""
        command = RemoveAgent(agent_id=agent.agent_id, namespace=agent.namespace)
        self._report(
            command.done,
            lambda freed: f"{clean(agent.agent_id)} removed, {short_bytes(freed)} freed",
        )
        self._engine.send(command)

    def export(self, agent: AgentRow, path: Path) -> None:
        """Writes one agent into a file."""
        command = ExportAgent(agent_id=agent.agent_id, path=path, namespace=agent.namespace)
        self._report(command.done, lambda done: _exported_words(agent.agent_id, done))
        self._engine.send(command)

    def take_in(self, path: Path) -> None:
        """Takes an agent in from a file."""
        command = ImportAgent(path=path)
        self._report(
            command.done,
            lambda done: f"{clean(done.agent_id)} imported, {done.num_tokens:,} tokens on disk",
        )
        self._engine.send(command)

    def read(self, agent: AgentRow, *, with_reply: bool) -> None:
        """Asks what one agent is saying; the answer is an ``AgentTextRead``."""
        command = ReadAgent(
            agent_id=agent.agent_id, namespace=agent.namespace, with_reply=with_reply
        )
        command.done.add_done_callback(lambda done: self._receiver.post_message(_heard(done)))
        self._engine.send(command)

    def _report(self, future: Future[Any], describe: Callable[[Any], str]) -> None:
        future.add_done_callback(lambda done: self._receiver.post_message(_answer(done, describe)))


def _evicted_words(who: str, eviction: Eviction) -> str:
    words = f"{clean(who)} evicted, {short_bytes(eviction.freed_bytes)} freed"
    num_tokens, num_kept = eviction.num_tokens, eviction.num_disk_tokens
    if not num_tokens:
        return words
    if num_kept == num_tokens:
        return f"{words}; all of it stays on disk"
    if not num_kept:
        return f"{words}; nothing of it is on disk"
    return f"{words}; {num_kept:,} of {num_tokens:,} tokens stay on disk"


def _exported_words(agent_id: str, exported: ExportedAgent) -> str:
    return f"{clean(agent_id)} exported, {short_bytes(exported.num_bytes)} in {exported.path}"


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


def _heard(future: Future[AgentText]) -> AgentTextRead:
    try:
        return AgentTextRead(future.result())
    except StokerError as error:
        return AgentTextRead(None, clean(str(error)))
    except CancelledError:
        return AgentTextRead(None, "the engine dropped the question")
