"""A double of the engine for the API's tests: it says scripted words, at a pace a test sets."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from engine.agent_commands import (
    EvictAgent,
    EvictIdle,
    ExportAgent,
    ForkAgent,
    ImportAgent,
    PinAgent,
    ReadAgent,
    RemoveAgent,
    WarmAgent,
)
from engine.commands import (
    Abort,
    AbortAgent,
    Command,
    DescribeBlock,
    Generate,
    Note,
    PauseAgent,
    SetBatchWindow,
    SetPriority,
    Shutdown,
    ToolsCalled,
)
from engine.model_commands import ListModels, SwapModel
from engine.snapshot import EngineStatus
from tests.api.word_agents import EVICTION, WordAgents
from tests.api.word_models import CHOICES, OTHER_ID, SWAPPED, WordModels
from tests.api.word_snapshot import MISS, MODEL_ID, SERVING_SNAPSHOT
from tests.api.word_turns import (
    NUM_CACHED_TOKENS,
    NUM_STORED_TOKENS,
    Script,
    WordTurns,
    prompt_text,
)

__all__ = [
    "CHOICES",
    "EVICTION",
    "MISS",
    "MODEL_ID",
    "NUM_CACHED_TOKENS",
    "NUM_STORED_TOKENS",
    "OTHER_ID",
    "SERVING_SNAPSHOT",
    "SWAPPED",
    "Script",
    "WordEngine",
    "prompt_text",
]


class WordEngine(WordTurns, WordAgents, WordModels):
    """Has the ``EngineFace``; one thread steps through all turns, as the real one does."""

    def __init__(self, script: Script | None = None) -> None:
        self._commands: queue.Queue[Command] = queue.Queue()
        self.running = []
        self._thread = threading.Thread(target=self._run, name="word-engine", daemon=True)
        self._is_stopping = threading.Event()
        self.reset(script)

    def reset(self, script: Script | None = None) -> None:
        """Forgets what was asked and told; the state is that of an engine that serves."""
        self.reset_turns(script)
        self.reset_agents()
        self.reset_models()
        self.commands: list[Command] = []

    @property
    def notes(self) -> list[Note]:
        return [command for command in self.commands if isinstance(command, Note)]

    def start(self) -> None:
        self._thread.start()

    def send(self, command: Command) -> None:
        self._commands.put(command)

    def join(self, timeout_s: float | None = None) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def set_status(self, status: EngineStatus, text: str = "", progress: float = 0.0) -> None:
        self.snapshot = replace(
            self.snapshot, status=status, status_text=text, progress=progress, uptime_s=8.0
        )

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        """Whether a condition comes true in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.005)
        return condition()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                self._handle(self._commands.get(timeout=0.001 if self.running else 0.02))
                continue
            except queue.Empty:
                pass
            now = time.monotonic()
            for turn in tuple(self.running):
                self._step(turn, now)

    def _handle(self, command: Command) -> None:
        self.commands.append(command)
        match command:
            case Generate():
                self._admit(command)
            case Abort():
                self._abort(command.request_id)
            case Note() | ToolsCalled():
                pass
            case Shutdown():
                self._is_stopping.set()
            case EvictAgent() | PinAgent() | WarmAgent() | ForkAgent():
                self._act(command)
            case (
                PauseAgent()
                | SetPriority()
                | AbortAgent()
                | EvictIdle()
                | SetBatchWindow()
                | DescribeBlock()
            ):
                self._steer(command)
            case RemoveAgent() | ExportAgent() | ReadAgent():
                self._let_go(command)
            case ImportAgent():
                self._take_in(command)
            case _:
                self._handle_other(command)

    def _handle_other(self, command: Command) -> None:
        match command:
            case ListModels() | SwapModel():
                self._about_models(command)
            case _:
                raise AssertionError(command)
