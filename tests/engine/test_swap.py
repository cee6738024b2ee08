"""Changing the model of a real engine: agents go along, caches wait, failures change nothing."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.model_library import ModelLibrary
from engine.agent_commands import PinAgent
from engine.commands import SetBatchWindow, SetPriority, Shutdown
from engine.engine import Engine
from engine.errors import (
    DrainingError,
    EngineFailedError,
    InvalidRequestError,
    ModelChangedError,
    ModelLoadError,
    ModelNotFoundError,
    SwapInProgressError,
)
from engine.model_commands import ListModels, SwapModel
from engine.models.bundled import bundled_folder
from engine.request import FinishReason
from engine.runtime import loader
from engine.settings import DiskSettings
from engine.snapshot import EngineStatus, ModelChoice, SwapReport
from tests.engine.real_engine import TIMEOUT_S, Answer, RunningTurn, ask, make_engine
from tests.engine.swap_models import TINY_IDS, make_shelf, make_tiny, share_kernels

ALPHA, BETA = TINY_IDS
GAMMA = "gamma"
BUNDLED, BUNDLED_ID = "bundled", "SmolLM2-135M-Instruct"
PROMPT = "Tell me about the river behind the house. " * 12


@contextmanager
def started(models: Path, home: Path | None, model: str = ALPHA) -> Iterator[Engine]:
    disk = DiskSettings(folder=home, budget_bytes=1 << 32) if home else None
    engine = make_engine(
        models, models.parent / "cache", disk=disk, shelf=ModelLibrary(models, ()), model=model
    )
    try:
        yield engine
    finally:
        engine.send(Shutdown(drain_s=0.0))
        assert engine.join(TIMEOUT_S)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, bundled_models_dir: Path) -> Path:
    shelf = tmp_path_factory.mktemp("shelf")
    share_kernels(bundled_models_dir, shelf / "cache")
    return make_shelf(shelf / "models", bundled_models_dir)


@pytest.fixture(scope="module")
def engine(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests that leave it as they found it: on the same tiny model."""
    with started(models, tmp_path_factory.mktemp("home")) as engine:
        yield engine


def swap(engine: Engine, model: str, drain_s: float = 30.0) -> SwapReport:
    command = SwapModel(model=model, drain_s=drain_s)
    engine.send(command)
    return command.done.result(TIMEOUT_S)


def list_models(engine: Engine, kv_bits: int | None = None) -> dict[str, ModelChoice]:
    command = ListModels(kv_bits=kv_bits)
    engine.send(command)
    return {choice.model_id: choice for choice in command.done.result(TIMEOUT_S)}


