"""The last tokens of a cache are taken back, and what was cut out of it before stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.cache.block import BLOCK_TOKENS
from engine.errors import EngineFailedError
from engine.runtime.layer_caches import leaf_caches
from engine.runtime.layer_codecs import detached
from tests.runtime.test_layer_kinds import Model, prompt
from tests.runtime.tiny_models import ARCHITECTURES, NEED_CHECKPOINTS

NUM_TOKENS = 700
PLACES = (100, BLOCK_TOKENS, 690)


def rows(payloads: list[Any]) -> list[bytes]:
    return [np.array(array).tobytes() for payload in payloads for part in payload for array in part]


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(NEED_CHECKPOINTS)))
@pytest.mark.parametrize("num_kept_tokens", PLACES)
def test_what_is_written_after_a_trim_is_what_it_would_be_without(
    name: str, num_kept_tokens: int
) -> None:
    model = Model(name)
    tokens, other = prompt(NUM_TOKENS), prompt(60, seed=2)
    caches = model.prefilled(tokens)
    kept = model.keep(caches, NUM_TOKENS)
    before = rows(kept.payloads)

    model.runner.trim(caches, num_kept_tokens)
    model.prefill(caches, other)
    # Put together from the blocks that were cut out before.
    num_blocks, num_rest = divmod(num_kept_tokens, BLOCK_TOKENS)
    used = [*kept.payloads[: num_blocks + (num_rest > 0)]]
    expected = model.runner.restore(used, num_rest or BLOCK_TOKENS, 800)
    model.prefill(expected, other)

    assert rows(kept.payloads) == before
    tokens_after, logits = model.decode(caches, 5)
    expected_tokens, expected_logits = model.decode(expected, 5)
    assert tokens_after == expected_tokens
    assert np.array_equal(logits, expected_logits)


@pytest.mark.parametrize("name", sorted(NEED_CHECKPOINTS))
def test_a_window_or_a_state_is_never_trimmed(name: str) -> None:
    model = Model(name)
    caches = model.prefilled(prompt(100))
    with pytest.raises(EngineFailedError):
        model.runner.trim(caches, 50)


def test_nothing_can_be_trimmed_to_more_than_there_is() -> None:
    model = Model("llama")
    caches = model.prefilled(prompt(100))
    with pytest.raises(EngineFailedError, match="100"):
        model.runner.trim(caches, 101)


def test_a_cut_of_a_whole_buffer_is_a_copy() -> None:
    model = Model("llama")
    caches = model.prefilled(prompt(BLOCK_TOKENS), slice_tokens=BLOCK_TOKENS)
    block = model.runner.cut_block(caches, 0)
    before = rows([block])
    for leaf in leaf_caches(caches):
        np.array(leaf.keys, copy=False)[...] = 0
    assert rows([block]) == before
    [copy] = detached(block[0][0])
    assert np.array_equal(np.array(copy), np.array(block[0][0]))
