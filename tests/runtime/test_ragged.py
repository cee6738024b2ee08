"""Ragged batches give what one sequence at a time gives, on every kind of layer."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.runtime import kv, ragged
from engine.runtime.layer_caches import make_layer_caches
from engine.runtime.ragged import ragged_layers
from engine.runtime.runner import ModelRunner
from engine.runtime.selftest import self_test
from tests.runtime.tiny_models import ARCHITECTURES, make_tiny_model

LENGTHS = (5, 23, 40)


def tiny_model(architecture: str) -> Any:
    """A small model with random weights that knows ragged layers."""
    model = make_tiny_model(architecture)
    ragged.install()
    return model


def prompt(length: int) -> list[int]:
    return [(length * 7 + i * 3) % 100 for i in range(length)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_of_mixed_lengths_equals_each_alone(name: str) -> None:
    model = tiny_model(name)
    alone: list[Any] = []
    together: list[Any] = []
    for length in LENGTHS:
        for caches in (alone, together):
            cache = make_layer_caches(model)
            mx.eval(model(mx.array([prompt(length)]), cache=cache))
            caches.append(cache)
    for token in (11, 12, 13, 14):
        batch = model(mx.array([[token]] * 3), cache=ragged_layers(together))[:, -1]
        for row, cache in enumerate(alone):
            single = model(mx.array([[token]]), cache=cache)[0, -1]
            difference = np.abs(np.array(batch[row]) - np.array(single)).max()
            assert difference < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_sequence_may_leave_and_another_join_between_steps(name: str) -> None:
    model = tiny_model(name)
    caches = []
    for length in LENGTHS:
        cache = make_layer_caches(model)
        mx.eval(model(mx.array([prompt(length)]), cache=cache))
        caches.append(cache)
    reference = make_layer_caches(model)
    mx.eval(model(mx.array([prompt(LENGTHS[1])]), cache=reference))
    for token, members in ((11, [0, 1]), (12, [1, 2]), (13, [1]), (14, [2, 1, 0])):
        layers = ragged_layers([caches[member] for member in members])
        batch = model(mx.array([[token]] * len(members)), cache=layers)[:, -1]
        single = model(mx.array([[token]]), cache=reference)[0, -1]
        row = np.array(batch[members.index(1)])
        assert np.abs(row - np.array(single)).max() < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_self_test_knows_what_each_model_is_fit_for(name: str) -> None:
    model = tiny_model(name)
    runner = ModelRunner(model)
    result = self_test(model, runner, 100)
    assert result.batches
    assert result.restores
    assert result.reasons == ()


def test_the_self_test_notices_a_model_that_mixes_up_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama")
    runner = ModelRunner(model)
    attend = ragged.RaggedLayer.attend

    def swapped(self: ragged.RaggedLayer, *args: Any, **kwargs: Any) -> mx.array:
        return attend(self, *args, **kwargs)[::-1]

    monkeypatch.setattr(ragged.RaggedLayer, "attend", swapped)
    result = self_test(model, runner, 100)
    assert not result.batches
    assert result.restores
    assert "batching: logits differ" in result.reasons[0]


def test_the_self_test_notices_a_cache_restored_at_the_wrong_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama")
    runner = ModelRunner(model)

    gather = kv.gather

    def shifted(*args: Any) -> Any:
        caches = gather(*args)
        for cache in caches:
            cache.offset -= 1
        return caches

    monkeypatch.setattr(kv, "gather", shifted)
    result = self_test(model, runner, 100)
    assert result.batches
    assert not result.restores


def test_a_model_that_raises_in_a_batch_is_reported_not_fatal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama")
    runner = ModelRunner(model)
    monkeypatch.delattr(ragged.RaggedLayer, "make_mask")
    monkeypatch.delattr(ragged.RaggedLayer, "attend")
    result = self_test(model, runner, 100)
    assert not result.batches
    assert "AttributeError" in result.reasons[0]
