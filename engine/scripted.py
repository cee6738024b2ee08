"""An engine without a model: the same face as ``Engine``, driven by a script and a clock.

Demos, screen tests and screenshots run on it. What it shows depends only on its scene, the clock
it is given and the commands it gets, so a test that freezes the clock sees the same thing always.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from engine.agent_commands import (
    AgentText,
    EvictAgent,
    EvictIdle,
    Eviction,
    ExportAgent,
    ExportedAgent,
    ForkAgent,
    ImportAgent,
    ImportedAgent,
    PinAgent,
    ReadAgent,
    RemoveAgent,
    WarmAgent,
)
from engine.commands import (
    Abort,
    AbortAgent,
    AgentCommand,
    Command,
    DescribeBlock,
    Generate,
    Note,
    PauseAgent,
    SetBatchWindow,
    SetPriority,
    Shutdown,
    ToolsCalled,
    TurnCommand,
)
from engine.errors import DrainingError, StokerError, UnavailableError
from engine.messages import ChatFormat
from engine.model_commands import ListModels, SwapModel
from engine.scripted_blocks import describe_block
from engine.snapshot import EMPTY_SNAPSHOT, EngineSnapshot, EngineStatus, ModelChoice

Clock = Callable[[], float]
JOIN_POLL_S = 0.02


class Scene(Protocol):
    """What a scripted engine plays. Times are seconds since the engine was started."""

    def advance(self, now_s: float) -> EngineSnapshot:
        """Moves on to ``now_s`` and shows the state there."""

    def evict(self, agent_id: str) -> Eviction:
        """Drops an agent's cache; raises as ``EvictAgent`` says."""

    def evict_idle(self) -> Eviction:
        """Drops the caches of all idle, unpinned agents."""

    def warm(self, agent_id: str) -> int:
        """Starts to bring a cache back from disk; returns its tokens, raises as ``WarmAgent``."""

    def fork(self, agent_id: str, fork_id: str | None, turn: int | None = None) -> str:
        """Makes an agent from another one; returns its id, raises as ``ForkAgent`` says."""

    def pin(self, agent_id: str, pinned: bool) -> bool:
        """Pins or unpins an agent; raises AgentNotFoundError."""

    def pause(self, agent_id: str, paused: bool) -> bool:
        """Pauses or resumes an agent; raises AgentNotFoundError."""

    def set_priority(self, agent_id: str, priority: int) -> int:
        """Changes an agent's priority; raises as ``SetPriority`` says."""

    def set_batch_window(self, window_ms: float) -> float:
        """Changes the batch window; raises as ``SetBatchWindow`` says."""

    def abort(self, agent_id: str) -> int:
        """Ends an agent's turns and returns how many; raises AgentNotFoundError."""

    def read(self, agent_id: str, *, with_reply: bool) -> AgentText:
        """Tells what an agent is saying; raises AgentNotFoundError."""

    def remove(self, agent_id: str) -> int:
        """Forgets an agent; returns the bytes freed, raises as ``RemoveAgent`` says."""

    def export(self, agent_id: str, path: Path) -> ExportedAgent:
        """Writes an agent into a file; raises as ``ExportAgent`` says."""

    def take_in(self, path: Path, agent_id: str | None) -> ImportedAgent:
        """Takes an agent in from a file; raises as ``ImportAgent`` says."""

    def models(self, kv_bits: int | None = None) -> tuple[ModelChoice, ...]:
        """Tells which models there are; raises as ``ListModels`` says."""

    def swap(self, command: SwapModel) -> None:
        """Begins a change of model; raises as ``SwapModel`` says where it does not begin."""

    def take_answers(self) -> list[Callable[[], None]]:
        """What is to be called now that commands are done that took a while."""

    def note(self, kind: str, text: str, level: str) -> None:
        """Adds an event."""

    def shut_down(self, drain_s: float) -> None:
        """Starts to drain."""


