"""What is seen of a Stoker that ends: how much it still has to do."""

from __future__ import annotations

import dataclasses

from app.dashboard.screenshots import ADDRESS
from engine.scripted_scenes import SCENES
from engine.snapshot import BatchRow, EngineSnapshot, EngineStatus
from widgets.header import header_slice
from widgets.source import SourceSlice


def words(snapshot: EngineSnapshot) -> str:
    return header_slice(
        snapshot, ADDRESS, f"http://{ADDRESS}", SourceSlice(), is_paused=False, is_readonly=False
    ).progress


def draining(num_turns: int, num_pending: int) -> EngineSnapshot:
    snapshot = SCENES["busy"]()
    return dataclasses.replace(
        snapshot,
        status=EngineStatus.DRAINING,
        batch=BatchRow(num_running=num_turns),
        disk=dataclasses.replace(snapshot.disk, num_pending=num_pending),
    )


def test_turns_come_first_then_what_is_to_be_written() -> None:
    assert words(draining(2, 12)) == "2 turns"
    assert words(draining(1, 12)) == "1 turn"
    assert words(draining(0, 12)) == "12 to write"
    assert words(draining(0, 0)) == ""


def test_an_engine_that_serves_says_nothing_of_it() -> None:
    assert words(SCENES["busy"]()) == ""
