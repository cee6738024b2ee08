from __future__ import annotations

import errno
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from app.trace_file import TraceFile, traced
from engine.errors import InvalidRequestError


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_records_become_lines_that_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with traced(path) as sink:
        assert sink is not None
        for number in range(500):
            sink({"kind": "slice", "agent": "ü\n", "number": number})
    assert lines(path) == [
        {"kind": "slice", "agent": "ü\n", "number": number} for number in range(500)
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_takes_nothing() -> None:
    with traced(None) as sink:
        assert sink is None


def test_records_beyond_the_bound_are_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    write = os.write

    def slow(fd: int, data: bytes) -> int:
        may_write.wait(10)
        return write(fd, data)

    trace = TraceFile(tmp_path / "t", max_waiting=10)
    monkeypatch.setattr(os, "write", slow)
    for number in range(50):
        trace.take({"number": number})
    may_write.set()
    trace.close()

    records = lines(tmp_path / "t")
    assert records[-1]["kind"] == "left out"
    assert len(records) - 1 + records[-1]["num_records"] == 50


def test_the_file_ends_at_its_limit(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path / "t", limit_bytes=1000)
    for number in range(100):
        trace.take({"number": number})
    trace.close()
    assert lines(tmp_path / "t")[-1] == {"kind": "end", "limit_bytes": 1000}


def test_a_full_disk_ends_the_trace_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    trace = TraceFile(tmp_path / "t")
    trace.take({"number": 1})
    trace.close()
    trace.take({"number": 2})
    assert not trace._thread.is_alive()


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("mine")
    with pytest.raises(InvalidRequestError, match="is there already"), traced(path):
        pass
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_the_users_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--trace", str(tmp_path / "no" / "t")]) == 1
    assert "cannot trace into" in capsys.readouterr().err


def test_the_flag_goes_with_an_engine_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", "t", "models", "list"]) == 1
    assert "--trace goes with `stoker` or `stoker serve`" in capsys.readouterr().err
