"""The dashboard on scripted engines, for pictures and tests.

The clock stands still unless it is moved, so the same code gives the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

from app.dashboard.app import StokerApp
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_stage import NOON_S
from engine.scripted_still import StillScene
from engine.scripted_world import DemoWorld
from widgets.history import History

ADDRESS = "127.0.0.1:8000"
DEMO_S = 258


class StillApp(StokerApp):
    """What is said in its corner stays there as long as a picture takes."""

    NOTIFICATION_TIMEOUT = 600.0


def _frozen() -> float:
    return 0.0


def still_app(scene: str, *, plain_glyphs: bool = False) -> tuple[StokerApp, ScriptedEngine]:
    """The dashboard on a named still scene, its clock frozen.

    Raises:
        KeyError: There is no such scene.
    """
    engine = ScriptedEngine(StillScene(SCENES[scene]()), clock=_frozen)
    engine.start()
    return _app(engine, History(), plain_glyphs=plain_glyphs), engine


def demo_app(
    at_s: int = DEMO_S,
    *,
    clock: Callable[[], float] = _frozen,
    history: History | None = None,
) -> tuple[StokerApp, ScriptedEngine]:
    """The dashboard on the demo's world ``at_s`` seconds in, with the charts of that time.

    Args:
        at_s: How long it has been going on.
        clock: Seconds since the demo's start, 0 for now; the world moves on when they pass
            ``at_s``.
        history: Takes the chart samples; None is a new one.
    """
    world = DemoWorld(epoch_s=NOON_S)
    history = history or History()
    for second in range(1, at_s + 1):
        history.add(world.advance(second).throughput)
    engine = ScriptedEngine(world, clock=clock)
    engine.start()
    return _app(engine, history), engine


def _app(engine: ScriptedEngine, history: History, *, plain_glyphs: bool = False) -> StokerApp:
    app = StillApp(
        engine,
        address=ADDRESS,
        clock=_frozen,
        history=history,
        zone=UTC,
        plain_glyphs=plain_glyphs,
    )
    app.animation_level = "none"
    return app
