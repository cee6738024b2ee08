"""The whole process stays inside a limit that is set low, on the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MB = 1 << 20
CACHE_BYTES = 300 * MB
ROOM_BYTES = 480 * MB
"""What the limit leaves beside the loaded model."""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")


def play(models_dir: Path, home: Path, limit_bytes: int, budget_bytes: int) -> dict[str, Any]:
    """Runs the child and returns what it saw."""
    arguments = [str(each) for each in (models_dir, home, limit_bytes, budget_bytes)]
    run = subprocess.run(
        [sys.executable, "-m", "tests.engine.memory_child", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr[-2000:]
    story: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return story


@pytest.fixture(scope="module")
def limit_bytes(bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """What the process takes with its model, and a little more."""
    probe = play(bundled_models_dir, tmp_path_factory.mktemp("probe"), 0, CACHE_BYTES)
    return int(probe["base_bytes"]) + ROOM_BYTES


@pytest.mark.slow
@on_linux
def test_a_process_with_little_memory_stays_inside_it(
    bundled_models_dir: Path, tmp_path: Path, limit_bytes: int
) -> None:
    story = play(bundled_models_dir, tmp_path, limit_bytes, CACHE_BYTES)

    # While agents had room, all of their caches were kept; when something else took it, they went.
    assert story["num_hot_before"] == 6
    # How many is decided by readings of the whole process, which differ by some megabytes.
    assert story["num_hot_after"] < story["num_hot_before"]
    assert story["full_bytes"] < story["squeezed_bytes"]
    assert story["peak_bytes"] <= limit_bytes
    # A turn there was no memory for was refused, with a time; then everything came back.
    assert story["refused_after_s"] >= 1
    assert all(again == first for first, again in story["answers"])
    events = story["events"]
    assert any("the KV cache shrinks to" in text for text in events)
    assert any("(memory is short)" in text for text in events)
    assert any("room for the whole KV cache again" in text for text in events)


@on_linux
@pytest.mark.slow
def test_a_cache_that_does_not_fit_beside_the_model_is_made_smaller(
    bundled_models_dir: Path, tmp_path: Path, limit_bytes: int
) -> None:
    story = play(bundled_models_dir, tmp_path, limit_bytes, 20 * CACHE_BYTES)

    (warning,) = [text for text in story["events"] if "the KV cache gets" in text]
    assert "instead of 6.3 GB: the model and the program take" in warning
    assert story["peak_bytes"] <= limit_bytes
    assert all(again == first for first, again in story["answers"])