class ScriptedEngine:
    """Plays a scene and answers commands on the caller's thread: at once, but for swaps.

    Args:
        scene: What to play.
        clock: Seconds, rising; only differences matter.
    """

    def __init__(self, scene: Scene, clock: Clock = time.monotonic) -> None:
        self._scene = scene
        self._clock = clock
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self._is_draining = False

    @property
    def snapshot(self) -> EngineSnapshot:
        """The scene at this moment; the empty snapshot before ``start``."""
        with self._lock:
            shown = self._advance()
            answers = self._scene.take_answers()
        # Whoever hears an answer may send the next command.
        for answer in answers:
            answer()
        return shown

    @property
    def chat_format(self) -> ChatFormat | None:
        """Always None: there is no model."""
        return None

    def start(self) -> None:
        """Starts the scene's time."""
        with self._lock:
            if self._started_at is None:
                self._started_at = self._clock()

    def send(self, command: Command) -> None:
        """Carries a command out; its future holds the answer when this returns."""
        with self._lock:
            self._advance()
            self._dispatch(command)
            answers = self._scene.take_answers()
        for answer in answers:
            answer()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits until the scene has drained; False on time-out."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.snapshot.status not in (EngineStatus.STOPPED, EngineStatus.FAILED):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(JOIN_POLL_S)
        return True

    def _advance(self) -> EngineSnapshot:
        if self._started_at is None:
            return EMPTY_SNAPSHOT
        return self._scene.advance(self._clock() - self._started_at)

    def _dispatch(self, command: Command) -> None:
        scene = self._scene
        match command:
            case Generate():
                self._answer(command.admitted, _refuse_generation)
            case DescribeBlock():
                self._answer(
                    command.done, lambda: describe_block(self._advance(), command.block_id)
                )
            case ListModels():
                self._answer(command.done, lambda: scene.models(command.kv_bits))
            case SwapModel():
                self._begin(command)
            case Note():
                scene.note(command.kind, command.text, command.level)
            case Shutdown():
                self._is_draining = True
                scene.shut_down(command.drain_s)
            case Abort() | ToolsCalled():
                pass  # no request is ever admitted, and unknown ids are ignored
            case _:
                self._answer(command.done, lambda: _act(scene, command))

    def _begin(self, command: SwapModel) -> None:
        """Starts what the scene will answer itself."""
        try:
            self._refuse_in_drain()
            self._scene.swap(command)
        except StokerError as error:
            command.done.set_exception(error)

    def _refuse_in_drain(self) -> None:
        if self._is_draining:
            raise DrainingError("the engine is shutting down")

    def _answer(self, future: Future[Any], act: Callable[[], object]) -> None:
        try:
            self._refuse_in_drain()
            future.set_result(act())
        except StokerError as error:
            future.set_exception(error)


def _act(scene: Scene, command: AgentCommand) -> object:
    match command:
        case EvictAgent():
            return scene.evict(command.agent_id)
        case EvictIdle():
            return scene.evict_idle()
        case WarmAgent():
            return scene.warm(command.agent_id)
        case ForkAgent():
            return scene.fork(command.agent_id, command.fork_id, command.turn)
        case PinAgent():
            return scene.pin(command.agent_id, command.pinned)
        case ReadAgent():
            return scene.read(command.agent_id, with_reply=command.with_reply)
        case _:
            return _travel(scene, command)


def _travel(scene: Scene, command: RemoveAgent | ExportAgent | ImportAgent | TurnCommand) -> object:
    match command:
        case RemoveAgent():
            return scene.remove(command.agent_id)
        case ExportAgent():
            return scene.export(command.agent_id, command.path)
        case ImportAgent():
            return scene.take_in(command.path, command.agent_id)
        case _:
            return _turn(scene, command)


def _turn(scene: Scene, command: TurnCommand) -> object:
    match command:
        case AbortAgent():
            return scene.abort(command.agent_id)
        case PauseAgent():
            return scene.pause(command.agent_id, command.paused)
        case SetPriority():
            return scene.set_priority(command.agent_id, command.priority)
        case SetBatchWindow():
            return scene.set_batch_window(command.window_ms)


def _refuse_generation() -> str:
    raise UnavailableError("this engine plays a script and has no model to generate with")
