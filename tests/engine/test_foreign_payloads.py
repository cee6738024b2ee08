"""Files that are sound to the last bit, and do not hold what this model keeps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.archive import ArchiveReader, archive_parts
from engine.cache.disk.records import DTYPE_BYTES, KVSpace, TensorBytes
from engine.cache.disk.store import BlockStore
from engine.request import FinishReason
from tests.engine.counting_model import CountingRunner, continuation
from tests.engine.disk_core import LIMIT_S, DiskCore
from tests.engine.stateful_model import StatefulRunner
from tests.engine.test_agent_actions import export, take_in
from tests.engine.test_layer_kinds import TinyEngine, numbers
from tests.engine.turns import Turn, check, submit

Tensors = tuple[TensorBytes, ...]
Change = Callable[[Tensors], Tensors]

PROMPT = [(7919 + i * 31) % 997 for i in range(700)]


def zeros(dtype: str, shape: tuple[int, ...]) -> TensorBytes:
    return TensorBytes(dtype, shape, bytes(DTYPE_BYTES[dtype] * math.prod(shape)))


def one_row(num_more: int) -> Change:
    def change(tensors: Tensors) -> Tensors:
        rows = tensors[0]
        return zeros(rows.dtype, (rows.shape[0] + num_more,)), *tensors[1:]

    return change


ROW_CHANGES: dict[str, Change] = {
    "a row less": one_row(-1),
    "a row more": one_row(1),
    "another type": lambda tensors: (replace(tensors[0], dtype="F32"), *tensors[1:]),
    "another rank": lambda tensors: (
        replace(tensors[0], shape=(1, *tensors[0].shape)),
        *tensors[1:],
    ),
    "no tensors": lambda _: (),
    "one tensor more": lambda tensors: (*tensors, tensors[0]),
}
STATE_CHANGES: dict[str, Change] = {
    "no state": lambda tensors: (tensors[0], zeros("U8", (0,))),
    "half a state": lambda tensors: (tensors[0], zeros("U8", (4,))),
}
CHANGES = {**ROW_CHANGES, **STATE_CHANGES}


def swap(folder: Path, space: KVSpace, name: bytes, change: Change) -> None:
    """Puts a file in the place of a block's: the right name, tokens and checksum, other tensors."""
    store = BlockStore(folder, space, 1 << 30, lambda *_: None)
    store.open()
    [record] = store.read_blocks([name])
    store.forget_blocks([name])
    assert store.write_block(replace(record, tensors=change(record.tensors)))
    store.save()
    store.close()


def ask(disk: DiskCore, tokens: list[int], agent: str = "a") -> Turn:
    turn = submit(disk.core, agent, tokens)
    disk.run()
    assert turn.finish_reason is FinishReason.MAX_TOKENS
    assert turn.token_ids == continuation(tokens, 8), "a wrong token"
    check(disk.core)
    return turn


def saved(folder: Path, runner: CountingRunner) -> tuple[tuple[bytes, ...], list[int]]:
    """A folder with an agent's turn: the names of its blocks, and how it goes on."""
    disk = DiskCore(folder, runner=runner)
    turn = ask(disk, PROMPT)
    disk.await_saved("a")
    table = disk.core.agents.get("a").saved
    assert table is not None
    disk.close()
    return table.block_hashes, [*PROMPT, *turn.token_ids, 5, 6]


def assert_one_event(disk: DiskCore, name: bytes) -> None:
    """One event names the file and says what is wrong; one file was counted."""
    deadline_s = time.monotonic() + LIMIT_S
    while not any(event.kind == "quarantine" for event in disk.telemetry.events):
        assert time.monotonic() < deadline_s
        disk.do_posted(0.02)
    events = [event for event in disk.telemetry.events if event.level != "info"]
    assert [(e.kind, e.level) for e in events] == [("quarantine", "warning")]
    assert events[0].text.startswith(f"{name.hex()[:12]} set aside: it")
    assert disk.persistence.tier.stats.num_quarantined == 1


def assert_gone(folder: Path, disk: DiskCore, longer: list[int], runner: CountingRunner) -> None:
    """What was wrong lies in quarantine; what took its place is right after another restart."""
    disk.await_saved("a")
    disk.close()
    assert len(list((folder / "quarantine").iterdir())) == 1
    again = DiskCore(folder, runner=runner)
    assert ask(again, longer).num_cached_tokens == len(longer) - 1
    assert again.persistence.tier.stats.num_quarantined == 0
    again.close()


CASES = [
    *(
        (CountingRunner, index, change, index * BLOCK_TOKENS)
        for index in range(3)
        for change in ROW_CHANGES
    ),
    # A checkpoint is of no use without its chain; without the last one there is an earlier one.
    *((StatefulRunner, index, change, 0) for index in range(2) for change in ROW_CHANGES),
    *((StatefulRunner, 2, change, 699) for change in (*ROW_CHANGES, *STATE_CHANGES)),
]


@pytest.mark.parametrize(("make_runner", "index", "change", "num_cached"), CASES)
def test_a_block_file_that_holds_something_else_is_a_miss(
    make_runner: type[CountingRunner], index: int, change: str, num_cached: int, tmp_path: Path
) -> None:
    names, longer = saved(tmp_path, make_runner())
    space = KVSpace("counting", make_runner().spec.kv_format)
    swap(tmp_path, space, names[index], CHANGES[change])

    disk = DiskCore(tmp_path, runner=make_runner())
    turn = ask(disk, longer)

    assert turn.num_cached_tokens == num_cached
    assert_one_event(disk, names[index])
    assert_gone(tmp_path, disk, longer, make_runner())


