"""The engine: owns its thread; drains commands, steps, publishes."""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answer import answer
from engine.commands import (
    Abort,
    Command,
    DescribeBlock,
    Generate,
    Note,
    Shutdown,
    ToolsCalled,
)
from engine.errors import (
    DrainingError,
    EngineFailedError,
    StokerError,
)
from engine.messages import ChatFormat
from engine.model_choices import ModelChoices
from engine.model_commands import ListModels, ModelCommand, SwapModel
from engine.model_host import ModelHost
from engine.publication import PUBLISH_S, Publication
from engine.settings import EngineSettings
from engine.snapshot import EngineSnapshot, EngineStatus
from engine.swapper import FLUSH_S, Swapper
from engine.telemetry import Telemetry
from engine.thread_exit import await_thread_exit

if TYPE_CHECKING:
    from engine.core import EngineCore

log = logging.getLogger("stoker.engine")

WRITING_S = 0.05
"""How often the end looks whether the disk has everything."""


@dataclass(frozen=True, slots=True)
class _Action:
    """Something that another thread wants done on the engine's.

    Attributes:
        run: What to do.
    """

    run: Callable[[], None]


class Engine:
    """Serves one model at a time on a thread of its own. See ``engine.face.EngineFace``."""

    def __init__(self, settings: EngineSettings) -> None:
        """Makes an engine that has not started.

        Args:
            settings: What it is told.
        """
        self._commands: queue.SimpleQueue[Command | _Action] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stoker-engine", daemon=True)
        self._telemetry = Telemetry(time.time, settings.trace)
        self._public = Publication(self._telemetry)
        self._host = ModelHost(settings, self._telemetry, self._post)
        self._choices = ModelChoices(self._host, settings.shelf, self._post)
        self._swapper = Swapper(
            self._host, self._public, self._telemetry, settings.shelf, self._settle
        )
        self._drain_until_s: float | None = None

    @property
    def snapshot(self) -> EngineSnapshot:
        """The newest snapshot."""
        return self._public.snapshot

    @property
    def chat_format(self) -> ChatFormat | None:
        """The text side of the active model; None until it is loaded, and between two models."""
        loaded = self._host.loaded
        return loaded.found.chat if loaded else None

    def start(self) -> None:
        """Starts the thread; the model loads there."""
        self._thread.start()

    def send(self, command: Command) -> None:
        """Queues a command."""
        self._commands.put(command)
        if self.snapshot.status in (EngineStatus.FAILED, EngineStatus.STOPPED):
            # The thread that would answer is gone.
            self._refuse_pending()

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the thread to end; False on time-out."""
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        await_thread_exit(self._thread)
        return True

    # The thread

    def _run(self) -> None:
        try:
            self._host.load_first(
                lambda share, text: self._public.set_status(EngineStatus.LOADING, text, share)
            )
            self._public.loaded = self._host.loaded
            self._public.set_status(EngineStatus.SERVING, "serving")
            self._serve()
            self._public.set_status(EngineStatus.DRAINING, "writing caches to disk")
            self._close()
            self._public.set_status(EngineStatus.STOPPED, "stopped")
        except StokerError as error:
            self._die(str(error))
        except Exception as error:
            # Nobody above this frame could tell: where it happened is for the log, and why for all.
            log.exception("the engine's thread failed")
            self._die(f"{type(error).__name__}: {error}")
        finally:
            self._refuse_pending()
            # Whoever lets go of this engine gets the model's memory back.
            gc.unfreeze()

    def _post(self, action: Callable[[], None]) -> None:
        self._commands.put(_Action(action))

    def _close(self) -> None:
        """Waits for what is still to be written, for a limited time, and shows how much it is."""
        until_s = time.monotonic() + FLUSH_S
        while self._core.is_writing and time.monotonic() < until_s:
            time.sleep(WRITING_S)
            self._public.num_steps += 1
            self._public.publish()
        self._host.close(max(0.0, until_s - time.monotonic()))

    def _settle(self) -> None:
        """Does what other threads have asked for; commands stay queued, in their order.

        What a model's disk has asked for must be over before the model goes.
        """
        waiting: list[Command] = []
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                break
            if isinstance(command, _Action):
                command.run()
            else:
                waiting.append(command)
        for command in waiting:
            self._commands.put(command)

    def _serve(self) -> None:
        while True:
            self._drain_commands(block=not self._core.scheduler.can_step)
            self._core.actions.review()
            if self._is_over():
                self._core.abort_all()
                return
            if self._core.scheduler.can_step:
                self._core.step()
                self._public.num_steps += 1
            self._swapper.advance()
            self._public.publish()

    @property
    def _core(self) -> EngineCore:
        return self._host.core

    def _is_over(self) -> bool:
        if self._drain_until_s is None:
            return False
        return not self._core.scheduler.has_work or time.monotonic() >= self._drain_until_s

    def _drain_commands(self, *, block: bool) -> None:
        """Takes every queued command; an idle engine waits for one, and then for company."""
        wait_s = PUBLISH_S if block else 0.0
        until_s = None
        while True:
            try:
                command = (
                    self._commands.get(timeout=wait_s)
                    if wait_s > 0
                    else (self._commands.get_nowait())
                )
            except queue.Empty:
                return
            self._obey(command)
            if until_s is None:
                window_s = self._core.scheduler.limits.batch_window_ms / 1000
                alone = block and isinstance(command, Generate)
                until_s = time.monotonic() + (window_s if alone else 0.0)
            wait_s = max(0.0, until_s - time.monotonic())

    def _obey(self, command: Command | _Action) -> None:
        core = self._core
        match command:
            case Generate():
                answer(command.admitted, lambda: self._submit(command))
            case Abort():
                core.abort(command.request_id, command.reason)
            case DescribeBlock():
                answer(command.done, lambda: core.describe_block(command.block_id))
            case ListModels() | SwapModel():
                self._obey_about_models(command)
            case ToolsCalled():
                core.note_tools(command)
            case Note():
                self._telemetry.note(command.kind, command.text, command.level)
            case Shutdown():
                self._begin_drain(command.drain_s)
            case _Action():
                command.run()
            case _:
                core.actions.obey(command)
        self._public.num_steps += 1

    def _obey_about_models(self, command: ModelCommand) -> None:
        if isinstance(command, SwapModel):
            self._swapper.begin(command)
        else:
            self._choices.answer(command, self.snapshot.agents)

    def _submit(self, command: Generate) -> str:
        if self._drain_until_s is not None:
            raise DrainingError("Stoker is shutting down")
        try:
            self._swapper.refuse_turn()
            return self._core.submit(command)
        except StokerError as error:
            request = command.request
            self._telemetry.note(
                "reject",
                f"{request.agent_id or 'new agent'}: {error}",
                request_id=request.request_id,
                agent=request.agent_id,
                num_prompt_tokens=len(request.prompt_token_ids),
            )
            raise

    def _begin_drain(self, drain_s: float) -> None:
        self._drain_until_s = time.monotonic() + drain_s
        self._swapper.cancel()
        self._public.set_status(EngineStatus.DRAINING, "finishing running turns")

    def _die(self, reason: str) -> None:
        self._telemetry.note("error", f"the engine stopped: {reason}", "error")
        self._public.fail(reason)
        self._swapper.fail(reason)
        try:
            if self._host.loaded is not None:
                self._host.core.abort_all(EngineFailedError(reason))
                self._host.close(FLUSH_S)
            self._public.set_status(EngineStatus.FAILED, reason)
        except Exception as error:
            # What has failed may fail again on the way out; that it has must be seen all the same.
            self._telemetry.note("error", f"the engine's end failed too: {error!r}", "error")
            self._public.fail_again()

    def _refuse_pending(self) -> None:
        """Answers commands that nobody will take any more."""
        failed = self._public.status is EngineStatus.FAILED
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            future = getattr(command, "admitted", None) or getattr(command, "done", None)
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(
                    EngineFailedError(self._public.text)
                    if failed
                    else DrainingError("Stoker has shut down")
                )
