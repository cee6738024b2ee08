"""Where panes go when a person moves them about. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.pane_layout import (
    MIN_COLUMNS,
    MIN_LINES,
    NUM_COLUMNS,
    PRESETS,
    PaneLayout,
    arranged,
    moved,
    preset,
    row_lines,
    rows_of,
    shares,
)

WIDE = [
    ("agents", 8),
    ("agent-detail", 4),
    ("blocks", 6),
    ("throughput", 6),
    ("model", 4),
    ("batch", 3),
    ("events", 5),
]
IDS = st.sampled_from([name for name, _ in WIDE])
OFFSETS = st.dictionaries(IDS, st.integers(-12, 12))
LAYOUTS = st.builds(PaneLayout, st.frozensets(IDS), OFFSETS, OFFSETS)


def test_panes_fill_rows_in_their_order() -> None:
    assert rows_of(WIDE) == [WIDE[:2], WIDE[2:4], WIDE[4:]]
    assert rows_of([]) == []


@given(LAYOUTS)
def test_every_row_is_filled_and_no_pane_is_lost(layout: PaneLayout) -> None:
    for row in rows_of(WIDE):
        new = arranged(row, layout)
        assert [name for name, _ in new] == [n for n, _ in row if n not in layout.hidden]
        assert not new or sum(width for _, width in new) == NUM_COLUMNS
        assert all(width >= MIN_COLUMNS for _, width in new)


@given(LAYOUTS, st.lists(st.integers(1, 40), min_size=3, max_size=3))
def test_rows_take_all_lines_whatever_is_wished(layout: PaneLayout, bases: list[int]) -> None:
    lines = row_lines(bases, rows_of(WIDE), layout)
    assert sum(lines) == sum(bases)
    if sum(bases) >= 3 * MIN_LINES:
        assert min(lines) >= MIN_LINES


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(1, 200))
def test_shares_add_up_and_follow_the_wishes(wishes: list[int], total: int) -> None:
    parts = shares(wishes, total, 0)
    assert sum(parts) == total
    for wish, part in zip(wishes, parts, strict=True):
        assert abs(part - total * wish / sum(wishes)) < 1 + 1e-9


def test_a_wider_pane_takes_from_its_neighbours() -> None:
    layout = PaneLayout().widening("blocks", 2)
    assert arranged(rows_of(WIDE)[1], layout) == [("blocks", 8), ("throughput", 4)]
    assert layout.widening("blocks", -2) == PaneLayout()


@given(st.lists(st.integers(2, 40), min_size=2, max_size=5), st.data())
def test_a_step_moves_one_edge(parts: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(parts) - 1))
    others = parts[:at] + parts[at + 1 :]
    for step in (1, -1):
        new = moved(parts, [step if i == at else 0 for i in range(len(parts))], 2)
        is_stuck = max(others) == 2 if step > 0 else parts[at] == 2
        assert new[at] - parts[at] == (0 if is_stuck else step)
        assert (sum(new), min(new) >= 2) == (sum(parts), True)


def test_presets_keep_the_agents_and_what_they_name() -> None:
    ids = [name for name, _ in WIDE]
    for name, _, kept in PRESETS:
        shown = set(ids) - preset(name, ids).hidden
        assert shown == {"agents", *kept}
    assert preset("everything", ids).is_standard


@given(LAYOUTS)
def test_a_layout_comes_back_from_json(layout: PaneLayout) -> None:
    again = PaneLayout.from_json(layout.as_json())
    assert again.hidden == layout.hidden - {"agents"}
    assert (again.wider, again.taller) == (layout.wider, layout.taller)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "x",
        [],
        {"hidden": 3},
        {"hidden": [1, None]},
        {"wider": [1]},
        {"taller": {"a": "b"}},
    ],
)
def test_nonsense_is_no_layout(value: object) -> None:
    assert PaneLayout.from_json(value).is_standard