@pytest.mark.parametrize("change", ROW_CHANGES)
def test_warming_ends_before_what_is_something_else(change: str, tmp_path: Path) -> None:
    names, longer = saved(tmp_path, CountingRunner())
    swap(tmp_path, KVSpace("counting", "tokens"), names[1], CHANGES[change])
    disk = DiskCore(tmp_path)
    warmed: list[int] = []

    disk.persistence.ahead.warm(disk.core.agents.get("a"), warmed.append)
    while not warmed:
        disk.do_posted(0.05)

    assert warmed == [BLOCK_TOKENS]
    check(disk.core)
    assert ask(disk, longer).num_cached_tokens == BLOCK_TOKENS
    assert_one_event(disk, names[1])
    assert_gone(tmp_path, disk, longer, CountingRunner())


@pytest.mark.parametrize(("make_runner", "index", "change", "num_cached"), CASES)
def test_an_archive_that_holds_something_else_is_a_miss(
    make_runner: type[CountingRunner], index: int, change: str, num_cached: int, tmp_path: Path
) -> None:
    home, path = DiskCore(tmp_path / "home", runner=make_runner()), tmp_path / "a.stoker-agent"
    turn = ask(home, PROMPT)
    longer = [*PROMPT, *turn.token_ids, 5, 6]
    export(home, "a", path)
    home.close()
    name = rewrite(path, index, CHANGES[change])

    disk = DiskCore(tmp_path / "other", runner=make_runner())
    assert take_in(disk, path) == "a"

    assert ask(disk, longer).num_cached_tokens == num_cached
    assert_one_event(disk, name)
    assert_gone(tmp_path / "other", disk, longer, make_runner())


def rewrite(path: Path, index: int, change: Change) -> bytes:
    """Makes another archive of one: all of it is in order, but for a block's tensors."""
    with path.open("rb") as file:
        reader = ArchiveReader(file, path.stat().st_size)
        blocks = list(reader.blocks())
    blocks[index] = replace(blocks[index], tensors=change(blocks[index].tensors))
    parts = list(archive_parts(reader.agent, blocks))
    path.write_bytes(b"".join(bytes(piece) for part in parts for piece in part))
    return blocks[index].block_hash


def turned(tensors: Tensors, index: int) -> Tensors:
    """One tensor with two axes the other way round: as many bytes, of the same type and rank."""
    tensor = tensors[index]
    shape = list(tensor.shape)
    shape[1], shape[-1] = shape[-1], shape[1]
    assert tuple(shape) != tensor.shape
    return (*tensors[:index], replace(tensor, shape=tuple(shape)), *tensors[index + 1 :])


def short_window(tensors: Tensors) -> Tensors:
    """The first layer's window with a row less; right for any earlier place."""
    shapes = [(1, 2, tensor.shape[2] - 1, 16) for tensor in tensors[:2]]
    return (*(zeros("F32", shape) for shape in shapes), *tensors[2:])


REAL_CASES: list[tuple[str, int, Change]] = [
    ("qwen3", 0, lambda tensors: turned(tensors, 0)),
    ("qwen3", 1, lambda tensors: turned(tensors, 3)),
    ("gemma3_text", 0, lambda tensors: turned(tensors, 11)),
    ("gemma3_text", 1, lambda tensors: turned(tensors, 0)),
    ("gemma3_text", 1, short_window),
    ("mamba2", 1, lambda tensors: turned(tensors, 0)),
    ("mamba2", 1, lambda tensors: turned(tensors, 1)),
]


@pytest.mark.parametrize(("name", "index", "change"), REAL_CASES)
def test_a_model_goes_on_with_the_right_tokens(
    name: str, index: int, change: Change, tmp_path: Path
) -> None:
    engine = TinyEngine(tmp_path, name)
    prompt = numbers(400, 1)
    [first] = engine.ask(a=prompt)
    engine.disk_core.await_saved("a")
    table = engine.disk_core.core.agents.get("a").saved
    assert table is not None
    space = engine.disk_core.persistence.tier.space
    block_name = table.block_hashes[index]

    engine.restart("a", meanwhile=lambda: swap(tmp_path, space, block_name, change))
    engine.ask(a=[*prompt, *first.token_ids, 5])

    assert_one_event(engine.disk_core, block_name)
    engine.disk_core.close()


def test_what_follows_blocks_in_memory_is_judged_by_its_place(tmp_path: Path) -> None:
    """How long a window is depends on all that is before it, wherever that comes from."""
    engine = TinyEngine(tmp_path, "gemma3_text", sliding_window=500)
    prompt = numbers(700, 1)
    [first] = engine.ask(a=prompt)
    engine.restart("a")
    engine.ask(b=[*prompt[:300], 5])
    assert len(engine.disk_core.core.agents.get("b").block_table) == 2

    [turn] = engine.ask(a=[*prompt, *first.token_ids, 5])

    assert turn.num_cached_tokens == 707
    assert [e.text for e in engine.disk_core.telemetry.events if e.level != "info"] == []
    engine.disk_core.close()
