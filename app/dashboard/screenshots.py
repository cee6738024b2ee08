"""Pictures of the dashboard on scripted engines: ``python -m app.dashboard.screenshots FOLDER``.

The clock stands still, so the same code gives the same pictures.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from app.dashboard.app import StokerApp
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_stage import NOON_S
from engine.scripted_still import StillScene
from engine.scripted_world import DemoWorld
from widgets.history import History

ADDRESS = "127.0.0.1:8000"
SETTLE_S = 0.4
DEMO_S = 258
USAGE = "usage: python -m app.dashboard.screenshots FOLDER"


def still_app(scene: str, *, plain_glyphs: bool = False) -> tuple[StokerApp, ScriptedEngine]:
    """The dashboard on a named still scene, its clock frozen.

    Raises:
        KeyError: There is no such scene.
    """
    engine = ScriptedEngine(StillScene(SCENES[scene]()), clock=_frozen)
    engine.start()
    return _app(engine, History(), plain_glyphs=plain_glyphs), engine


def demo_app(at_s: int = DEMO_S) -> tuple[StokerApp, ScriptedEngine]:
    """The dashboard on the demo's world ``at_s`` seconds in, with the charts of that time."""
    world = DemoWorld(epoch_s=NOON_S)
    history = History()
    for second in range(1, at_s + 1):
        history.add(world.advance(second).throughput)
    engine = ScriptedEngine(world, clock=_frozen)
    engine.start()
    return _app(engine, history), engine


def _frozen() -> float:
    return 0.0


def _app(engine: ScriptedEngine, history: History, *, plain_glyphs: bool = False) -> StokerApp:
    app = StokerApp(
        engine,
        address=ADDRESS,
        clock=_frozen,
        history=history,
        zone=UTC,
        plain_glyphs=plain_glyphs,
    )
    app.animation_level = "none"
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One file to make.

    Attributes:
        name: Of the file, without its ending.
        size: Columns and lines of the terminal.
        scene: A still scene; empty for the demo's world.
        keys: Pressed before the picture is taken.
    """

    name: str
    size: tuple[int, int]
    scene: str = ""
    keys: tuple[str, ...] = ()


PICTURES = (
    Picture(name="dashboard", size=(120, 40)),
    Picture(name="dashboard-small", size=(80, 24)),
    Picture(name="dashboard-large", size=(200, 60)),
    Picture(name="blocks-by-agent", size=(120, 40), keys=("b",)),
    Picture(name="empty", size=(120, 40), scene="empty"),
    Picture(name="loading", size=(120, 40), scene="loading"),
    Picture(name="help", size=(120, 40), keys=("question_mark",)),
    Picture(name="confirm", size=(120, 40), scene="busy", keys=("down",) * 4 + ("e",)),
    Picture(name="detail", size=(120, 40), scene="busy", keys=("down", "enter")),
)


async def take(picture: Picture) -> str:
    """The picture as SVG text."""
    app, _ = still_app(picture.scene) if picture.scene else demo_app()
    async with app.run_test(size=picture.size) as pilot:
        await pilot.pause(SETTLE_S)
        for key in picture.keys:
            await pilot.press(key)
        await pilot.pause(SETTLE_S)
        return app.export_screenshot(title="stoker")


def main(arguments: list[str]) -> int:
    """Writes every picture into the folder that is named; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write(f"{USAGE}\n")
        return 1
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        path = folder / f"{picture.name}.svg"
        path.write_text(_stable(asyncio.run(take(picture)), picture.name), encoding="utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


def _stable(svg: str, name: str) -> str:
    """The SVG with its made-up element id replaced by the picture's name."""
    marker = 'class="rich-terminal"'
    start = svg.find("terminal-", svg.find(marker))
    number = svg[start : svg.find("-", start + len("terminal-"))]
    return svg.replace(number, f"terminal-{name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
