"""How a dashboard looks whose engine is elsewhere, at two sizes; the clock stands still."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC

import pytest

from app.dashboard.action import LIVE, READ_ONLY, Power
from app.dashboard.app import StokerApp
from tests.dashboard.attaching import scripted
from tests.dashboard.test_screens import MEDIUM, SMALL, SnapCompare, _still_cursor
from widgets.source import SourceSlice

SIZES = pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
REFUSED = "send the API key as x-api-key: give --key KEY, or set STOKER_API_KEY"


@dataclass(frozen=True)
class StillSource:
    """A source that stays as it is."""

    state: SourceSlice


def still_app(state: SourceSlice, powers: frozenset[Power] = LIVE) -> StokerApp:
    app = StokerApp(
        scripted(),
        address="10.0.0.5:8000",
        clock=lambda: 0.0,
        zone=UTC,
        source=StillSource(state),
        powers=powers,
    )
    app.animation_level = "none"
    return app


@SIZES
@pytest.mark.parametrize(
    "state",
    [
        pytest.param(SourceSlice(label="attached"), id="attached"),
        pytest.param(SourceSlice(label="attached", stale_s=12), id="stale"),
        pytest.param(SourceSlice(label="attached", stale_s=95, problem=REFUSED), id="refused"),
    ],
)
def test_an_engine_elsewhere(
    snap_compare: SnapCompare, state: SourceSlice, size: tuple[int, int]
) -> None:
    assert snap_compare(still_app(state), terminal_size=size, run_before=_still_cursor)


@SIZES
def test_read_only(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = still_app(SourceSlice(label="attached"), READ_ONLY)
    assert snap_compare(app, terminal_size=size, run_before=_still_cursor)
