"""The pure parts of the widgets: numbers, bars, charts, block cells, history."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.content import Content

from engine.scripted_scenes import SCENES
from engine.snapshot import NO_OWNER, AgentRow, AgentStatus, BlockState, ThroughputRow
from styles.tokens import ASCII, UNICODE
from widgets.agent_detail import is_on_disk, lost_tokens, recompute_words, reread_bytes
from widgets.bars import bar, chart, stacked
from widgets.batch import _listed
from widgets.block_cells import aggregate, blocks_per_cell, grid_for, state_counts
from widgets.format import context_limit, duration, percent, rate, seconds, short_bytes, short_count
from widgets.history import MAX_COLUMNS, MAX_SAMPLES, SPANS_S, History
from widgets.key_bar import KeyBar, KeyHint
from widgets.lanes import lane, layout_for
from widgets.recent_rates import NUM_SAMPLES, RecentRates
from widgets.welcome import claude_code_line, launch_line


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (940, "940"),
        (999, "999"),
        (1000, "1.0K"),
        (5120, "5.1K"),
        (9949, "9.9K"),
        (9951, "10K"),
        (118000, "118K"),
        (999600, "1.0M"),
        (2900000, "2.9M"),
    ],
)
def test_short_count(count: int, text: str) -> None:
    assert short_count(count) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0"), (940, "940B"), (118_000_000, "118M"), (17_200_000_000, "17G")],
)
def test_short_bytes(num_bytes: int, text: str) -> None:
    assert short_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.18, "0.18s"),
        (0.996, "1.0s"),
        (1.44, "1.4s"),
        (38.2, "38s"),
        (251.0, "4m"),
        (8040.0, "2h14m"),
        (400000.0, "4d15h"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_other_numbers() -> None:
    assert [percent(ratio) for ratio in (None, 0.0, 0.994, 0.999, 1.0)] == [
        "-",
        "0%",
        "99%",
        "99%",
        "100%",
    ]
    assert [rate(value) for value in (0.0, 11.24, 412.4)] == ["-", "11.2", "412"]
    assert [context_limit(limit) for limit in (8192, 131072, 8000)] == ["8K", "128K", "8.0K"]
    assert duration(59.9) == "59s"


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("ratio", [-1.0, 0.0, 0.001, 0.5, 1.0, 7.0])
def test_a_bar_is_as_wide_as_asked(ratio: float, glyphs: object) -> None:
    marks = UNICODE if glyphs is UNICODE else ASCII
    text = Content.assemble(*bar(ratio, 9, "$primary", marks)).plain
    assert len(text) == 9
    assert (marks.bar_empty * 9 == text) == (ratio <= 0)


def test_marks_are_one_cell_and_have_ascii_twins() -> None:
    for mark in [*UNICODE.agent.values(), *UNICODE.block.values(), UNICODE.pinned, UNICODE.error]:
        assert Content(mark).cell_length == 1
    for mark in [*ASCII.agent.values(), *ASCII.block.values(), ASCII.spark, ASCII.ellipsis]:
        assert mark.isascii()
    assert len(set(ASCII.agent.values())) == len(ASCII.agent) == len(AgentStatus)
    assert len(set(UNICODE.block.values())) == len(UNICODE.block) == len(BlockState)


def test_a_stacked_bar_shares_out_every_cell() -> None:
    assert stacked([(1, "a", ""), (1, "b", ""), (2, "c", "")], 8).plain == "aabbcccc"
    assert stacked([(0, "a", ""), (5, "b", "")], 3).plain == "bbb"
    assert stacked([], 3).plain == ""


def test_a_chart_scales_to_its_peak_and_keeps_the_newest() -> None:
    lines = chart([9.0, 0.0, 1.0, 2.0, 4.0], 4, 2, "$success", UNICODE)
    assert [line.plain for line in lines] == ["   █", "▁▄██"]  # 9.0 has left the chart


def test_few_blocks_are_cells_of_their_own() -> None:
    states = bytes([BlockState.RUNNING, BlockState.FREE, BlockState.SHARED])
    cells = aggregate(states, bytes([3, NO_OWNER, 1]), 10)
    assert [(cell.state, cell.owner) for cell in cells] == [
        (BlockState.RUNNING, 3),
        (BlockState.FREE, NO_OWNER),
        (BlockState.SHARED, 1),
    ]


def test_many_blocks_share_cells_and_one_used_block_is_never_lost() -> None:
    states = bytearray(50_000)
    states[30_001] = BlockState.HOT
    owners = bytearray([NO_OWNER]) * 50_000
    owners[30_001] = 7
    cells = aggregate(bytes(states), bytes(owners), 500)
    assert len(cells) == 500
    assert [(at, cell.owner) for at, cell in enumerate(cells) if cell.state] == [(300, 7)]
    assert blocks_per_cell(50_000, 500) == 100


@pytest.mark.parametrize("num_blocks", [1, 136, 500, 10_000, 50_000])
@pytest.mark.parametrize(("width", "height"), [(56, 9), (96, 20), (20, 3)])
def test_every_block_has_a_cell_that_can_be_pointed_at(
    num_blocks: int, width: int, height: int
) -> None:
    grid = grid_for(num_blocks, width, height)
    places = [grid.cell_at(x, y) for y in range(height) for x in range(width)]
    assert set(places) - {None} == set(range(grid.num_cells))
    assert (grid.num_cells - 1) * grid.blocks_per_cell < num_blocks
    assert grid.num_cells * grid.blocks_per_cell >= num_blocks
    assert grid.cell_at(width, 0) is None


def test_state_counts_add_up() -> None:
    pool = SCENES["many_blocks"]().pool
    assert sum(state_counts(pool.block_states).values()) == 50_000


@pytest.mark.parametrize("width", [60, 76, 90, 116, 140, 196])
def test_a_lane_is_exactly_as_wide_as_its_layout(width: int) -> None:
    layout = layout_for(width)
    for row in (*SCENES["busy"]().agents, *SCENES["disk_off"]().agents):
        text = "".join(part for part, _ in lane(row, layout, UNICODE))
        assert Content(text).cell_length == width


def test_recent_rates_are_kept_for_those_that_did_something() -> None:
    recent = RecentRates()
    busy = AgentRow(agent_id="a", decode_tok_s=4.0)
    rested = replace(busy, decode_tok_s=0.0)
    recent.add((AgentRow(agent_id="b"), busy))
    recent.add((AgentRow(agent_id="b"), rested))
    assert (recent.of(busy.key), recent.of(("", "b"))) == ((4.0, 0.0), ())
    for _ in range(NUM_SAMPLES):
        recent.add((rested,))
    assert recent.of(busy.key) == ()
    recent.add((busy,))
    recent.add(())
    assert recent.of(busy.key) == ()


def test_a_lane_shows_recent_rates_where_it_is_wide() -> None:
    row = SCENES["busy"]().agents[0]
    layout = layout_for(140)
    text = "".join(part for part, _ in lane(row, layout, UNICODE, (1.0, 8.0, 4.0)))
    assert "▁█▄" in text
    assert Content(text).cell_length == 140


def test_who_holds_whom_back_is_named() -> None:
    names = ("claude repo-a", "codex 7f31", "a\x1b[31mb")
    assert _listed(names, 40, "…") == "claude repo-a, codex 7f31, a\ufffd[31mb"
    assert _listed(names, 30, "…") == "claude repo-a, codex 7f31 +1"
    assert _listed(("a" * 60,), 20, "…") == "a" * 14 + "…"


def test_history_columns_stay_put_when_time_goes_on() -> None:
    history = History()
    for second in range(95):
        history.add(ThroughputRow(decode_tok_s=float(second), pool_use=0.25))
    before = history.trend(600, 60)
    history.add(ThroughputRow(decode_tok_s=95.0, pool_use=0.75))
    after = history.trend(600, 60)
    assert before.decode_tok_s[:-1] == tuple(n * 10 + 4.5 for n in range(9))
    assert after.decode_tok_s[: len(before.decode_tok_s) - 1] == before.decode_tok_s[:-1]
    assert (after.pool_use[0], round(after.pool_use[-1], 4)) == (0.25, 0.3333)
    assert history.trend(60, 60).decode_tok_s[-1] == 95.0


@pytest.mark.parametrize("num_cells", [1, 20, 56, 94, 196, 400])
@pytest.mark.parametrize("span_s", SPANS_S)
def test_charts_go_as_far_back_as_asked_at_any_width(span_s: int, num_cells: int) -> None:
    history = History()
    for second in range(MAX_SAMPLES + 500):
        history.add(ThroughputRow(decode_tok_s=float(second)))
    trend = history.trend(span_s, num_cells)
    num_columns = len(trend.decode_tok_s)
    assert num_columns <= min(num_cells, MAX_COLUMNS) + 1
    assert trend.decode_tok_s[-1] >= MAX_SAMPLES + 500 - trend.column_s
    shown_s = num_columns * trend.column_s
    assert 0.9 * span_s <= shown_s
    assert trend.column_s == 1 or shown_s <= 1.3 * span_s + trend.column_s


def test_what_an_eviction_costs() -> None:
    agent = AgentRow(agent_id="a", num_context_tokens=4000, hot_bytes=400, shared_bytes=300)
    assert lost_tokens(agent) == 1000
    assert lost_tokens(AgentRow(agent_id="a", num_context_tokens=4000)) == 0
    half = AgentRow(agent_id="a", num_context_tokens=4000, hot_bytes=400, warm_bytes=200)
    assert (lost_tokens(half), reread_bytes(half), is_on_disk(half)) == (2000, 200, False)
    both = replace(half, shared_bytes=100)  # shared and stored blocks are the same first ones
    assert (lost_tokens(both), reread_bytes(both)) == (2000, 100)
    whole = replace(half, warm_bytes=450, shared_bytes=300)
    assert (lost_tokens(whole), reread_bytes(whole), is_on_disk(whole)) == (0, 100, True)
    assert recompute_words(1000, 0.0) == "1,000 tokens"
    assert recompute_words(1000, 500.0) == "1,000 tokens, 2.0s at best"


def test_the_footer_keeps_what_matters_most() -> None:
    hints = tuple(
        KeyHint(key=key, label="label", action="screen.help", rank=rank)
        for key, rank in (("a", 2), ("b", 0), ("c", 1))
    )
    bar_of_keys = KeyBar(hints)
    assert [hint.key for hint in bar_of_keys.fitting(16)] == ["b", "c"]
    assert [hint.key for hint in bar_of_keys.fitting(200)] == ["a", "b", "c"]


def test_a_small_context_starts_claude_code_bare() -> None:
    assert claude_code_line("http://x:1", 8192).endswith("=8192 claude --bare")
    assert claude_code_line("http://x:1", 131_072).endswith("ANTHROPIC_API_KEY=local claude")


def test_a_launched_agent_is_told_an_address_that_is_not_the_usual_one() -> None:
    assert launch_line("http://127.0.0.1:8000") == "stoker launch claude"
    assert (
        launch_line("http://127.0.0.1:9000") == "stoker launch claude --url http://127.0.0.1:9000"
    )
