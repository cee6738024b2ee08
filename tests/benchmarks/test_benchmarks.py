"""The benchmarks, at sizes too small to mean anything: that they run, and say what they saw."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    dashboard,
    fairness,
    http_overhead,
    persistence_cost,
    pool_scale,
    results_file,
    returning_agent,
    shared_prefix,
)
from benchmarks.chat_client import Stream
from benchmarks.cpu_profile import bundled_model
from benchmarks.peers import Stoker

ROOT = Path(__file__).parent.parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
NAMES = MAKEFILE.partition("BENCHMARKS ?=")[2].partition("\nLOCKS")[0].replace("\\", "").split()


@pytest.mark.parametrize("name", NAMES)
def test_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_pool_scale_measures_every_operation_and_the_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(pool_scale, "write_result", _into(tmp_path))
    arguments = ["--blocks", "100", "200", "--files", "20", "--repeats", "3"]
    monkeypatch.setattr(sys, "argv", ["pool_scale", *arguments])
    pool_scale.main()
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    turn = result["pool"]["200"]["turn of a known agent"]
    assert turn["num_samples"] == 3
    assert turn["p50"] > result["pool"]["200"]["lookup"]["p50"] > 0
    assert result["disk"]["20"]["rebuild_s"] > 0
    assert "evict for room: 100" in capsys.readouterr().out


@pytest.mark.slow
def test_http_overhead_asks_one_engine_both_ways_and_holds_streams(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(http_overhead, "write_result", _into(tmp_path))
    sizes = ("--pairs", "2", "--rounds", "1", "--tokens", "48", "--streams", "5", "--probes", "1")
    monkeypatch.setattr(sys, "argv", ["http_overhead", *sizes])
    http_overhead.main()
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert result["first_piece"]["http_s"]["num_samples"] == 2
    assert result["decode"]["straight"]["p50"] > 0
    assert result["crowd"]["num_streams"] == 5
    assert "bytes per held stream" in capsys.readouterr().out


def test_a_result_is_never_overwritten(tmp_path: Path) -> None:
    paths = set()
    for _ in range(2):
        try:
            paths.add(results_file.write_result("x", {"a": 1}, tmp_path))
        except FileExistsError:
            continue
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}


def test_ahead_means_ahead_in_every_returning_state() -> None:
    def result(hot_s: float, restart_s: float) -> dict[str, Any]:
        samples = {1000: {"cold": [2.0], "hot": [hot_s], "restart": [restart_s]}}
        return returning_agent.summarized(samples)

    ours = result(0.1, 0.2)
    slower = returning_agent.against(ours, result(0.3, 0.4))
    assert slower["1000"]["hot"] == pytest.approx(3.0)
    assert returning_agent.is_ahead(slower)
    assert not returning_agent.is_ahead(returning_agent.against(ours, result(0.3, 0.1)))


def test_a_peer_that_keeps_nothing_on_disk_is_compared_where_it_can_be() -> None:
    ours = returning_agent.summarized({1000: {"cold": [2.0], "hot": [0.1], "warm": [0.2]}})
    peer = returning_agent.summarized(
        {1000: {"cold": [2.0], "hot": [0.2]}, 4000: {"cold": [9.0], "hot": [1.0]}}
    )
    assert returning_agent.against(ours, peer) == {"1000": {"cold": 1.0, "hot": 2.0}}


def test_tails_are_told_apart_from_what_agents_share() -> None:
    one = {"ram_bytes": 100, "disk_bytes": 100}
    ten = {"ram_bytes": 300, "disk_bytes": 150, "own_ram_bytes": 200, "own_disk_bytes": 50}
    ratios = shared_prefix.compare_bytes(one, ten)
    assert ratios["ram"] == {"times_one_agent": 3.0, "times_one_agent_without_tails": 1.0}
    assert ratios["disk"]["times_one_agent_without_tails"] == 1.0


def test_every_agent_asks_something_of_its_own_after_the_same_prefix() -> None:
    talks = [shared_prefix.conversation(300, number) for number in range(10)]
    assert len({talk[0]["content"] for talk in talks}) == 1
    assert len({talk[1]["content"] for talk in talks}) == 10
    assert len({returning_agent.prompt(300, number)[:10] for number in range(10)}) == 10


@pytest.mark.slow
def test_a_returning_agent_is_measured_in_every_state(tmp_path: Path) -> None:
    contestant = Stoker(tmp_path, str(bundled_model()))
    samples = returning_agent.measure(contestant, (300,), rounds=1, returns=1)
    assert {state: len(times) for state, times in samples[300].items()} == dict.fromkeys(
        returning_agent.STATES, 1
    )
    assert samples[300]["cold"][0] > samples[300]["again"][0] > 0


def test_only_the_gaps_of_those_held_up_by_a_long_prompt_count() -> None:
    streaming = Stream(sent_s=0.0, pieces_s=[1.0, 2.0, 2.5, 4.0, 9.0, 9.1])
    long = Stream(sent_s=2.4, pieces_s=[5.0])
    short = Stream(sent_s=3.0, pieces_s=[3.5, 4.0])
    round_ = fairness.Round([streaming], [long], short)
    assert round_.gaps_s == pytest.approx([0.5, 1.5, 5.0])
    assert round_.seconds == pytest.approx(9.1)


@pytest.mark.slow
def test_a_short_request_is_measured_among_long_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fairness, "write_result", _into(tmp_path))
    arguments = ["--long-tokens", "300", "--streamed-tokens", "80", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["fairness", *arguments])
    fairness.main()
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert result["stoker"]["short_ttft_s"]["p50"] > 0
    assert result["stoker"]["gap_s"]["num_samples"] > 0
    assert result["aims"]["throughput_of_unfair"] > 0


@pytest.mark.slow
def test_persistence_cost_writes_with_one_side_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(persistence_cost, "write_result", _into(tmp_path))
    arguments = ["--tokens", "280", "--pairs", "1", "--batches", "1"]
    monkeypatch.setattr(sys, "argv", ["persistence_cost", *arguments])
    persistence_cost.main()
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())["batch_1"]
    assert result["num_blocks_written"] > 1
    assert all(rate["p50"] > 0 for rate in result["tokens_per_s"].values())


@pytest.mark.slow
def test_a_replay_is_watched_while_it_plays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dashboard, "write_result", _into(tmp_path / "results"))
    for name, value in (("RECORDED_S", 60), ("SETTLE_S", 1.0), ("WATCH_S", 0.2)):
        monkeypatch.setattr(dashboard, name, value)
    monkeypatch.setattr(sys, "argv", ["dashboard", "--parts", "replay", "--replay-s", "3"])
    dashboard.main()
    (path,) = (tmp_path / "results").iterdir()
    result = json.loads(path.read_text())["replay"]
    assert result["recording_bytes"] > 0
    assert result["rss_bytes"]["most"] >= result["rss_bytes"]["last_tenth"] > 0
    assert 0 < result["ui_thread_share"] < 1


def _into(folder: Path) -> Callable[[str, dict[str, Any]], Path]:
    return lambda name, results: results_file.write_result(name, results, folder)
