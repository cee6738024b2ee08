"""``stoker demo``: the dashboard on a scripted engine, without a model."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from app.dashboard.app import StokerApp
from app.terminal import OUTPUT_LOG, captured_output, has_plain_glyphs
from engine.scripted import ScriptedEngine
from engine.scripted_world import DemoWorld

DEMO_ADDRESS = "127.0.0.1:8000"
DEMO_SEED = 7


def run_demo(*, seed: int = DEMO_SEED, plain_glyphs: bool | None = None) -> int:
    """Shows the dashboard on scripted agents until the person quits.

    Args:
        seed: Of the scripted day.
        plain_glyphs: Draw with ASCII marks only; None decides by the terminal's encoding.

    Returns:
        The exit code.
    """
    if plain_glyphs is None:
        plain_glyphs = has_plain_glyphs()
    engine = ScriptedEngine(DemoWorld(seed=seed, epoch_s=time.time()))

    # What scripted agents are exported to means nothing to a real engine.
    with tempfile.TemporaryDirectory(prefix="stoker-demo-") as name:
        folder = Path(name)
        app = StokerApp(
            engine,
            address=DEMO_ADDRESS,
            plain_glyphs=plain_glyphs,
            is_at_terminal=True,
            exports_folder=folder,
        )
        with captured_output(folder / OUTPUT_LOG):
            app.run()
    return app.return_code or 0
