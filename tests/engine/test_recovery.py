"""Numbers that are not finite: a spoilt cache is found out and forgotten; a failing model fails."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.cache.block import KVBlock
from engine.cache.disk.records import TensorBytes
from engine.cache.payload_span import PayloadSpan
from engine.errors import EngineFailedError
from engine.request import FinishReason
from engine.runtime.finite import all_finite
from tests.engine.counting_model import NOT_FINITE, CountingRunner, continuation
from tests.engine.disk_core import DiskCore
from tests.engine.turns import Turn, check, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


class FloatRunner(CountingRunner):
    """Writes its caches as numbers, so that one that is not finite can be seen in the bytes."""

    def to_bytes(self, payload: Sequence[int]) -> tuple[TensorBytes, ...]:
        numbers = [math.nan if token == NOT_FINITE else float(token) for token in payload]
        return (TensorBytes("F32", (len(payload),), array("f", numbers).tobytes()),)

    def from_bytes(self, tensors: Sequence[TensorBytes], span: PayloadSpan) -> tuple[int, ...]:
        self._check(tensors, [("F32", (span.num_tokens,))])
        numbers = memoryview(tensors[0].data).cast("B").cast("f")
        return tuple(NOT_FINITE if math.isnan(number) else int(number) for number in numbers)


@pytest.fixture(params=[CountingRunner, FloatRunner], ids=["unseen", "seen"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> DiskCore:
    """A core whose spoilt blocks can, or cannot, be told by looking at them."""
    return DiskCore(tmp_path, num_blocks=200, runner=request.param())


def restarted(disk: DiskCore, folder: Path) -> DiskCore:
    disk.close()
    return DiskCore(folder, num_blocks=200, runner=type(disk.runner)())


def ask(disk: DiskCore, agent: str, tokens: list[int], max_tokens: int = 8) -> Turn:
    turn = submit(disk.core, agent, tokens, max_tokens=max_tokens)
    disk.run()
    assert turn.token_ids == continuation(tokens, max_tokens), "a wrong token"
    assert turn.finish_reason is FinishReason.MAX_TOKENS
    check(disk.core)
    # What blocks hold is tested here: the next turn is to be put together from them.
    disk.core.agents.standing.drop_all()
    return turn


def spoil(block: KVBlock) -> None:
    assert isinstance(block.payload, tuple)
    block.payload = (NOT_FINITE, *block.payload[1:])


def events(disk: DiskCore) -> list[str]:
    return [event.text for event in disk.telemetry.events if event.kind == "poison"]


def warm(disk: DiskCore, agent: str, tokens: list[int]) -> None:
    """A turn that was saved."""
    ask(disk, agent, tokens)
    disk.await_saved(agent)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_spoilt_block_is_found_out_and_the_turn_is_right(disk: DiskCore, index: int) -> None:
    tokens = prompt(1, 700)
    warm(disk, "a", tokens)
    spoil(disk.core.agents.get("a").block_table[index])
    disk.runner.num_prefilled = 0

    turn = ask(disk, "a", tokens)

    assert disk.runner.num_prefilled >= 699, "all of it was computed again"
    assert turn.deltas[-1].usage.num_cached_tokens == 0
    assert "computed again without the cache" in events(disk)[0]
    assert "forgotten, in memory and on disk" in events(disk)[1]
    assert ask(disk, "a", tokens).num_cached_tokens == 699, "the new cache is kept"
    assert len(events(disk)) == 2
    disk.close()


def test_what_was_spoilt_is_gone_from_the_disk_too(disk: DiskCore, tmp_path: Path) -> None:
    """Its checksum was right: what was written was spoilt already."""
    tokens = prompt(1, 700)
    ask(disk, "a", tokens)
    disk.core.agents.get("a")
    disk = spoilt_on_disk(disk, tmp_path, tokens)

    turn = ask(disk, "a", tokens)
    assert turn.num_cached_tokens == 0
    assert len(events(disk)) == 2
    disk.await_saved("a")

    disk = restarted(disk, tmp_path)
    assert ask(disk, "a", tokens).num_cached_tokens == 699
    assert events(disk) == []
    disk.close()


def spoilt_on_disk(disk: DiskCore, folder: Path, tokens: list[int]) -> DiskCore:
    """A restart onto a disk where a block of these tokens is spoilt."""
    disk.await_saved("a")
    table = disk.core.agents.get("a").block_table
    tier = disk.persistence.tier
    tier.forget_blocks([block.block_hash for block in table if block.block_hash])
    spoil(table[1])
    disk.persistence.keep_agent(disk.core.agents.get("a"))
    disk.await_saved("a")
    disk = restarted(disk, folder)
    assert disk.core.agents.get("a").saved is not None
    return disk


def test_others_in_the_batch_are_untouched(disk: DiskCore) -> None:
    shared = prompt(1, 600)
    warm(disk, "a", [*shared, *prompt(2, 300)])
    warm(disk, "b", [*shared, *prompt(3, 300)])
    spoil(disk.core.agents.get("a").block_table[2])
    tokens = [*shared, *prompt(3, 300)]
    running = [submit(disk.core, "b", tokens, max_tokens=40)]
    running.append(submit(disk.core, "new", prompt(9, 300), max_tokens=40))
    for _ in range(5):
        disk.do_posted()
        disk.core.step()
    bad = submit(disk.core, "a", [*shared, *prompt(2, 300)])
    disk.run()
    for turn, num_tokens in ((running[0], 40), (running[1], 40), (bad, 8)):
        assert turn.token_ids == continuation(turn.prompt, num_tokens)
    assert running[0].deltas[-1].usage.num_cached_tokens == 899
    check(disk.core)
    for agent, seed in (("a", 2), ("b", 3)):
        again = ask(disk, agent, [*shared, *prompt(seed, 300)])
        assert again.num_cached_tokens == 899, "both have a whole cache again"
    assert len(events(disk)) == 2
    disk.close()


def test_everybody_who_shares_a_spoilt_beginning_gets_a_sound_one(
    disk: DiskCore, tmp_path: Path
) -> None:
    shared = prompt(1, 600)
    prompts = [[*shared, *prompt(seed, 300)] for seed in (2, 3, 4)]
    for number, tokens in enumerate(prompts):
        warm(disk, f"agent-{number}", tokens)
    spoil(disk.core.agents.get("agent-0").block_table[0])
    together = [submit(disk.core, f"agent-{i}", tokens) for i, tokens in enumerate(prompts)]
    disk.run()
    for turn in together:
        assert turn.token_ids == continuation(turn.prompt, 8)
    check(disk.core)
    for number, tokens in enumerate(prompts):
        assert ask(disk, f"agent-{number}", tokens).num_cached_tokens == 899
        disk.await_saved(f"agent-{number}")
    disk = restarted(disk, tmp_path)
    for number, tokens in enumerate(prompts):
        assert ask(disk, f"agent-{number}", tokens).num_cached_tokens == 899
    assert events(disk) == []
    disk.close()


def test_only_what_is_spoilt_for_certain_and_what_follows_goes(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path, num_blocks=200, runner=FloatRunner())
    tokens = prompt(1, 1000)
    warm(disk, "a", tokens)
    table = disk.core.agents.get("a").block_table
    names = [block.block_hash for block in table if block.block_hash]
    spoil(table[1])
    turn = submit(disk.core, "b", [*tokens[:900], 5])
    while not events(disk):
        disk.do_posted()
        disk.core.step()
    while len(events(disk)) < 2:
        disk.core.step()
    tier = disk.persistence.tier
    assert [disk.core.pool.lookup(name) is not None for name in names] == [True, False, False]
    assert [tier.can_read(name) for name in names] == [True, False, False]
    assert not disk.core.agents.get("a").block_table, "its table held a spoilt block"
    disk.run()
    assert turn.token_ids == continuation(turn.prompt, 8)
    disk.close()


def test_a_model_that_fails_fails_the_turn_and_keeps_nothing(
    disk: DiskCore, tmp_path: Path
) -> None:
    tokens = prompt(1, 700)
    disk.runner.poisoned = {continuation(tokens, 3)[2]}
    turn = submit(disk.core, "a", tokens)
    disk.run()
    assert turn.finish_reason is FinishReason.ERROR
    error = turn.deltas[-1].error
    assert isinstance(error, EngineFailedError)
    assert "change the prompt or the model" in str(error)
    assert events(disk) == [], "nothing came from a cache"
    assert not disk.core.agents.get("a").block_table
    assert disk.core.pool.num_referenced_blocks == disk.core.pool.num_cached_blocks == 0
    check(disk.core)
    disk = restarted(disk, tmp_path)
    assert ask(disk, "a", tokens).num_cached_tokens == 0
    disk.close()


def test_a_model_that_fails_does_not_cost_others_what_they_share(disk: DiskCore) -> None:
    shared = prompt(1, 600)
    warm(disk, "good", shared)
    tokens = [*shared, *prompt(2, 300)]
    disk.runner.poisoned = {continuation(tokens, 1)[0]}
    for _ in range(2):
        turn = submit(disk.core, "bad", tokens)
        disk.run()
        assert turn.finish_reason is FinishReason.ERROR
    assert len(events(disk)) == 2, "it was computed again each time, and nothing was forgotten"
    disk.runner.poisoned = set()
    assert ask(disk, "good", shared).num_cached_tokens == 599
    assert ask(disk, "bad", tokens).num_cached_tokens == 512
    disk.close()


def test_a_turn_that_is_aborted_while_it_is_computed_again_keeps_nothing(disk: DiskCore) -> None:
    tokens = prompt(1, 3000)
    warm(disk, "a", tokens)
    spoil(disk.core.agents.get("a").block_table[0])
    turn = submit(disk.core, "a", tokens)
    while not events(disk):
        disk.do_posted()
        disk.core.step()
    disk.core.step()
    disk.core.abort(turn.request_id, "client went away")
    assert turn.finish_reason is FinishReason.ABORTED
    ask(disk, "a", tokens)
    assert len(events(disk)) == 3, "what was spoilt was still there"
    disk.close()


def test_a_reply_goes_on_where_the_numbers_failed(disk: DiskCore) -> None:
    """Tokens that were sent stay; what follows is computed without the cache."""
    tokens = prompt(1, 700)
    warm(disk, "a", tokens)
    turn = submit(disk.core, "a", tokens, max_tokens=20)
    while len(turn.token_ids) < 5:
        disk.do_posted()
        disk.core.step()
    disk.core.scheduler.running[0].caches[3] = NOT_FINITE
    disk.run()
    assert turn.token_ids == continuation(tokens, 20)
    disk.close()


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_the_bytes_tell(dtype: str, bad: float) -> None:
    def tensor(*numbers: float) -> TensorBytes:
        if dtype == "BF16":
            halves = [array("f", [number]).tobytes()[2:] for number in numbers]
            return TensorBytes(dtype, (len(numbers),), b"".join(halves))
        code = {"F16": "e", "F32": "f", "F64": "d"}[dtype]
        return TensorBytes(dtype, (len(numbers),), struct.pack(f"<{len(numbers)}{code}", *numbers))

    assert all_finite((tensor(0.0, -1.5, 65504.0), tensor()))
    assert not all_finite((tensor(1.0), tensor(0.0, bad, 2.0)))


def test_numbers_that_are_no_floats_are_always_finite() -> None:
    assert all_finite((TensorBytes("U32", (1,), b"\xff\xff\xff\xff"),))


def test_a_spoilt_cache_is_not_kept_for_being_longer(disk: DiskCore) -> None:
    tokens = prompt(1, 200)
    warm(disk, "a", tokens)
    spoil(disk.core.agents.get("a").block_table[0])
    ask(disk, "a", tokens, max_tokens=3)
    assert len(events(disk)) == 2
    assert ask(disk, "a", tokens).num_cached_tokens == 199
    assert len(events(disk)) == 2
    disk.close()
