"""Models whose attention reads its cache's rows itself are batched too, and are never wrong."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from engine.runtime import ragged, split_attention
from engine.runtime.layer_caches import LayerCaches, make_layer_caches
from engine.runtime.ragged import ragged_layers
from engine.runtime.runner import ModelRunner
from engine.runtime.selftest import fit_for_batches, self_test
from tests.runtime.test_layer_kinds import Model, prompt
from tests.runtime.tiny_models import ARCHITECTURES, SPLIT_ATTENTION, make_tiny_model

LENGTHS = (5, 23, 300)


@pytest.mark.parametrize("name", SPLIT_ATTENTION)
def test_they_fail_the_self_test_until_attention_is_split(name: str) -> None:
    model = make_tiny_model(name)
    ragged.install()
    runner = ModelRunner(model)
    assert not self_test(model, runner, 100).batches

    result = fit_for_batches(model, runner, 100)

    assert result.batches
    assert result.restores
    assert result.reasons == ("batching: attention runs sequence by sequence within a batch",)


@pytest.mark.parametrize("name", SPLIT_ATTENTION)
def test_a_batch_of_mixed_lengths_equals_each_alone(name: str) -> None:
    model = make_tiny_model(name)
    ragged.install()
    assert split_attention.install(model)
    assert split_attention.install(model)
    alone: list[LayerCaches] = []
    together: list[LayerCaches] = []
    for length in LENGTHS:
        for caches in (alone, together):
            cache = make_layer_caches(model)
            mx.eval(model(mx.array([prompt(length)]), cache=cache))
            caches.append(cache)
    for token in (11, 12, 13, 14):
        batch = model(mx.array([[token]] * 3), cache=ragged_layers(together))[:, -1]
        for row, cache in enumerate(alone):
            single = model(mx.array([[token]]), cache=cache)[0, -1]
            np.testing.assert_allclose(np.array(batch[row]), np.array(single), atol=1e-4)


@pytest.mark.parametrize("name", SPLIT_ATTENTION)
def test_they_come_back_from_blocks(name: str) -> None:
    model = Model(name)
    caches = model.prefilled(prompt(300))
    kept = model.through_bytes(model.keep(caches, 300))

    tokens, logits = model.decode(model.restored(kept), 7)

    expected_tokens, expected = model.decode(caches, 7)
    np.testing.assert_array_equal(logits, expected)
    assert tokens == expected_tokens


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_that_batch_as_they_are_keep_their_attention(name: str) -> None:
    model = make_tiny_model(name)
    ragged.install()
    result = fit_for_batches(model, ModelRunner(model), 100)
    assert result.batches
    assert not any(
        getattr(type(module).__call__, "splits_ragged", False) for module in model.modules()
    )
