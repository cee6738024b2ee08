"""Spoilt checkpoints, of a model that can be resumed only where its state was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.runtime.runner import DecodeRow
from tests.engine.counting_model import NOT_FINITE, continuation
from tests.engine.disk_core import DiskCore
from tests.engine.stateful_model import StatefulRunner
from tests.engine.turns import check, submit


class WatchedRunner(StatefulRunner):
    """Notices what is not finite in a cache."""

    def decode(self, rows: Sequence[DecodeRow]) -> list[int | None]:
        chosen = super().decode(rows)
        caches: list[Any] = [row.caches for row in rows]
        spoilt = [NOT_FINITE in cache.tokens for cache in caches]
        return [
            None if is_spoilt else token for token, is_spoilt in zip(chosen, spoilt, strict=True)
        ]


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


def ask(disk: DiskCore, tokens: list[int]) -> int:
    """The right answer, and how much of the prompt came from the cache."""
    turn = submit(disk.core, "a", tokens)
    disk.run()
    assert turn.token_ids == continuation(tokens, 8)
    check(disk.core)
    return turn.num_cached_tokens


def test_a_spoilt_checkpoint_is_forgotten_in_memory_and_on_disk(tmp_path: Path) -> None:
    disk = DiskCore(tmp_path, num_blocks=200, runner=WatchedRunner())
    tokens = prompt(1, 700)
    ask(disk, tokens)
    disk.await_saved("a")
    for block in disk.core.pool:
        if isinstance(block.payload, tuple) and block.payload[1] is not None:
            rows, state = block.payload
            block.payload = ((NOT_FINITE, *rows[1:]), state)

    assert ask(disk, tokens) == 0
    events = [event.text for event in disk.telemetry.events if event.kind == "poison"]
    assert len(events) == 2
    disk.await_saved("a")
    disk.close()

    again = DiskCore(tmp_path, num_blocks=200, runner=WatchedRunner())
    follow_up = [*tokens, *continuation(tokens, 8), *prompt(2, 20)]
    assert ask(again, follow_up) == 707, "the conversation goes on from its new checkpoint"
    assert not any(event.kind == "poison" for event in again.telemetry.events)
    again.close()
