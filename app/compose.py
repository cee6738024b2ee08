"""Puts engine, API and dashboard together, and takes them apart in the right order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from app.api.server import ApiServer
from app.api.settings import DEFAULT_BODY_LIMIT_BYTES, ApiSettings
from app.config import Settings
from app.logs import set_up_logging
from app.model_library import ModelLibrary
from app.paths import Paths, find_paths
from app.recording.recorder import recorded
from app.speech import complain, tell
from app.trace_file import traced
from engine.commands import Shutdown
from engine.engine import Engine
from engine.face import EngineFace
from engine.scheduler import SchedulerLimits
from engine.settings import DiskSettings, EngineSettings
from engine.trace import TraceSink

DRAIN_S = 5.0
JOIN_S = 20.0
POLL_S = 0.05
STDIN_FILENO = 0

# Libraries that would draw progress bars, start threads of their own or look for a hub.
_QUIET_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}


def quiet_libraries() -> None:
    """Keeps libraries that are imported from now on from drawing, downloading and the like."""
    os.environ.update(_QUIET_ENVIRONMENT)


def build_engine(
    settings: Settings, paths: Paths, *, keeps_caches: bool = True, trace: TraceSink | None = None
) -> Engine:
    """An engine that has not started.

    Args:
        settings: The user's settings.
        paths: Where Stoker keeps its things.
        keeps_caches: Whether caches go to disk, as the settings say; only one process at a time
            can do that in a data folder.
        trace: Takes every decision; None where nobody wants them.
    """
    told = engine_settings(settings, paths, keeps_caches=keeps_caches)
    return Engine(replace(told, trace=trace))


def engine_settings(settings: Settings, paths: Paths, *, keeps_caches: bool) -> EngineSettings:
    """What an engine is told. Keeps libraries from drawing, downloading and starting threads.

    Args:
        settings: The user's settings.
        paths: Where Stoker keeps its things.
        keeps_caches: Whether caches go to disk, as the settings say.
    """
    quiet_libraries()
    shelf = ModelLibrary(paths.models_dir, settings.model_defaults)
    return EngineSettings(
        find_model=lambda progress: shelf.find(settings.model, progress),
        shelf=shelf,
        cache_dir=paths.cache_dir,
        memory_limit_bytes=settings.memory_limit_bytes,
        kv_budget_bytes=settings.kv_budget_bytes,
        disk=_disk(settings, paths) if keeps_caches else None,
        quantisation=settings.quantisation,
        limits=SchedulerLimits(
            max_waiting=settings.max_waiting,
            decode_stall_ms=settings.decode_stall_ms,
            batch_window_ms=settings.batch_window_ms,
        ),
    )


def build_api(settings: Settings, engine: EngineFace) -> ApiServer:
    """A server with its port bound, not yet started.

    Raises:
        BindError: The address cannot be bound; the message says what to do.
    """
    server = ApiServer(
        engine,
        ApiSettings(
            host=settings.host,
            port=settings.port,
            api_key=settings.api_key,
            api_keys=settings.api_keys,
            allowed_hosts=settings.allowed_hosts or (("*",) if settings.allow_remote else ()),
            rate_limit_per_minute=settings.rate_limit_per_minute,
            request_timeout_s=settings.request_timeout_s,
            max_connections=settings.max_connections,
            max_requests=settings.max_requests,
            aliases=settings.aliases,
            models_dir=find_paths().models_dir,
            unknown_model=settings.unknown_model,
            transfer_folder=find_paths().transfers_dir,
            # A longer one could not be kept.
            transfer_limit_bytes=max(settings.kv_disk_bytes, DEFAULT_BODY_LIMIT_BYTES),
        ),
    )
    server.bind()
    return server


def run_dashboard(
    settings: Settings, *, is_readonly: bool, record: Path | None, trace: Path | None
) -> int:
    """Opens the dashboard with an engine and an API behind it.

    Args:
        settings: The user's settings.
        is_readonly: Whether actions that change something are hidden.
        record: Where to record what happens; None records nothing.
        trace: Where decisions are written; None writes none.

    Returns:
        The exit code: 0, or 2 if the engine failed.

    Raises:
        BindError: The port is taken; nothing was drawn.
        DataFolderInUseError: Another Stoker has the data folder; nothing was drawn.
    """
    paths = find_paths()
    log = set_up_logging(paths.log_dir, settings.log_level, settings.log_format)
    with traced(trace) as sink:
        engine = build_engine(settings, paths, trace=sink)
        api = build_api(settings, engine)
        if disk := _disk(settings, paths):
            disk.check_free()
        from app.dashboard.action import LIVE, READ_ONLY
        from app.dashboard.app import StokerApp
        from app.terminal import OUTPUT_LOG, captured_output, has_plain_glyphs

        def start() -> None:
            engine.start()
            api.start()

        address = f"{settings.host}:{api.port}"
        with recorded(engine, record, address), captured_output(paths.log_dir / OUTPUT_LOG):
            app = StokerApp(
                engine,
                address=address,
                plain_glyphs=settings.plain_glyphs or has_plain_glyphs(),
                start=start,
                log=log,
                is_at_terminal=True,
                theme=settings.given_theme,
                habits_path=paths.habits_file,
                powers=READ_ONLY if is_readonly else LIVE,
                settings=settings,
            )
            app.run()
        return _take_apart(engine, api) or (app.return_code or 0)


def run_headless(
    settings: Settings,
    *,
    quiet: bool,
    record: Path | None,
    trace: Path | None,
    until_eof: bool = False,
) -> int:
    """Serves without a dashboard until a signal comes or the engine fails.

    Args:
        settings: The user's settings.
        quiet: Say nothing but errors.
        record: Where to record what happens; None records nothing.
        trace: Where decisions are written; None writes none.
        until_eof: Whether the end of standard input ends it as well.

    Returns:
        The exit code: 0, or 2 if the engine failed.

    Raises:
        BindError: The port is taken.
        DataFolderInUseError: Another Stoker has the data folder.
    """
    paths = find_paths()
    set_up_logging(paths.log_dir, settings.log_level, settings.log_format)
    with traced(trace) as sink:
        engine = build_engine(settings, paths, trace=sink)
        api = build_api(settings, engine)
        if disk := _disk(settings, paths):
            disk.check_free()
        say: Callable[[str], None] = _silent if quiet else tell
        with recorded(engine, record, f"{settings.host}:{api.port}", say):
            _stop_on_signals(engine)
            if until_eof:
                _stop_at_eof(engine)
            engine.start()
            api.start()
            _serve(engine, api, say)
        failed = _take_apart(engine, api)
        return failed or (2 if api.failure is not None else 0)


def _serve(engine: Engine, api: ApiServer, say: Callable[[str], None]) -> None:
    """Says how the load goes and where it serves, and waits for the end."""
    _await_load(engine, say)
    if engine.snapshot.status == "serving":
        say(f"stoker: serving {engine.snapshot.model} on {api.url}")
    while not engine.join(POLL_S * 4):
        if api.failure is not None:
            complain(f"the API stopped: {api.failure}")
            engine.send(Shutdown(drain_s=0.0))


def _disk(settings: Settings, paths: Paths) -> DiskSettings | None:
    if not settings.kv_disk_bytes:
        return None
    return DiskSettings(folder=paths.data_dir, budget_bytes=settings.kv_disk_bytes)


def _silent(_text: str) -> None:
    """Says nothing."""


def _await_load(engine: Engine, say: Callable[[str], None]) -> None:
    """Reports the load line by line until it is over."""
    said = ""
    while engine.snapshot.status in ("starting", "loading") and not engine.join(POLL_S):
        text = engine.snapshot.status_text
        if text != said:
            say(f"stoker: {text}")
            said = text


def _stop_on_signals(engine: Engine) -> None:
    """The first signal drains, a second one ends at once."""
    is_second = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        engine.send(Shutdown(drain_s=0.0 if is_second.is_set() else DRAIN_S))
        is_second.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def _stop_at_eof(engine: Engine) -> None:
    """Drains once nobody holds the other end of standard input, however whoever did has ended."""

    def wait() -> None:
        # Not through sys.stdin: its lock, held by a waiting thread, would crash the exit.
        with contextlib.suppress(OSError):
            while os.read(STDIN_FILENO, 4096):
                pass
        engine.send(Shutdown(drain_s=DRAIN_S))

    threading.Thread(target=wait, name="stoker-stdin", daemon=True).start()


def _take_apart(engine: Engine, api: ApiServer) -> int:
    """Ends what still runs: turns, then connections, then threads.

    Returns:
        0, or 2 if the engine had failed.
    """
    status, reason = engine.snapshot.status, engine.snapshot.status_text
    if not engine.join(0):
        engine.send(Shutdown(drain_s=0.0))
    api.stop()
    api.join(JOIN_S)
    if not engine.join(JOIN_S):
        # Leaving Python with a thread inside mlx can abort the process with a core dump.
        complain("the engine did not stop in time")
        os._exit(2)
    if status == "failed":
        complain(f"the engine failed: {reason}")
        return 2
    return 0
