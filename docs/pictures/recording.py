"""The recording: half a minute with the demo's agents, by keys and on a clock moved by hand."""

from __future__ import annotations

from dataclasses import dataclass

from app.dashboard.screens.main import MainScreen
from app.dashboard.screenshots import demo_app
from docs.pictures.cells import Grid, grid_of
from widgets.history import History

SIZE = (120, 36)
BEGIN_S = 240
STEP_MS = 350
SETTLE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happens before a frame is taken.

    Attributes:
        keys: Pressed.
        seconds: That the world moves on.
        hold_ms: How long the frame is shown.
        clears: Whether messages in the corner go away.
    """

    keys: tuple[str, ...] = ()
    seconds: float = 1.0
    hold_ms: int = STEP_MS
    clears: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame and how long it is shown."""

    grid: Grid
    hold_ms: int


def _work(count: int) -> tuple[Step, ...]:
    return (Step(),) * count


STORY = (
    *_work(8),
    Step(keys=("g", "down", "down", "down"), seconds=0, hold_ms=700),
    Step(keys=("enter",), seconds=0, hold_ms=3000),
    Step(keys=("escape",)),
    Step(keys=("b",), hold_ms=900),
    *_work(3),
    Step(keys=("e",), seconds=0, hold_ms=2600),
    Step(keys=("y",), hold_ms=1600),
    Step(clears=True),
    Step(keys=("u",), hold_ms=1600),
    Step(clears=True),
    *_work(3),
    Step(keys=("b",)),
    *_work(6),
)
"""Agents at work; one is looked at, evicted, and brought back."""


class HandClock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Seconds since the demo's start."""
        return self.now_s


async def play(story: tuple[Step, ...] = STORY) -> list[Frame]:
    """The frames of a story."""
    clock, history = HandClock(), History()
    app, engine = demo_app(BEGIN_S, clock=clock, history=history)
    clock.now_s = BEGIN_S
    frames = []
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await pilot.pause()
        for step in story:
            if step.clears:
                app.clear_notifications()
            await pilot.press(*step.keys)
            clock.now_s += step.seconds
            if step.seconds:
                history.add(engine.snapshot.throughput)
            (main,) = [each for each in app.screen_stack if isinstance(each, MainScreen)]
            main.refresh_now()
            await pilot.pause(SETTLE_S)
            frames.append(Frame(grid_of(app), step.hold_ms))
    return frames
