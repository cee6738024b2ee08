"""``kill -9`` under load: nothing that was acknowledged is lost, nothing is wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.cache.disk.durable import TEMP_PREFIX
from tests.cache.disk.blocks import Events, hashes, opened
from tests.cache.disk.crash_child import NUM_AGENTS, turn_agent, turn_blocks

ROOT = Path(__file__).parents[3]
POINTS = (
    "before-sync",
    "after-sync",
    "before-rename",
    "after-rename",
    "half-written",
    "before-unlink",
    "in-transaction",
    "before-commit",
    "after-commit",
)


def run_until_killed(
    folder: Path, round_number: int, point: str, source: random.Random
) -> tuple[str, bool]:
    """Runs a child until its end; returns what it acknowledged and whether it was killed."""
    num_calls = source.randrange(1, 16)
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.cache.disk.crash_child",
            str(folder),
            str(round_number),
            point,
            str(num_calls),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    first = ""
    if point == "none":
        first = child.stdout.readline()
        time.sleep(source.random() * 0.15)
        child.kill()
    rest, _ = child.communicate(timeout=60)
    return first + rest, child.returncode == -signal.SIGKILL


def check(folder: Path, round_number: int, acknowledged: str) -> int:
    """Opens what the child left; returns how many blocks were verified."""
    last_turn = dict.fromkeys(range(NUM_AGENTS), 0)
    for line in acknowledged.splitlines():
        agent_number, turn = map(int, line.split())
        last_turn[agent_number] = turn
    events = Events()
    num_verified = 0
    with opened(folder, events=events) as (store, agents):
        for agent_number, turn in last_turn.items():
            name = turn_agent(round_number, agent_number, 1).agent_id
            if turn == 0 and name not in agents:
                continue
            # A later turn may be there, whose acknowledgement was cut off; then all of it.
            saved_turn = len(agents[name].block_hashes) - 1
            assert saved_turn >= turn, f"{name} had turn {turn} saved"
            assert agents[name] == turn_agent(round_number, agent_number, saved_turn)
            records = turn_blocks(round_number, agent_number, saved_turn)
            assert list(store.read_blocks(hashes(records))) == records
            num_verified += len(records)
    assert events == [], "a killed process leaves nothing damaged"
    assert list(folder.rglob(f"{TEMP_PREFIX}*")) == []
    return num_verified


def crash_many(folder: Path, seed: int, num_rounds: int) -> None:
    source = random.Random(seed)
    acknowledged: dict[int, str] = {}
    num_verified = num_killed = 0
    for round_number in range(num_rounds):
        # Every other time at a random moment, else at each of the named points in turn.
        point = "none" if round_number % 2 else POINTS[round_number // 2 % len(POINTS)]
        acknowledged[round_number], is_killed = run_until_killed(
            folder, round_number, point, source
        )
        num_killed += is_killed
        num_verified += check(folder, round_number, acknowledged[round_number])
        earlier = source.randrange(round_number + 1)
        check(folder, earlier, acknowledged[earlier])
    assert num_verified > num_rounds, "the children got to save something"
    assert num_killed > num_rounds * 0.6, "not many came to a good end"


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_named_and_random_points(tmp_path: Path, seed: int) -> None:
    crash_many(tmp_path, seed, num_rounds=10)


@pytest.mark.slow
def test_killed_two_hundred_times(tmp_path: Path) -> None:
    for part in range(10):
        crash_many(tmp_path / str(part), seed=100 + part, num_rounds=20)


def test_second_process_is_refused_in_one_line(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.cache.disk.blocks import SPACE, Events\n"
        "from engine.cache.disk.tier import DiskLimits, DiskTier\n"
        "from engine.errors import StokerError\n"
        "tier = DiskTier(Path(sys.argv[1]), SPACE, DiskLimits(budget_bytes=1), Events())\n"
        "try:\n    tier.open()\nexcept StokerError as error:\n    print(error)\n"
    )
    with opened(tmp_path):
        child = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    (line,) = child.stdout.splitlines()
    assert f"process {os.getpid()}" in line
    assert "STOKER_HOME" in line
    assert child.stderr == ""
