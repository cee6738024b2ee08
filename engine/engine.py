"""The engine: owns its thread; drains commands, steps, publishes."""

from __future__ import annotations

import gc
import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
    UnavailableError,
)
from engine.messages import ChatFormat
from engine.model_commands import ListModels, SwapModel
from engine.settings import EngineSettings
from engine.snapshot import EngineSnapshot, EngineStatus
from engine.telemetry import Telemetry
from engine.thread_exit import await_thread_exit

if TYPE_CHECKING:
    from engine.core import EngineCore
    from engine.loading import LoadedEngine

FLUSH_S = 20.0
WRITING_S = 0.05
"""How long the end waits for the disk."""

PUBLISH_S = 0.1
"""Snapshots are drawn at most this often, but for changes of status."""


@dataclass(frozen=True, slots=True)
class _Action:
    """Something that another thread wants done on the engine's.

    Attributes:
        run: What to do.
    """

    run: Callable[[], None]


class Engine:
    """Serves one model on a thread of its own. See ``engine.face.EngineFace``."""

    def __init__(self, settings: EngineSettings) -> None:
        """Makes an engine that has not started.

        Args:
            settings: What it is told.
        """
        self._settings = settings
        self._commands: queue.SimpleQueue[Command | _Action] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stoker-engine", daemon=True)
        self._telemetry = Telemetry(time.time, settings.trace)
        self._started_s = time.monotonic()
        self._snapshot = EngineSnapshot(time=time.time())
        self._published_s = 0.0
        self._status = EngineStatus.STARTING
        self._status_text = ""
        self._progress = 0.0
        self._loaded: LoadedEngine | None = None
        self._num_steps = 0
        self._drain_until_s: float | None = None

    @property
    def snapshot(self) -> EngineSnapshot:
        """The newest snapshot."""
        return self._snapshot

    @property
    def chat_format(self) -> ChatFormat | None:
        """The text side of the active model; None until it is loaded."""
        return self._loaded.chat if self._loaded else None

    def start(self) -> None:
        """Starts the thread; the model loads there."""
        self._thread.start()

    def send(self, command: Command) -> None:
        """Queues a command."""
        self._commands.put(command)
        if self._snapshot.status in (EngineStatus.FAILED, EngineStatus.STOPPED):
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
            self._load()
            self._serve()
            self._set_status(EngineStatus.DRAINING, "writing caches to disk")
            self._close()
            self._set_status(EngineStatus.STOPPED, "stopped")
        except StokerError as error:
            self._die(str(error))
        except Exception as error:
            # Nobody above this frame could tell: the reason goes on the screen and into the log.
            self._telemetry.note("error", traceback.format_exc(limit=-3), "error")
            self._die(f"{type(error).__name__}: {error}")
        finally:
            self._refuse_pending()
            # Whoever lets go of this engine gets the model's memory back.
            gc.unfreeze()

    def _load(self) -> None:
        began_s = time.monotonic()
        from engine.runtime import device

        self._set_status(EngineStatus.LOADING, "preparing the device")
        # Before anything imports mlx: it binds its matmul when it is loaded.
        plan = device.prepare(self._settings.cache_dir)
        from engine.loading import load_engine

        self._loaded = load_engine(
            self._settings, plan, self._telemetry, self._report_progress, self._post
        )
        model = self._loaded.model_row
        seconds = time.monotonic() - began_s
        self._telemetry.loaded(seconds)
        self._telemetry.note(
            "load", f"{model.model_id} in {seconds:.1f} s, batching {model.batching}"
        )
        # A full collection over what mlx-lm imports stops every thread for a tenth of a second.
        # All of it stays to the end, so later collections need not look at it.
        gc.collect()
        gc.freeze()
        self._set_status(EngineStatus.SERVING, "serving")

    def _post(self, action: Callable[[], None]) -> None:
        self._commands.put(_Action(action))

    def _close(self) -> None:
        """Waits for what is still to be written, for a limited time."""
        if self._loaded is None:
            return
        until_s = time.monotonic() + FLUSH_S
        if self._status is EngineStatus.DRAINING:
            self._show_writing(self._loaded.core, until_s)
        self._loaded.core.close(max(0.0, until_s - time.monotonic()))

    def _show_writing(self, core: EngineCore, until_s: float) -> None:
        """Publishes how much is still to be written, until nothing is."""
        while core.is_writing and time.monotonic() < until_s:
            time.sleep(WRITING_S)
            self._num_steps += 1
            self._publish()

    def _report_progress(self, share: float, text: str) -> None:
        self._progress = share
        self._set_status(EngineStatus.LOADING, text)

    def _serve(self) -> None:
        core = self._core
        while True:
            self._drain_commands(block=not core.scheduler.can_step)
            core.actions.review()
            if self._is_over():
                core.abort_all()
                return
            if core.scheduler.can_step:
                core.step()
                self._num_steps += 1
            self._publish()

    @property
    def _core(self) -> EngineCore:
        if self._loaded is None:
            raise EngineFailedError("the engine has no model")
        return self._loaded.core

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
                answer(command.done, _refuse_model_command)
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
        self._num_steps += 1

    def _submit(self, command: Generate) -> str:
        if self._drain_until_s is not None:
            raise DrainingError("Stoker is shutting down")
        try:
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
        self._set_status(EngineStatus.DRAINING, "finishing running turns")

    # What is seen from outside

    def _set_status(self, status: EngineStatus, text: str) -> None:
        self._status, self._status_text = status, text
        self._num_steps += 1
        self._publish(at_once=True)

    def _publish(self, *, at_once: bool = False) -> None:
        now_s = time.monotonic()
        if not at_once and now_s - self._published_s < PUBLISH_S:
            return
        self._published_s = now_s
        parts = self._loaded.snapshot_parts(now_s) if self._loaded is not None else {}
        pool_use = parts["pool"].use if parts else 0.0
        shared: dict[str, Any] = {
            "step": self._num_steps,
            "time": time.time(),
            "uptime_s": now_s - self._started_s,
            "status": self._status,
            "status_text": self._status_text,
            "progress": self._progress,
            "throughput": self._telemetry.row(now_s, pool_use),
            "events": self._telemetry.events,
        }
        self._snapshot = EngineSnapshot(**shared, **parts)

    def _die(self, reason: str) -> None:
        self._telemetry.note("error", f"the engine stopped: {reason}", "error")
        self._status, self._status_text = EngineStatus.FAILED, reason
        try:
            if self._loaded is not None:
                self._loaded.core.abort_all(EngineFailedError(reason))
                self._close()
            self._set_status(EngineStatus.FAILED, reason)
        except Exception as error:
            # What has failed may fail again on the way out; that it has must be seen all the same.
            self._telemetry.note("error", f"the engine's end failed too: {error!r}", "error")
            self._snapshot = replace(
                self._snapshot,
                step=self._num_steps + 1,
                time=time.time(),
                status=EngineStatus.FAILED,
                status_text=reason,
                events=self._telemetry.events,
            )

    def _refuse_pending(self) -> None:
        """Answers commands that nobody will take any more."""
        failed = self._status is EngineStatus.FAILED
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            future = getattr(command, "admitted", None) or getattr(command, "done", None)
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(
                    EngineFailedError(self._status_text)
                    if failed
                    else DrainingError("Stoker has shut down")
                )


def _refuse_model_command() -> None:
    raise UnavailableError("this engine keeps its model; start Stoker anew with another one")
