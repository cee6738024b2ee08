"""The scripted engine changes its model as an engine does: part by part, and back on failure."""

from __future__ import annotations

from engine.agent_commands import WarmAgent
from engine.commands import Shutdown
from engine.errors import (
    DrainingError,
    ModelLoadError,
    ModelLoadingError,
    ModelNotFoundError,
    SwapInProgressError,
)
from engine.model_commands import ListModels, SwapModel
from engine.scripted import ScriptedEngine
from engine.scripted_scenes import SCENES
from engine.scripted_still import StillScene
from engine.snapshot import (
    AgentStatus,
    EngineSnapshot,
    EngineStatus,
    MissCause,
    ModelChoice,
    SwapPhase,
)
from tests.dashboard.test_scripted_engine import Clock, busy, demo

SMALL, LARGER, QWEN = "SmolLM2-135M-Instruct", "SmolLM2-360M-Instruct-8bit", "Qwen3-0.6B-4bit"
TORN, FOREIGN = "gemma-3-1b-it-4bit", "RWKV-x060-World-1B6"


def models(engine: ScriptedEngine) -> dict[str, ModelChoice]:
    command = ListModels()
    engine.send(command)
    return {choice.model_id: choice for choice in command.done.result(0)}


def play(
    engine: ScriptedEngine, clock: Clock, command: SwapModel, seconds: float = 60.0
) -> list[EngineSnapshot]:
    """Sends a swap and looks on, ten times a second, until it is answered."""
    engine.send(command)
    seen = []
    for _ in range(round(seconds * 10)):
        clock.now_s += 0.1
        seen.append(engine.snapshot)
        if command.done.done():
            return seen
    raise AssertionError("it was never answered")


def test_a_swap_goes_through_its_parts_and_serves_the_other_model() -> None:
    engine, clock = demo()
    clock.now_s = 60.0
    before = engine.snapshot
    assert before.batch.num_running > 0
    command = SwapModel(model=LARGER)
    seen = play(engine, clock, command)
    swaps = [snapshot.swap for snapshot in seen if snapshot.swap is not None]
    phases = list(dict.fromkeys(swap.phase for swap in swaps))
    assert phases == [
        SwapPhase.DRAINING,
        SwapPhase.SAVING,
        SwapPhase.UNLOADING,
        SwapPhase.LOADING,
        SwapPhase.CHECKING,
        SwapPhase.REBUILDING,
    ]
    shares = [swap.progress for swap in swaps]
    assert shares == sorted(shares)
    assert swaps[0].eta_s is None
    etas = [swap.eta_s for swap in swaps if swap.phase is SwapPhase.LOADING]
    assert all(eta is not None for eta in etas)
    assert swaps[-1].num_waiting > 0
    assert {snapshot.status for snapshot in seen[:-1]} == {EngineStatus.SWAPPING}
    after = seen[-1]
    assert (after.status, after.swap, after.model) == (EngineStatus.SERVING, None, LARGER)
    report = command.done.result(0)
    assert (report.from_model, report.to_model) == (SMALL, LARGER)
    parts = report.parts
    assert parts.load_s >= 5.2
    assert abs(parts.total_s - sum(_parts(parts))) < 0.001
    assert after.last_swap == report
    assert {row.agent_id for row in before.agents} <= {row.agent_id for row in after.agents}


def _parts(parts: object) -> list[float]:
    names = ("drain_s", "save_s", "unload_s", "load_s", "check_s", "rebuild_s")
    return [getattr(parts, name) for name in names]


def test_while_a_model_is_read_nothing_is_in_memory_and_requests_wait() -> None:
    engine, clock = demo()
    clock.now_s = 60.0
    seen = play(engine, clock, SwapModel(model=QWEN))
    loading = [each for each in seen if each.swap and each.swap.phase is SwapPhase.LOADING]
    for snapshot in loading:
        assert snapshot.model_detail is None
        assert snapshot.pool.num_total_blocks == 0
        assert {row.hot_bytes for row in snapshot.agents} == {0}
        assert snapshot.batch.num_running == 0
    assert loading[-1].device_detail.memory_used_bytes < seen[0].device_detail.memory_used_bytes
    assert loading[-1].batch.num_waiting > 0


