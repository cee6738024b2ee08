"""Recordings: what is written is what is read, whatever happens in between."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import pytest

from app.recording.recorder import Recorder
from app.recording.recording import Recording, RecordingError
from app.recording.replay import Replay
from app.recording.writer import RecordingWriter
from engine.agent_commands import EvictIdle
from engine.commands import Note
from engine.errors import InvalidRequestError, UnavailableError
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.scripted_world import DemoWorld
from engine.snapshot import EngineSnapshot

Day = list[tuple[float, EngineSnapshot]]


def record(path: Path, num_frames: int = 400) -> Day:
    """Records a scripted day at four frames a second; returns what was recorded."""
    world, writer = DemoWorld(), RecordingWriter(path, "127.0.0.1:8000", 0.0)
    day = [(index / 4, world.advance(index / 4)) for index in range(num_frames)]
    for at_s, snapshot in day:
        writer.add(at_s, snapshot)
    writer.close()
    return day


def test_every_frame_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "day"
    day = record(path)
    recording = Recording(path)
    for at_s, snapshot in [*day, *day[::-37]]:
        assert recording.at(at_s) == snapshot
    assert recording.duration_s == day[-1][0]
    assert recording.samples[50] == recording.at(50.0).throughput
    assert not recording.is_cut
    assert not recording.gap_words
    assert path.stat().st_mode & 0o777 == 0o600


def test_scenes_that_have_nothing_in_common_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "scenes"
    writer = RecordingWriter(path, "", 0.0)
    scenes = [make() for make in SCENES.values()]
    for at_s, snapshot in enumerate([*scenes, *scenes[::-1]]):
        writer.add(at_s, snapshot)
    writer.close()
    recording = Recording(path)
    for at_s, snapshot in enumerate([*scenes, *scenes[::-1]]):
        assert recording.at(at_s) == snapshot


@pytest.mark.parametrize("num_lost", [1, 9, 500, 3000])
def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path: Path, num_lost: int) -> None:
    path = tmp_path / "day"
    day = record(path)
    path.write_bytes(path.read_bytes()[:-num_lost])
    recording = Recording(path)
    assert recording.is_cut
    assert 0 < recording.duration_s <= day[-1][0]
    at_s = recording.duration_s
    assert recording.at(at_s) == dict(day)[at_s]


def test_nobody_has_to_complete_it(tmp_path: Path) -> None:
    path = tmp_path / "day"
    writer = RecordingWriter(path, "", 0.0)
    writer.add(0.0, SCENES["busy"]())
    assert Recording(path).at(0.0) == SCENES["busy"]()
    writer.close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a recording",
        b"\x1f\x8b\x08",
        gzip.compress(b"hello\n", mtime=0),
        gzip.compress(b"{}\n", mtime=0),
        gzip.compress(b"[1]\n", mtime=0),
        gzip.compress(b'{"format":"stoker-recording","version":1}\n', mtime=0),
    ],
)
def test_what_is_no_recording(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="is no recording of Stoker's"):
        Recording(path)


def test_a_recording_of_a_later_format(tmp_path: Path) -> None:
    path = tmp_path / "later"
    path.write_bytes(gzip.compress(b'{"format":"stoker-recording","version":2}\n'))
    with pytest.raises(RecordingError, match="format 2, and this Stoker reads 1"):
        Recording(path)


def test_a_file_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "day"
    record(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="is damaged"):
        Recording(path)


@pytest.mark.parametrize(
    "change",
    [
        {"agents": [[0, 99]]},
        {"agents": [{"~": {}, "of": -1}]},
        {"pool": {"~": {"block_states": {"~": [[9**9, "AA=="]]}}}},
        {"pool": {"~": {"block_states": {"~": 1}}}},
        {"step": "x"},
        [],
    ],
)
def test_changes_of_what_is_not_there(tmp_path: Path, change: object) -> None:
    path = tmp_path / "day"
    writer = RecordingWriter(path, "", 0.0)
    writer.add(0.0, SCENES["busy"]())
    writer._write_line({"t": 1.0, "set": change})
    writer.close()
    with pytest.raises(RecordingError, match="damaged"):
        Recording(path)


def test_what_another_version_has_more_is_named(tmp_path: Path) -> None:
    path = tmp_path / "day"
    writer = RecordingWriter(path, "", 0.0)
    writer.add(0.0, SCENES["busy"]())
    writer._write_line({"t": 1.0, "set": {"weather": {"~": {"sky": "blue"}}}})
    writer.close()
    recording = Recording(path)
    assert recording.at(1.0) == SCENES["busy"]()
    assert "EngineSnapshot.weather" in recording.gap_words


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "day"
    path.write_text("mine")
    with pytest.raises(InvalidRequestError, match="is there already"):
        RecordingWriter(path, "", 0.0)
    with pytest.raises(InvalidRequestError, match="No such file"):
        RecordingWriter(tmp_path / "none" / "day", "", 0.0)
    assert path.read_text() == "mine"


def scripted() -> ScriptedEngine:
    engine = ScriptedEngine(StillScene(SCENES["busy"]()))
    engine.start()
    return engine


def test_a_recorder_writes_down_what_changes(tmp_path: Path) -> None:
    engine, path = scripted(), tmp_path / "day"
    recorder = Recorder(engine, path, "")
    recorder.start()
    engine.send(Note(kind="pin", text="first"))
    engine.send(EvictIdle())
    words = recorder.stop()
    assert f" in {path}, " in words
    assert "missing" not in words
    recording = Recording(path)
    assert recording.at(recording.duration_s) == engine.snapshot
    assert not recording.is_cut


def test_a_recording_has_an_end(tmp_path: Path) -> None:
    engine, path = scripted(), tmp_path / "day"
    recorder = Recorder(engine, path, "", limit_bytes=10)
    recorder.start()
    recorder._thread.join(10.0)
    assert "it ends there, at its limit of 10B" in recorder.stop()
    assert engine.snapshot.events[-1].kind == "record"
    assert not Recording(path).is_cut


def test_frames_that_a_slow_disk_costs_are_counted(tmp_path: Path) -> None:
    engine, now_s = scripted(), [0.0]
    recorder = Recorder(engine, tmp_path / "day", "", clock=lambda: now_s[0])
    is_written = threading.Event()

    def slow(at_s: float, snapshot: EngineSnapshot) -> None:
        now_s[0] += 1.1
        is_written.set()

    recorder._writer.add = slow  # type: ignore[method-assign]
    recorder.start()
    assert is_written.wait(10.0)
    assert "; 4 frames are missing" in recorder.stop()


def test_a_disk_that_fails_ends_the_recording_alone(tmp_path: Path) -> None:
    engine = scripted()
    recorder = Recorder(engine, tmp_path / "day", "")

    def full(at_s: float, snapshot: EngineSnapshot) -> None:
        raise OSError(28, "No space left on device")

    recorder._writer.add = full  # type: ignore[method-assign]
    recorder.start()
    recorder._thread.join(10.0)
    assert "it breaks off there: No space left on device" in recorder.stop()
    assert "No space left" in engine.snapshot.events[-1].text


def test_a_replay_goes_stops_and_moves(tmp_path: Path) -> None:
    path, now_s = tmp_path / "day", [0.0]
    day = dict(record(path))
    replay = Replay(Recording(path), speed=2.0, clock=lambda: now_s[0])
    now_s[0] = 5.0
    assert replay.position_s == 0.0
    replay.start()
    now_s[0] = 10.0
    assert replay.snapshot == day[10.0]
    assert replay.state.label == "replay 0:10/1:39 2x"
    assert json.dumps(replay.history.trend(60, 60).decode_tok_s) == json.dumps(
        tuple(day[float(second)].throughput.decode_tok_s for second in range(11))
    )
    replay.toggle()
    now_s[0] = 50.0
    assert replay.snapshot == day[10.0]
    assert replay.state.is_held
    replay.seek(-60.0)
    assert replay.position_s == 0.0
    replay.toggle()
    replay.faster()
    now_s[0] = 52.0
    assert replay.position_s == 10.0
    replay.seek(1000.0)
    assert replay.is_at_end
    assert "replay ended 1:39/1:39" in replay.state.label
    replay.toggle()
    assert replay.position_s == 0.0


def test_a_recording_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "day"
    record(path, 4)
    command = EvictIdle()
    Replay(Recording(path)).send(command)
    assert isinstance(command.done.exception(), UnavailableError)
