"""A block on disk that is spoilt under a sound checksum, on the real model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.cache.disk.records import KVSpace, TensorBytes
from engine.cache.disk.store import BlockStore
from engine.commands import Shutdown
from engine.engine import Engine
from engine.settings import DiskSettings
from tests.engine.real_engine import TIMEOUT_S, ask, make_engine

PROMPT = "The quick brown fox jumps over the lazy dog near the river bank. " * 50 + "Go on."
BUDGET_BYTES = 1 << 32


@contextmanager
def running(models: Path, home: Path) -> Iterator[Engine]:
    disk = DiskSettings(folder=home, budget_bytes=BUDGET_BYTES)
    engine = make_engine(models, models / "cache", disk=disk)
    try:
        yield engine
    finally:
        engine.send(Shutdown(drain_s=0.0))
        assert engine.join(TIMEOUT_S)


def space_of(engine: Engine) -> KVSpace:
    persistence = engine._host.core.persistence
    assert persistence is not None
    return persistence.tier.space


def await_saved(engine: Engine) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not all(0 < row.hot_bytes <= row.warm_bytes for row in engine.snapshot.agents):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def spoil_on_disk(folder: Path, space: KVSpace, index: int) -> None:
    """Writes one number that is not finite into a block, and a checksum that agrees with it."""
    store = BlockStore(folder, space, BUDGET_BYTES, lambda *_: None)
    (agent,) = store.open()
    (record,) = store.read_blocks(agent.block_hashes[index : index + 1])
    numbers = np.frombuffer(record.tensors[0].data, dtype=np.float32).copy()
    numbers[0] = np.nan
    first = TensorBytes(record.tensors[0].dtype, record.tensors[0].shape, numbers.tobytes())
    store.forget_blocks([record.block_hash])
    store.write_block(replace(record, tensors=(first, *record.tensors[1:])))
    store.save()
    store.close()


def test_a_spoilt_block_on_disk_costs_time_and_no_token(
    bundled_models_dir: Path, tmp_path: Path
) -> None:
    with running(bundled_models_dir, tmp_path) as engine:
        expected = ask(engine, "a", PROMPT)
        await_saved(engine)
        space = space_of(engine)
    spoil_on_disk(tmp_path, space, index=1)

    with running(bundled_models_dir, tmp_path) as engine:
        answer = ask(engine, "a", PROMPT)
        kinds = [event.kind for event in engine.snapshot.events]
        await_saved(engine)
        again = ask(engine, "a", PROMPT)
    assert answer.token_ids == again.token_ids == expected.token_ids
    assert answer.num_cached_tokens == 0
    assert again.num_cached_tokens > 512
    assert kinds.count("poison") == 2

    with running(bundled_models_dir, tmp_path) as engine:
        restarted = ask(engine, "a", PROMPT)
        kinds = [event.kind for event in engine.snapshot.events]
    assert restarted.token_ids == expected.token_ids
    assert restarted.num_cached_tokens > 512
    assert "poison" not in kinds