def await_agent(engine: Engine, agent_id: str) -> None:
    """Waits until the disk has everything of an agent."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        row = engine.snapshot.agent(agent_id)
        if row is not None and 0 < row.hot_bytes <= row.warm_bytes:
            return
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def says(answer: Answer) -> tuple[list[int], FinishReason | None]:
    return answer.token_ids, answer.last.finish_reason


def test_there_and_back_agents_are_who_they_were_and_their_caches_warm(
    models: Path, tmp_path: Path
) -> None:
    with started(models, tmp_path, BUNDLED) as engine:
        _go_there_and_back(engine)


def _go_there_and_back(engine: Engine) -> None:
    options = {"seed": 11, "temperature": 0.9, "max_tokens": 32}
    first, second = (ask(engine, f"drawn-{n}", "A word, please.", **options) for n in range(2))
    before = ask(engine, "keeper", PROMPT)
    ask(engine, "other", "Name a colour.")
    pin = PinAgent(agent_id="keeper", pinned=True)
    ahead = SetPriority(agent_id="other", priority=1)
    window = SetBatchWindow(window_ms=3.0)
    for command in (pin, ahead, window):
        engine.send(command)
    assert window.done.result(TIMEOUT_S) == 3.0
    await_agent(engine, "keeper")

    report = swap(engine, BETA)

    assert (report.from_model, report.to_model) == (BUNDLED_ID, BETA)
    assert 0 < report.parts.load_s + report.parts.check_s < report.parts.total_s
    assert engine.snapshot.model == BETA
    keeper, other = (engine.snapshot.agent(name) for name in ("keeper", "other"))
    assert keeper is not None
    assert keeper.pinned
    assert keeper.num_context_tokens == 0
    assert other is not None
    assert other.priority == 1
    ask(engine, "keeper", "And what do you say?")
    assert engine._host.core.scheduler.limits.batch_window_ms == 3.0

    swap(engine, BUNDLED)

    keeper = engine.snapshot.agent("keeper")
    assert keeper is not None
    assert keeper.pinned
    again = ask(engine, "keeper", PROMPT)
    assert says(again) == says(before)
    assert again.num_cached_tokens >= len(before.token_ids) > 0
    assert again.last.usage.num_cached_tokens > 100
    assert [event.kind for event in engine.snapshot.events].count("swap") == 4
    third = ask(engine, "drawn-2", "A word, please.", **options)
    assert says(first) == says(second) == says(third)


def test_running_turns_finish_and_late_ones_are_told_when_to_come_again(engine: Engine) -> None:
    turn = RunningTurn(engine, "runner", "Count to one hundred.", max_tokens=60)
    while not turn.next_delta().token_ids:
        pass
    chat = engine.chat_format
    command = SwapModel(model=BETA)
    engine.send(command)
    while engine.snapshot.status is not EngineStatus.SWAPPING:
        time.sleep(0.002)
    second = SwapModel(model=ALPHA)
    engine.send(second)
    with pytest.raises(SwapInProgressError, match=BETA) as refused:
        second.done.result(TIMEOUT_S)
    assert refused.value.retry_after_s > 0
    with pytest.raises((SwapInProgressError, ModelChangedError)):
        RunningTurn(engine, "late", "Hello?")
    answer = turn.answer()
    assert answer.last.finish_reason in (FinishReason.MAX_TOKENS, FinishReason.END_TURN)
    command.done.result(TIMEOUT_S)
    assert engine.chat_format is not chat
    swap(engine, ALPHA)


def test_a_prompt_of_another_model_is_not_taken(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = engine.chat_format
    assert chat is not None
    monkeypatch.setattr(chat, "fingerprint", "of another model")
    with pytest.raises(ModelChangedError):
        RunningTurn(engine, "stranger", "Hello?")


def test_at_the_deadline_turns_end_with_an_error_to_retry_and_keep_their_cache(
    engine: Engine,
) -> None:
    turn = RunningTurn(engine, "cut", PROMPT, max_tokens=2000)
    while not turn.next_delta().token_ids:
        pass
    swap(engine, BETA, drain_s=0.0)
    answer = turn.answer()
    assert answer.last.finish_reason is FinishReason.ERROR
    assert isinstance(answer.last.error, SwapInProgressError)
    swap(engine, ALPHA)
    row = engine.snapshot.agent("cut")
    assert row is not None
    assert row.warm_bytes > 0


def test_what_is_not_there_or_cannot_be_read_stops_nobody(engine: Engine, models: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        swap(engine, "no-such-model")
    for name, spoil in BROKEN_BEFORE_THE_LOAD.items():
        bundled = bundled_folder(models)
        make_tiny(bundled, models / name)
        spoil(models / name)
        with pytest.raises(ModelLoadError):
            swap(engine, name)
        assert engine.snapshot.status is EngineStatus.SERVING
        assert engine.snapshot.model == ALPHA
        assert engine.snapshot.swap is None


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _with_half_a_tokenizer(folder: Path) -> None:
    data = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(data[: len(data) // 2])


def _of_an_unknown_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "abacus"}))


BROKEN_BEFORE_THE_LOAD = {
    "no-tokenizer": _without_tokenizer,
    "half-a-tokenizer": _with_half_a_tokenizer,
    "abacus": _of_an_unknown_kind,
}


def test_a_load_that_fails_brings_the_old_model_back(engine: Engine, models: Path) -> None:
    before = ask(engine, "steady", PROMPT)
    await_agent(engine, "steady")
    bundled = bundled_folder(models)
    make_tiny(bundled, models / "liar")
    config = json.loads((models / "liar" / "config.json").read_text())
    (models / "liar" / "config.json").write_text(json.dumps({**config, "hidden_size": 96}))

    with pytest.raises(ModelLoadError, match=f"{ALPHA} is active again"):
        swap(engine, "liar")

    assert engine.snapshot.status is EngineStatus.SERVING
    assert engine.snapshot.model == ALPHA
    again = ask(engine, "steady", PROMPT)
    assert says(again) == says(before)
    assert again.num_cached_tokens > 100


@pytest.mark.parametrize("error", [MemoryError("no memory"), RuntimeError("[malloc] no room")])
def test_no_memory_for_the_new_model_brings_the_old_one_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    load = loader._use_float32
    tried: list[object] = []

    def fails_once(*arguments: object) -> None:
        tried.append(arguments)
        if len(tried) == 1:
            raise error
        load(*arguments)

    monkeypatch.setattr(loader, "_use_float32", fails_once)
    with pytest.raises(ModelLoadError, match="is active again"):
        swap(engine, BETA)
    assert len(tried) == 2
    assert ask(engine, "after", "Still there?").token_ids


def test_between_two_models_agents_are_shown_and_no_pool(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(engine, "shown", PROMPT)
    await_agent(engine, "shown")
    load, seen = loader._use_float32, []

    def looks(*arguments: object) -> None:
        seen.append(engine.snapshot)
        load(*arguments)

    monkeypatch.setattr(loader, "_use_float32", looks)
    swap(engine, BETA)
    swap(engine, ALPHA)
    assert seen[0].status is EngineStatus.SWAPPING
    assert not seen[0].pool.block_states
    row = seen[0].agent("shown")
    assert row is not None
    assert row.hot_bytes == 0
    assert row.warm_bytes > 0


def test_the_models_are_told_with_what_each_means_for_the_agents(engine: Engine) -> None:
    ask(engine, "asker", PROMPT)
    await_agent(engine, "asker")
    swap(engine, BETA)
    ask(engine, "asker", "Hello.")
    command = ListModels()
    engine.send(command)
    active, *others = command.done.result(TIMEOUT_S)
    assert active.is_active
    assert active.model_id == BETA
    assert active.load_s
    alpha = next(each for each in others if each.model_id == ALPHA)
    assert alpha.load_s
    assert not alpha.refusal
    impact = next(each for each in alpha.agents if each.agent_id == "asker")
    assert impact.num_warm_tokens > 100
    assert impact.prefill_s is not None
    swap(engine, ALPHA)


def test_a_shutdown_calls_a_change_off_that_still_drains(models: Path, tmp_path: Path) -> None:
    with started(models, tmp_path) as engine:
        turn = RunningTurn(engine, "long", "Tell me a story.", max_tokens=3000)
        while not turn.next_delta().token_ids:
            pass
        command = SwapModel(model=BETA)
        engine.send(command)
        while engine.snapshot.status is not EngineStatus.SWAPPING:
            time.sleep(0.002)
        engine.send(Shutdown(drain_s=0.0))
        with pytest.raises(DrainingError):
            command.done.result(TIMEOUT_S)
        assert engine.join(TIMEOUT_S)


def test_when_neither_can_be_loaded_the_engine_says_why(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(models, tmp_path) as engine:

        def fails(*_: object) -> None:
            raise RuntimeError("the device is gone")

        monkeypatch.setattr(loader, "_use_float32", fails)
        with pytest.raises(EngineFailedError, match=f"neither {BETA} .* nor {ALPHA}"):
            swap(engine, BETA)
        assert engine.join(TIMEOUT_S)
        assert engine.snapshot.status is EngineStatus.FAILED
        assert "the device is gone" in engine.snapshot.status_text


def test_without_a_disk_a_change_says_what_is_lost(models: Path) -> None:
    with started(models, None) as engine:
        ask(engine, "memory", PROMPT)
        swap(engine, BETA)
        assert engine.snapshot.agent("memory") is not None
        assert any("are lost" in event.text for event in engine.snapshot.events)


def test_nothing_of_the_old_model_stays_in_memory(models: Path, tmp_path: Path) -> None:
    with started(models, tmp_path) as engine:
        ask(engine, "a", PROMPT)
        core = weakref.ref(engine._host.core)
        swap(engine, BETA)
        gc.collect()
        assert core() is None


@pytest.mark.slow
def test_fifty_changes_leave_memory_as_it_was(models: Path, tmp_path: Path) -> None:
    with started(models, tmp_path) as engine:
        sizes: list[int] = []
        for _ in range(25):
            swap(engine, BETA)
            swap(engine, ALPHA)
            ask(engine, "a", PROMPT)
            sizes.append(psutil.Process().memory_info().rss)
        threads = [each for each in threading.enumerate() if each.name.startswith("stoker")]
        assert len(threads) <= 3
        assert sizes[-1] < sizes[4] * 1.03
        assert engine.snapshot.device_detail.memory_active_bytes


@pytest.mark.slow
def test_another_kv_format_is_a_swap_to_the_same_model(
    bundled_models_dir: Path, tmp_path: Path
) -> None:
    models = make_shelf(tmp_path / "models", bundled_models_dir)
    make_tiny(bundled_folder(models), models / GAMMA, head_dim=64)
    with started(models, tmp_path / "home", GAMMA) as engine:
        first = ask(engine, "writer", PROMPT)
        await_agent(engine, "writer")
        told = list_models(engine, kv_bits=8)[GAMMA]
        assert (told.is_active, told.kv_format) == (True, "8 bit, group 64")
        assert [agent.num_warm_tokens for agent in told.agents] == [0]
        as_it_is = list_models(engine)[GAMMA]
        assert as_it_is.agents == ()
        assert told.cache_bytes_per_1k_tokens is not None
        assert as_it_is.cache_bytes_per_1k_tokens is not None
        assert told.cache_bytes_per_1k_tokens < as_it_is.cache_bytes_per_1k_tokens

        change = SwapModel(model=GAMMA, kv_bits=8)
        engine.send(change)
        report = change.done.result(TIMEOUT_S)
        assert (report.from_model, report.to_model) == (GAMMA, GAMMA)
        row = engine.snapshot.model_detail
        assert row is not None
        assert row.kv_format == "8 bit, group 64"
        assert engine.snapshot.last_swap == report
        ask(engine, "writer", PROMPT)
        await_agent(engine, "writer")
        back = list_models(engine)[GAMMA]
        assert [agent.num_warm_tokens > 0 for agent in back.agents] == [True]

        swap(engine, GAMMA)
        again = ask(engine, "writer", PROMPT)
        assert says(again) == says(first)
        row = engine.snapshot.model_detail
        assert row is not None
        assert row.kv_format == "lossless"


def test_bits_that_there_are_not_are_refused(engine: Engine) -> None:
    for command in (SwapModel(model=BETA, kv_bits=3), ListModels(kv_bits=3)):
        engine.send(command)
        assert isinstance(command.done.exception(TIMEOUT_S), InvalidRequestError)
    assert engine.snapshot.model == ALPHA
