"""``stoker attach``: the dashboard here, the engine in another process."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from app.agents_client import AgentsClient
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
    client = AgentsClient(url, key)
    if "@" in urlsplit(client.url).netloc:
        # It would be on the screen all day.
        raise InvalidRequestError("an address has no name and password here; give --key KEY")
    engine = RemoteEngine(client)
    engine.connect()
    paths = find_paths()
    paths.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    address = _shown(client.url)
    app = StokerApp(
        engine,
        address=address,
        base_url=client.url.rstrip("/"),
        plain_glyphs=plain_glyphs or has_plain_glyphs(),
        habits_path=paths.habits_file,
        is_at_terminal=True,
        theme=theme,
        source=engine,
        powers=READ_ONLY if is_readonly else LIVE,
    )
    with recorded(engine, record, address), captured_output(paths.log_dir / OUTPUT_LOG):
        app.run()
    return app.return_code or 0


def _shown(url: str) -> str:
    """An address without what goes without saying."""
    parts = urlsplit(url.rstrip("/"))
    scheme = "" if parts.scheme == "http" else f"{parts.scheme}://"
    return f"{scheme}{parts.netloc}{parts.path}"
