"""An engine whose thread fails answers everybody, says why, and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.agent_commands import EvictAgent
from engine.engine import Engine
from engine.errors import EngineFailedError, ModelLoadError
from engine.models.catalog import ModelSource
from engine.publisher import Publisher
from engine.request import FinishReason
from engine.residency import Residency
from engine.runtime.runner import ModelRunner
from engine.settings import EngineSettings, Progress
from tests.engine.real_engine import RunningTurn, make_engine


def test_a_model_that_cannot_be_found_fails_the_engine_in_words(tmp_path: Path) -> None:
    def find(_progress: Progress) -> ModelSource:
        raise ModelLoadError("there is no such model")

    engine = Engine(EngineSettings(find_model=find, cache_dir=tmp_path))
    waiting = EvictAgent(agent_id="a")
    engine.send(waiting)
    engine.start()
    assert engine.join(60)
    assert engine.snapshot.status == "failed"
    assert engine.snapshot.status_text == "there is no such model"
    late = EvictAgent(agent_id="b")
    engine.send(late)
    for command in (waiting, late):
        with pytest.raises(EngineFailedError, match="no such model"):
            command.done.result(5)


def test_a_step_that_raises_ends_every_turn_with_the_reason(
    bundled_models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(bundled_models_dir, bundled_models_dir / "cache")
    turn = RunningTurn(engine, "a", "Tell me a story.", max_tokens=500)
    while not turn.next_delta().token_ids:
        pass

    def broken(*_: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(ModelRunner, "decode", broken)
    answer = turn.answer()
    assert answer.last.finish_reason is FinishReason.ERROR
    assert "the device is gone" in str(answer.last.error)
    assert engine.join(30)
    assert engine.snapshot.status == "failed"
    errors = [event.text for event in engine.snapshot.events if event.level == "error"]
    assert errors[0] == "the engine stopped: RuntimeError: the device is gone"
    assert not any("\n" in text for text in errors)
    # Where in the code it happened is for the log.
    assert any(record.exc_info for record in caplog.records)


def test_what_fails_again_at_the_end_hides_the_failure_from_nobody(
    bundled_models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(bundled_models_dir, bundled_models_dir / "cache")
    turns = [RunningTurn(engine, name, "Tell me a story.", max_tokens=500) for name in ("a", "b")]
    for turn in turns:
        while not turn.next_delta().token_ids:
            pass

    def broken(*_: object) -> None:
        raise RuntimeError("the books are in disorder")

    monkeypatch.setattr(Residency, "release", broken)
    monkeypatch.setattr(Publisher, "draw", broken)
    for turn in turns:
        answer = turn.answer()
        assert answer.last.finish_reason is FinishReason.ERROR
        assert "in disorder" in str(answer.last.error)
    assert engine.join(30)
    assert engine.snapshot.status == "failed"
    assert "in disorder" in engine.snapshot.status_text
    with pytest.raises(EngineFailedError, match="in disorder"):
        RunningTurn(engine, "c", "And now?", max_tokens=5)
