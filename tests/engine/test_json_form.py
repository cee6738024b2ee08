"""Snapshots as JSON: exact within one version, readable between versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.scripted_scenes import SCENES
from engine.scripted_world import DemoWorld
from engine.snapshot import (
    AgentStatus,
    BlockState,
    BlockTier,
    EngineSnapshot,
    FormatError,
    RowReader,
    from_json,
    to_json,
)


def as_sent(snapshot: EngineSnapshot) -> Any:
    """The snapshot as it comes out of the other end of a wire."""
    return json.loads(json.dumps(to_json(snapshot)))


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_comes_back_as_it_was(scene: str) -> None:
    snapshot, reader = SCENES[scene](), RowReader()
    assert from_json(as_sent(snapshot), reader) == snapshot
    assert not reader.gap


def test_a_busy_day_comes_back_as_it_was() -> None:
    world = DemoWorld()
    for second in range(1, 260):
        snapshot = world.advance(second)
    assert any(row.turns for row in snapshot.agents)
    assert from_json(as_sent(snapshot)) == snapshot


def test_what_a_newer_version_has_more_is_left_out_and_named() -> None:
    snapshot = SCENES["busy"]()
    data = as_sent(snapshot)
    data["weather"] = {"sky": "blue"}
    data["agents"][0]["mood"] = "good"
    data["agents"][0]["status"] = "dreaming"
    reader = RowReader()

    read = from_json(data, reader)

    assert read.agents[1:] == snapshot.agents[1:]
    assert read.agents[0].agent_id == snapshot.agents[0].agent_id
    assert read.agents[0].status is AgentStatus.IDLE
    assert reader.gap.words == (
        "not known here: AgentRow.mood, AgentRow.status 'dreaming', EngineSnapshot.weather"
    )


def test_what_an_older_version_lacks_has_its_default_and_is_named() -> None:
    data = as_sent(SCENES["busy"]())
    for row in data["agents"]:
        del row["miss"]
    del data["disk"]
    reader = RowReader()

    read = from_json(data, reader)

    assert not read.disk.is_on
    assert not read.agents[0].miss.is_miss
    assert reader.gap.words == "not known there: AgentRow.miss, EngineSnapshot.disk"


def test_a_block_state_that_is_not_known_can_be_drawn() -> None:
    data = as_sent(SCENES["busy"]())
    data["pool"]["block_states"] = "AAn/"
    data["pool"]["block_owners"] = "AAAA"
    data["pool"]["block_tiers"] = "AQL/"
    reader = RowReader()

    pool = from_json(data, reader).pool

    assert pool.block_states == bytes([BlockState.FREE, BlockState.HOT, BlockState.HOT])
    assert pool.block_tiers == bytes([BlockTier.MEMORY, BlockTier.DISK, BlockTier.MEMORY])
    assert "BlockState 255" in reader.gap.words
    assert "BlockTier 255" in reader.gap.words


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("step",), "7"),
        (("step",), True),
        (("step",), 7.5),
        (("uptime_s",), None),
        (("status",), 3),
        (("agents",), {}),
        (("agents",), [1]),
        (("agents", 0, "pinned"), 1),
        (("agents", 0, "turns"), [None]),
        (("agents", 0), {"status": "idle"}),
        (("pool", "block_states"), "*"),
        (("pool", "block_states"), "AA=="),
        (("pool", "block_states"), 5),
        (("pool", "block_tiers"), "AA=="),
        (("model_detail",), []),
        (("device_detail", "fallbacks"), [1]),
    ],
)
def test_what_is_no_snapshot_is_refused(path: tuple[str | int, ...], value: object) -> None:
    data = as_sent(SCENES["busy"]())
    at = data
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(FormatError):
        from_json(data)


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_what_is_not_even_an_object_is_refused(data: object) -> None:
    with pytest.raises(FormatError):
        from_json(data)


def test_an_empty_object_is_the_snapshot_of_a_much_older_version() -> None:
    reader = RowReader()
    assert from_json({}, reader) == EngineSnapshot()
    assert "EngineSnapshot.pool" in reader.gap.missing
