"""``stoker demo``: the dashboard on a scripted engine, without a model."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from app.dashboard.app import StokerApp
from app.paths import find_paths
from app.terminal import OUTPUT_LOG, captured_output, has_plain_glyphs
from engine.scripted import ScriptedEngine
from engine.scripted_world import DemoWorld

DEMO_ADDRESS = "127.0.0.1:8000"
DEMO_SEED = 7


def run_demo(*, seed: int = DEMO_SEED, theme: str | None, plain_glyphs: bool) -> int:
    """Shows the dashboard on scripted agents until the person quits.

    Args:
        seed: Of the scripted day.
        theme: Name of the theme the dashboard opens in; None for the one last chosen.
        plain_glyphs: Draw with ASCII marks only, whatever the terminal can show.

    Returns:
        The exit code.
    """
    engine = ScriptedEngine(DemoWorld(seed=seed, epoch_s=time.time()))

    # What scripted agents are exported to means nothing to a real engine.
    with tempfile.TemporaryDirectory(prefix="stoker-demo-") as name:
        folder = Path(name)
        app = StokerApp(
            engine,
            address=DEMO_ADDRESS,
            plain_glyphs=plain_glyphs or has_plain_glyphs(),
            theme=theme,
            habits_path=find_paths().habits_file,
            is_at_terminal=True,
            exports_folder=folder,
        )
        with captured_output(folder / OUTPUT_LOG):
            app.run()
    return app.return_code or 0