def test_the_preview_comes_true_and_swapping_back_finds_caches_warm() -> None:
    engine, clock = demo()
    clock.now_s = 100.0
    choice = models(engine)[LARGER]
    foreseen = {each.agent_id: each.num_warm_tokens for each in choice.agents}
    assert any(foreseen.values())
    assert not all(foreseen.values())
    play(engine, clock, SwapModel(model=LARGER))
    after = engine.snapshot
    for row in after.agents:
        assert (row.warm_bytes > 0) == (foreseen.get(row.agent_id, 0) > 0)
    back = models(engine)[SMALL]
    assert sum(each.num_warm_tokens for each in back.agents) > 8000
    clock.now_s += 120.0
    causes = {row.miss.cause for row in engine.snapshot.agents}
    assert MissCause.OTHER_MODEL in causes
    assert engine.snapshot.status is EngineStatus.SERVING
    assert engine.snapshot.batch.num_running > 0


def test_running_turns_are_preempted_at_the_deadline() -> None:
    engine, clock = demo()
    clock.now_s = 60.0
    assert engine.snapshot.batch.num_running > 0
    command = SwapModel(model=LARGER, drain_s=0.0)
    seen = play(engine, clock, command)
    assert seen[0].batch.num_running == 0
    assert command.done.result(0).parts.drain_s <= 0.11


def test_a_model_that_cannot_be_read_brings_the_previous_one_back() -> None:
    engine, clock = demo()
    clock.now_s = 60.0
    command = SwapModel(model=TORN)
    seen = play(engine, clock, command)
    phases = [snapshot.swap.phase for snapshot in seen if snapshot.swap]
    assert phases[-1] is SwapPhase.RESTORING
    error = command.done.exception(0)
    assert isinstance(error, ModelLoadError)
    assert f"{SMALL} serves again" in str(error)
    after = engine.snapshot
    assert (after.status, after.model) == (EngineStatus.SERVING, SMALL)
    assert after.last_swap is None
    assert any(row.warm_bytes for row in after.agents)


def test_what_cannot_be_swapped_is_refused_at_once() -> None:
    engine, clock = demo()
    early = SwapModel(model=QWEN)
    engine.send(early)
    assert isinstance(early.done.exception(0), ModelLoadingError)
    clock.now_s = 60.0
    unknown, refused = SwapModel(model="nothing"), SwapModel(model=FOREIGN)
    first, second = SwapModel(model=QWEN), SwapModel(model=LARGER)
    for command in (unknown, refused, first, second):
        engine.send(command)
    assert isinstance(unknown.done.exception(0), ModelNotFoundError)
    assert "rwkv6" in str(refused.done.exception(0))
    assert isinstance(second.done.exception(0), SwapInProgressError)
    assert not first.done.done()
    engine.send(Shutdown(drain_s=0.0))
    assert isinstance(first.done.exception(0), DrainingError)


def test_the_list_tells_what_is_active_refused_and_never_ran() -> None:
    listed = models(busy())
    assert next(iter(listed)) == SMALL
    assert listed[SMALL].is_active
    assert listed[SMALL].agents == ()
    assert listed[FOREIGN].refusal
    assert {each.prefill_s for each in listed[QWEN].agents} == {None}
    costs = {each.agent_id: each for each in listed[LARGER].agents}
    assert costs["review-bot"].num_warm_tokens == 6656
    assert costs["codex 7f31"].num_warm_tokens == 0
    assert round(costs["codex 7f31"].prefill_s or 0.0, 1) == 3.7


def test_a_still_scene_swaps_at_once() -> None:
    engine = busy()
    command, failing = SwapModel(model=LARGER), SwapModel(model=TORN)
    engine.send(failing)
    assert f"{SMALL} serves again" in str(failing.done.exception(0))
    engine.send(command)
    assert command.done.result(0).to_model == LARGER
    shown = engine.snapshot
    assert shown.model == LARGER
    row = shown.agent("review-bot")
    assert row is not None
    assert (row.status, row.hot_bytes) == (AgentStatus.WARM, 0)
    warm = WarmAgent(agent_id="review-bot")
    engine.send(warm)
    assert warm.done.result(0) == 6800


def test_the_scene_of_a_swap_takes_no_other() -> None:
    engine = ScriptedEngine(StillScene(SCENES["swapping"]()), clock=Clock())
    engine.start()
    command = SwapModel(model=LARGER)
    engine.send(command)
    error = command.done.exception(0)
    assert isinstance(error, SwapInProgressError)
    assert error.retry_after_s == 4.1
