"""From a key press to the engine and back, without ever waiting for the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from engine.agent_commands import (
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
from engine.commands import AbortAgent, DescribeBlock, PauseAgent, SetBatchWindow, SetPriority
from engine.errors import StokerError
from engine.face import EngineFace
from engine.snapshot import AgentRow, BlockRow
from widgets.format import clean, short_bytes

AgentKey = tuple[str, str]
"""Namespace and id of an agent."""


class CommandAnswered(Message):
    """The engine has answered a command.

    Attributes:
        text: The outcome in words.
        is_error: Whether the command failed.
        evicted: Agents whose caches left memory and can be brought back from disk.
    """

    def __init__(self, text: str, *, is_error: bool, evicted: tuple[AgentKey, ...] = ()) -> None:
        self.text = text
        self.is_error = is_error
        self.evicted = evicted
        super().__init__()


class BlockDescribed(Message):
    """The engine has told what is in a block.

    Attributes:
        block_id: The block that was asked for.
        block: What is in it; None where that cannot be told.
    """

    def __init__(self, block_id: int, block: BlockRow | None) -> None:
        self.block_id = block_id
        self.block = block
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


class Tally:
    """Sums the answers to several commands; it fails only where all of them do.

    Args:
        num_expected: How many answers there will be.
    """

    def __init__(self, num_expected: int) -> None:
        self.done: Future[int] = Future()
        self._num_expected = num_expected
        self._total = 0
        self._failures: list[BaseException] = []
        self._lock = threading.Lock()

    def add(self, answer: Future[int]) -> None:
        """Takes one answer; may be called from any thread."""
        error = answer.exception()
        with self._lock:
            if error is None:
                self._total += answer.result()
            else:
                self._failures.append(error)
            self._num_expected -= 1
            is_last = self._num_expected == 0
        if is_last and self._failures and not self._total:
            self.done.set_exception(self._failures[0])
        elif is_last:
            self.done.set_result(self._total)


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
        self._report_eviction(command.done, agent.agent_id, (agent,))
        self._engine.send(command)

    def evict_idle(self, idle: Sequence[AgentRow]) -> None:
        """Drops the caches of all idle, unpinned agents; ``idle`` are those as last shown."""
        command = EvictIdle()
        self._report_eviction(command.done, "idle agents", idle)
        self._engine.send(command)

    def _report_eviction(
        self, future: Future[Eviction], who: str, agents: Sequence[AgentRow]
    ) -> None:
        keys = tuple(agent.key for agent in agents)

        def report(done: Future[Eviction]) -> None:
            answer = answered(done, lambda eviction: _evicted_words(who, eviction))
            if not answer.is_error and done.result().num_disk_tokens:
                answer.text += "; u brings it back"
                answer.evicted = keys
            self._receiver.post_message(answer)

        future.add_done_callback(report)

    def bring_back(self, agents: Sequence[AgentRow]) -> None:
        """Brings the caches of evicted agents back from disk, and tells of all of them at once."""
        commands = [WarmAgent(agent_id=a.agent_id, namespace=a.namespace) for a in agents]
        whose = clean(agents[0].agent_id) if len(agents) == 1 else f"{len(agents)} agents"
        tally = Tally(len(commands))
        self._report(
            tally.done, lambda tokens: f"{whose} back in memory, {tokens:,} tokens; undone"
        )
        for command in commands:
            command.done.add_done_callback(tally.add)
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

    def pause(self, agent: AgentRow, *, paused: bool) -> None:
        """Pauses or resumes one agent."""
        command = PauseAgent(agent_id=agent.agent_id, paused=paused, namespace=agent.namespace)
        self._report(
            command.done,
            lambda is_paused: f"{clean(agent.agent_id)} {'paused' if is_paused else 'goes on'}",
        )
        self._engine.send(command)

    def set_priority(self, agent: AgentRow, priority: int) -> None:
        """Lets one agent's turns go ahead of others', or behind them."""
        command = SetPriority(agent_id=agent.agent_id, priority=priority, namespace=agent.namespace)
        self._report(
            command.done,
            lambda now: f"{clean(agent.agent_id)} has priority {f'{now:+d}' if now else 0}",
        )
        self._engine.send(command)

    def set_batch_window(self, window_ms: float) -> None:
        """Changes the batch window."""
        command = SetBatchWindow(window_ms=window_ms)
        self._report(command.done, lambda now: f"the batch window is {now:g} ms now")
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

    def describe_block(self, block_id: int) -> None:
        """Asks what is in a block; the answer arrives as ``BlockDescribed``."""
        command = DescribeBlock(block_id=block_id)

        def told(done: Future[BlockRow]) -> None:
            is_told = not done.cancelled() and done.exception() is None
            self._receiver.post_message(
                BlockDescribed(block_id, done.result() if is_told else None)
            )

        command.done.add_done_callback(told)
        self._engine.send(command)

    def read(self, agent: AgentRow, *, with_reply: bool) -> None:
        """Asks what one agent is saying; the answer is an ``AgentTextRead``."""
        command = ReadAgent(
            agent_id=agent.agent_id, namespace=agent.namespace, with_reply=with_reply
        )
        command.done.add_done_callback(lambda done: self._receiver.post_message(_heard(done)))
        self._engine.send(command)

    def _report(self, future: Future[Any], describe: Callable[[Any], str]) -> None:
        future.add_done_callback(lambda done: self._receiver.post_message(answered(done, describe)))


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


def answered(future: Future[Any], describe: Callable[[Any], str]) -> CommandAnswered:
    """How a command ended, in words.

    Args:
        future: Its answer, which is there.
        describe: Words for what it resolved to.
    """
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
