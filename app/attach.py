"""``stoker attach``: the dashboard here, the engine in another process."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from app.agents_client import AgentsClient, checked_url
from app.dashboard.action import LIVE, READ_ONLY
from app.dashboard.app import StokerApp
from app.paths import find_paths
from app.recording.recorder import recorded
from app.remote.engine import RemoteEngine
from app.terminal import OUTPUT_LOG, captured_output, has_plain_glyphs
from engine.errors import InvalidRequestError


def run_attached(
    url: str,
    key: str | None,
    *,
    theme: str | None,
    plain_glyphs: bool,
    is_readonly: bool,
    record: Path | None,
) -> int:
    """Shows a Stoker that runs until the person quits; it goes on then.

    Args:
        url: Where it listens.
        key: Its API key; None where it wants none.
        theme: Name of the theme the dashboard opens in; None for the one last chosen.
        plain_glyphs: Draw with ASCII marks only, whatever the terminal can show.
        is_readonly: Whether actions that change something are hidden.
        record: Where to record what is shown; None records nothing.

    Returns:
        The exit code.

    Raises:
        StokerError: There is nothing to show; nothing was drawn.
    """
    app, engine = attached_dashboard(
        url,
        key,
        theme=theme,
        plain_glyphs=plain_glyphs or has_plain_glyphs(),
        is_readonly=is_readonly,
        is_at_terminal=True,
    )
    paths = find_paths()
    paths.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        recorded(engine, record, _shown(checked_url(url))),
        captured_output(paths.log_dir / OUTPUT_LOG),
    ):
        app.run()
    return app.return_code or 0


def run_in_browser(
    url: str,
    key: str | None,
    *,
    theme: str | None,
    plain_glyphs: bool,
    is_readonly: bool,
    port: int,
) -> int:
    """Serves the dashboard of a Stoker that runs to browsers of this machine, until a signal.

    Args:
        url: Where the Stoker listens.
        key: Its API key; None where it wants none.
        theme: Name of the theme that dashboards open in; None for Stoker's own.
        plain_glyphs: Draw with ASCII marks only.
        is_readonly: Whether actions that change something are hidden.
        port: Where to serve; 0 takes any.

    Returns:
        The exit code.

    Raises:
        StokerError: There is nothing to show, or the port cannot be had.
    """
    connected_engine(url, key)
    from app.web.server import WebServer

    flags = [f"--theme={theme}"] if theme else []
    flags += ["--plain-glyphs"] if plain_glyphs else []
    flags += ["--readonly"] if is_readonly else []
    server = WebServer(url, key, flags, port)
    sys.stdout.write(f"stoker: open {server.address}\n")
    sys.stdout.write("stoker: whoever has this address has the dashboard; Ctrl-C ends it\n")
    sys.stdout.flush()
    server.run()
    return 0


def connected_engine(url: str, key: str | None) -> RemoteEngine:
    """The Stoker at an address, its first snapshot fetched.

    Raises:
        StokerError: There is nothing to show.
    """
    client = AgentsClient(url, key)
    if "@" in urlsplit(client.url).netloc:
        # It would be on the screen all day.
        raise InvalidRequestError("an address has no name and password here; give --key KEY")
    engine = RemoteEngine(client)
    engine.connect()
    return engine


def attached_dashboard(
    url: str,
    key: str | None,
    *,
    theme: str | None,
    plain_glyphs: bool,
    is_readonly: bool,
    is_at_terminal: bool,
) -> tuple[StokerApp, RemoteEngine]:
    """The dashboard of a Stoker that runs, and what it follows.

    Args:
        url: Where it listens.
        key: Its API key; None where it wants none.
        theme: Name of the theme the dashboard opens in; None for the one last chosen.
        plain_glyphs: Draw with ASCII marks only.
        is_readonly: Whether actions that change something are hidden.
        is_at_terminal: Whether it is drawn on a real terminal, and remembers how it was left.

    Raises:
        StokerError: There is nothing to show.
    """
    engine = connected_engine(url, key)
    base_url = checked_url(url)
    app = StokerApp(
        engine,
        address=_shown(base_url),
        base_url=base_url,
        plain_glyphs=plain_glyphs,
        habits_path=find_paths().habits_file if is_at_terminal else None,
        is_at_terminal=is_at_terminal,
        theme=theme,
        source=engine,
        powers=READ_ONLY if is_readonly else LIVE,
    )
    return app, engine


def _shown(url: str) -> str:
    """An address without what goes without saying."""
    parts = urlsplit(url.rstrip("/"))
    scheme = "" if parts.scheme == "http" else f"{parts.scheme}://"
    return f"{scheme}{parts.netloc}{parts.path}"
