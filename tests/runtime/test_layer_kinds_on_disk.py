"""Blocks and checkpoints of every kind of layer are read back from files and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.cache.block import BLOCK_TOKENS, block_hash
from engine.cache.disk.records import BlockRecord, KVSpace
from tests.cache.disk.blocks import opened, read, write_all
from tests.runtime.test_layer_kinds import Kept, Model, prompt
from tests.runtime.tiny_models import ARCHITECTURES


def records_of(model: Model, kept: Kept, tokens: list[int], space: KVSpace) -> list[BlockRecord]:
    records: list[BlockRecord] = []
    parent = space.root_hash
    for index, payload in enumerate(kept.payloads):
        token_ids = tuple(tokens[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS])
        name = block_hash(parent, token_ids)
        records.append(
            BlockRecord(
                block_hash=name,
                parent_hash=parent,
                token_ids=token_ids,
                tensors=model.runner.to_bytes(payload),
            )
        )
        parent = name
    return records


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_sequence_resumes_from_files_after_a_restart(name: str, tmp_path: Path) -> None:
    model = Model(name)
    tokens = prompt(2 * BLOCK_TOKENS + 40)
    caches = model.prefilled(tokens)
    kept = model.keep(caches, len(tokens))
    space = KVSpace("f" * 64, model.runner.spec.kv_format)
    records = records_of(model, kept, tokens, space)
    with opened(tmp_path, space=space) as (store, _):
        write_all(store, records)

    with opened(tmp_path, space=space) as (store, _):
        found = read(store, records)
    payloads = [
        model.runner.from_bytes(record.tensors, span)
        for record, span in zip(found, kept.spans, strict=True)
    ]
    restored = model.restored(Kept(payloads[:-1], payloads[-1], kept.num_tail_tokens))

    answer, logits = model.decode(restored, 7)
    expected_answer, expected = model.decode(caches, 7)
    np.testing.assert_array_equal(logits, expected)
    assert answer == expected_answer
