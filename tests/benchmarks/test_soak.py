"""The soak: what it finds, and that it runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import soak, soak_traffic
from benchmarks.results_file import write_result
from benchmarks.soak import Lap, findings, slope_bytes_per_h
from benchmarks.soak_traffic import Reply, Traffic

LAP = Lap(
    ended_s=100.0,
    footprint_bytes=1_000_000_000,
    evicted_bytes=900_000_000,
    num_threads=12,
    num_files=14,
    num_held_blocks=0,
    num_agents=20,
    dashboard_bytes=100_000_000,
)


def laps(**last: int) -> list[Lap]:
    return [LAP, replace(LAP, ended_s=200.0), replace(LAP, ended_s=300.0, **last)]


def test_nothing_is_found_where_nothing_grows() -> None:
    assert findings(laps(), []) == []
    assert slope_bytes_per_h(laps()) == pytest.approx(0, abs=1)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"footprint_bytes": 1_060_000_000}, "memory grew by 6.0%"),
        ({"dashboard_bytes": 130_000_000}, "the dashboard's memory grew by 30.0%"),
        ({"num_threads": 17}, "threads: 12, then 17"),
        ({"num_files": 19}, "open files: 14, then 19"),
        ({"num_held_blocks": 2}, "2 blocks are still held"),
    ],
)
def test_what_grows_is_found(last: dict[str, int], words: str) -> None:
    (found,) = findings(laps(**last), [])
    assert words in found


def test_what_the_first_lap_fills_is_no_growth() -> None:
    first = replace(LAP, footprint_bytes=500_000_000, num_threads=4, num_files=4)
    assert findings([first, *laps()[1:]], []) == []


def test_the_slope_is_that_of_the_laps() -> None:
    assert slope_bytes_per_h(laps(footprint_bytes=1_001_000_000)) == pytest.approx(36e6)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    traffic = Traffic(port=0)
    traffic.expected = {"What?": "That."}
    # Nobody waits here for a retry-after.
    traffic._stop.set()
    return traffic


@pytest.mark.parametrize(
    ("reply", "counted", "fault"),
    [
        (Reply(200, b'{"choices": [{"message": {"content": "That."}}]}', 0), "replies", ""),
        (Reply(200, b'{"choices": [{"message": {"content": "Not."}}]}', 0), "wrong answers", "Not"),
        (Reply(529, b"", 3.0), "told to come again with 529", ""),
        (Reply(429, b"", 0.0), "told to come again with 429", "without retry-after"),
        (Reply(500, b"oh", 0.0), "faults", "500 for a: b'oh'"),
    ],
)
def test_answers_are_judged(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch, reply: Reply, counted: str, fault: str
) -> None:
    monkeypatch.setattr(soak_traffic, "request", lambda *_: reply)
    traffic._check("a", "What?")
    assert traffic.tally.counts[counted] == 1
    assert len(traffic.tally.faults) == bool(fault)
    assert all(fault in each for each in traffic.tally.faults)


def test_a_stream_without_an_end_is_a_fault() -> None:
    whole = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
    assert soak_traffic._streamed_text(whole) == "Hi"
    with pytest.raises(RuntimeError):
        soak_traffic._streamed_text(whole[:-20])


@pytest.mark.slow
def test_a_short_soak_finds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write_here(name: str, results: dict[str, Any]) -> Path:
        return write_result(name, results, tmp_path)

    monkeypatch.setattr(soak, "write_result", write_here)
    monkeypatch.setattr(sys, "argv", ["soak", "--seconds", "20", "--laps", "2"])
    assert soak.main() == 0
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert result["counts"]["answers compared"] >= 12
    assert result["counts"]["left"] > 0
    assert len(result["laps"]) == 2
