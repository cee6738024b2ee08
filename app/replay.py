"""``stoker replay``: the dashboard on a recording."""

from __future__ import annotations

from pathlib import Path

from app.dashboard.action import RECORDED
from app.dashboard.app import StokerApp
from app.paths import find_paths
from app.recording.recording import Recording
from app.recording.replay import Replay
from app.terminal import OUTPUT_LOG, captured_output, has_plain_glyphs


def run_replay(path: Path, *, speed: float, theme: str | None, plain_glyphs: bool) -> int:
    """Plays a recording until the person quits.

    Args:
        path: The recording.
        speed: How many recorded seconds pass in one.
        theme: Name of the theme the dashboard opens in; None for the one last chosen.
        plain_glyphs: Draw with ASCII marks only, whatever the terminal can show.

    Returns:
        The exit code.

    Raises:
        RecordingError: It cannot be played; nothing was drawn.
    """
    replay = Replay(Recording(path), speed=speed)
    paths = find_paths()
    log_dir = paths.log_dir
    log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    app = StokerApp(
        replay,
        address=path.name,
        plain_glyphs=plain_glyphs or has_plain_glyphs(),
        habits_path=paths.habits_file,
        theme=theme,
        replay=replay,
        powers=RECORDED,
        is_at_terminal=True,
    )
    with captured_output(log_dir / OUTPUT_LOG):
        app.run()
    return app.return_code or 0
