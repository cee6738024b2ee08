"""Panes, pages and questions, in every state and at every size, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from textual.pilot import Pilot

from styles.theme_names import DARK, THEME_WORDS
from tests.dashboard.views import PANES, SIZES, STATES, VIEWS, View

SnapCompare = Callable[..., bool]
THEMED = [view for view in VIEWS if view.name in ("remove", "palette", "hostile-detail")]
OTHER_THEMES = [theme for theme in THEME_WORDS if theme != DARK]


def at_sizes(views: Iterable[View]) -> pytest.MarkDecorator:
    """Each view at each size; those where room is short are looked at every time."""
    marks = {size: () if size == "small" else (pytest.mark.slow,) for size in SIZES}
    return pytest.mark.parametrize(
        ("view", "size"),
        [
            pytest.param(view, SIZES[size], id=f"{view.name}-{size}", marks=marks[size])
            for view in views
            for size in SIZES
        ],
    )


def compare(
    snap_compare: SnapCompare, view: View, size: tuple[int, int], theme: str = DARK
) -> bool:
    app = view.app()
    app.theme = theme

    async def reached(pilot: Pilot[Any]) -> None:
        await view.reach(pilot)

    return snap_compare(app, terminal_size=size, run_before=reached)


@at_sizes(VIEWS)
def test_views(snap_compare: SnapCompare, view: View, size: tuple[int, int]) -> None:
    assert compare(snap_compare, view, size)


@pytest.mark.parametrize("view", STATES, ids=lambda view: view.name)
def test_states(snap_compare: SnapCompare, view: View) -> None:
    assert compare(snap_compare, view, SIZES["large"])


@pytest.mark.slow
@pytest.mark.parametrize("view", PANES, ids=lambda view: view.name)
def test_panes_in_rare_states(snap_compare: SnapCompare, view: View) -> None:
    assert compare(snap_compare, view, SIZES["small"])


@pytest.mark.slow
@pytest.mark.parametrize("theme", OTHER_THEMES)
@pytest.mark.parametrize("view", THEMED, ids=lambda view: view.name)
def test_themes(snap_compare: SnapCompare, view: View, theme: str) -> None:
    assert compare(snap_compare, view, SIZES["medium"], theme)
