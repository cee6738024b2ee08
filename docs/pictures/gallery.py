"""Which pictures there are, and how each is taken."""

from __future__ import annotations

from dataclasses import dataclass

from textual.widgets import Input

from app.dashboard.screenshots import demo_app, still_app
from docs.pictures.cells import Grid, grid_of

SETTLE_S = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture to take.

    Attributes:
        name: Of its files, without their endings.
        title: What is to be seen.
        size: Columns and lines of the terminal.
        scene: A still scene; empty for the demo's world.
        keys: Pressed before it is taken.
        theme: Colours; empty for the ordinary ones.
    """

    name: str
    title: str
    size: tuple[int, int] = (120, 40)
    scene: str = ""
    keys: tuple[str, ...] = ()
    theme: str = ""


PICTURES = (
    Picture(name="dashboard", title="The dashboard with seven agents at work"),
    Picture(name="dashboard-small", title="The dashboard in 80 columns", size=(80, 24)),
    Picture(name="dashboard-large", title="The dashboard in 200 columns", size=(200, 60)),
    Picture(name="dashboard-light", title="The light theme", theme="stoker-light"),
    Picture(name="blocks-by-agent", title="Who holds which blocks", keys=("b",)),
    Picture(name="empty", title="Before the first request", scene="empty"),
    Picture(name="loading", title="While the model loads", scene="loading"),
    Picture(name="overloaded", title="More turns than room", scene="overloaded"),
    Picture(name="help", title="Keys, marks and colours", keys=("question_mark",)),
    Picture(
        name="confirm",
        title="What an eviction would cost",
        scene="busy",
        keys=("down",) * 4 + ("e",),
    ),
    Picture(
        name="models",
        title="What a swap to another model would mean",
        scene="busy",
        keys=("m",),
    ),
    Picture(name="capacity", title="How many agents would fit", scene="busy", keys=("C",)),
    Picture(name="swapping", title="A change of model half-way", scene="swapping"),
    Picture(
        name="detail",
        title="One agent, its turns, and why the last one was slow",
        scene="busy",
        keys=("down", "enter"),
    ),
)


async def take(picture: Picture) -> Grid:
    """The picture, as cells."""
    app, _ = still_app(picture.scene) if picture.scene else demo_app()
    if picture.theme:
        app.theme = picture.theme
    async with app.run_test(size=picture.size) as pilot:
        await pilot.pause(SETTLE_S)
        await pilot.press(*picture.keys)
        await pilot.pause(SETTLE_S)
        for line in app.screen.query(Input):
            line.cursor_blink = False
        await pilot.pause()
        return grid_of(app)
