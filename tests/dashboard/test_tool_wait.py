"""An agent that waits for its tools, as it is shown and told."""

from __future__ import annotations

import dataclasses
import itertools
import json

from app.agents_table import state_words as told_words
from app.dashboard.questions import evictable
from engine.scripted_scenes import SCENES
from engine.scripted_world import DemoWorld
from engine.snapshot import AgentRow, AgentStatus, agent_from_json, to_value
from styles.tokens import ASCII, UNICODE
from widgets.agent_detail import AgentDetail, DetailSlice
from widgets.lanes import lane, layout_for


def waiting() -> AgentRow:
    row = next(r for r in SCENES["busy"]().agents if r.status is AgentStatus.IDLE)
    return dataclasses.replace(row, status=AgentStatus.TOOL_WAIT, idle_s=7.0, pinned=False)


def test_its_lane_says_so_and_for_how_long() -> None:
    for glyphs, mark in ((UNICODE, "◔"), (ASCII, "t")):
        text = "".join(part for part, _ in lane(waiting(), layout_for(110), glyphs))
        assert f"{mark} tool-wait" in text
        assert "7s" in text


def test_its_detail_says_what_taking_its_cache_away_would_cost() -> None:
    detail = AgentDetail()
    detail.update_from(DetailSlice(agent=waiting(), prefill_tok_s=100.0))
    text = "\n".join(line.plain for line in detail.draw(90, 30))
    assert "has waited 7s for its tools: evicting it" in text


def test_a_terminal_is_told_the_same() -> None:
    assert told_words(waiting()) == "tool-wait 7s"


def test_it_is_not_among_the_idle_ones_that_are_evicted_together() -> None:
    row = waiting()
    assert not evictable([row])
    assert evictable([dataclasses.replace(row, status=AgentStatus.IDLE)])


def test_it_crosses_a_wire_and_a_recording() -> None:
    row = waiting()
    assert agent_from_json(json.loads(json.dumps(to_value(row)))) == row


def test_agents_of_the_demo_use_tools_and_come_back() -> None:
    world = DemoWorld(seed=0, epoch_s=0.0)
    seen: dict[str, list[AgentStatus]] = {}
    for second in range(600):
        for row in world.advance(second / 2).agents:
            states = seen.setdefault(row.agent_id, [])
            if not states or states[-1] is not row.status:
                states.append(row.status)
    after = {
        later
        for states in seen.values()
        for earlier, later in itertools.pairwise(states)
        if earlier is AgentStatus.TOOL_WAIT
    }
    assert AgentStatus.QUEUED in after or AgentStatus.PREFILLING in after
    assert AgentStatus.TOOL_WAIT in seen["claude repo-a"]
