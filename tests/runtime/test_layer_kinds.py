"""Every kind of layer comes back from blocks and checkpoints as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import CacheList, ChunkedKVCache, KVCache

from engine.cache.block import BLOCK_TOKENS
from engine.cache.payload_span import PayloadSpan
from engine.errors import EngineFailedError, PayloadError
from engine.runtime import kv, ragged
from engine.runtime.layer_caches import LayerCaches
from engine.runtime.ragged import ragged_layers
from engine.runtime.runner import ModelRunner
from tests.runtime.tiny_models import (
    ARCHITECTURES,
    CONFIGS,
    NEED_CHECKPOINTS,
    WINDOWED,
    make_tiny_model,
)

NUM_DECODED = 6
# In the first block, at the end of one, beyond window and block together.
PLACES = (100, 2 * BLOCK_TOKENS, 700)
CASES = [
    *((name, {}) for name in ARCHITECTURES),
    *((name, {"sliding_window": 300}) for name in WINDOWED),
    ("recurrent_gemma", {"attention_window_size": 300}),
]

Floats = np.ndarray[Any, np.dtype[np.float32]]


def prompt(num_tokens: int, seed: int = 1) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 100, num_tokens)]


@dataclass
class Kept:
    """What was cut out of a sequence: full blocks and what follows them."""

    blocks: list[Any]
    tail: Any
    num_tail_tokens: int

    @property
    def payloads(self) -> list[Any]:
        return [*self.blocks, self.tail]

    @property
    def spans(self) -> list[PayloadSpan]:
        """Which tokens each payload is of."""
        starts = [index * BLOCK_TOKENS for index in range(len(self.payloads))]
        return [
            *(PayloadSpan(start, BLOCK_TOKENS) for start in starts[:-1]),
            PayloadSpan(starts[-1], self.num_tail_tokens, is_checkpoint=True),
        ]


class Model:
    """A tiny model, driven as the engine drives one."""

    def __init__(self, name: str, **changes: Any) -> None:
        self.model = make_tiny_model(name, **changes)
        ragged.install()
        self.runner = ModelRunner(self.model)

    def prefilled(self, tokens: list[int], *, slice_tokens: int = 97) -> LayerCaches:
        caches = self.runner.new_cache()
        self.prefill(caches, tokens, slice_tokens=slice_tokens)
        return caches

    def prefill(self, caches: LayerCaches, tokens: list[int], *, slice_tokens: int = 97) -> None:
        for start in range(0, len(tokens), slice_tokens):
            self.runner.prefill(caches, tokens[start : start + slice_tokens])

    def keep(self, caches: LayerCaches, num_tokens: int) -> Kept:
        num_blocks, num_tail_tokens = divmod(num_tokens, BLOCK_TOKENS)
        blocks = [self.runner.cut_block(caches, index) for index in range(num_blocks)]
        return Kept(blocks, self.runner.cut_tail(caches, num_tokens), num_tail_tokens)

    def through_bytes(self, kept: Kept) -> Kept:
        payloads = [
            self.runner.from_bytes(self.runner.to_bytes(payload), span)
            for payload, span in zip(kept.payloads, kept.spans, strict=True)
        ]
        return Kept(payloads[:-1], payloads[-1], kept.num_tail_tokens)

    def restored(self, kept: Kept, num_capacity_tokens: int = 800) -> LayerCaches:
        return self.runner.restore(kept.payloads, kept.num_tail_tokens, num_capacity_tokens)

    def decode(self, caches: LayerCaches, first_token: int) -> tuple[list[int], Floats]:
        """Greedy tokens and their logits, one row per step."""
        rows, tokens = [], [first_token]
        for _ in range(NUM_DECODED):
            rows.append(np.array(self.model(mx.array([tokens[-1:]]), cache=caches)[0, -1]))
            tokens.append(int(rows[-1].argmax()))
        return tokens, np.stack(rows)

    def decode_together(self, batch: list[LayerCaches], first_token: int) -> list[Floats]:
        """Logits of each row, fed the tokens of the first row."""
        steps, token = [], first_token
        for _ in range(NUM_DECODED):
            tokens = mx.array([[token]] * len(batch))
            logits = np.array(self.model(tokens, cache=ragged_layers(batch))[:, -1])
            token = int(logits[0].argmax())
            steps.append(logits)
        return list(np.stack(steps, axis=1))


@pytest.mark.parametrize("num_tokens", PLACES)
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_restored_cache_gives_what_the_one_it_was_cut_from_gives(
    name: str, changes: dict[str, Any], num_tokens: int
) -> None:
    model = Model(name, **changes)
    caches = model.prefilled(prompt(num_tokens))
    kept = model.through_bytes(model.keep(caches, num_tokens))

    tokens, logits = model.decode(model.restored(kept), 7)

    expected_tokens, expected = model.decode(caches, 7)
    np.testing.assert_array_equal(logits, expected)
    assert tokens == expected_tokens


@pytest.mark.parametrize("num_tokens", PLACES)
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_restored_prefix_goes_on_as_a_recomputed_one(
    name: str, changes: dict[str, Any], num_tokens: int
) -> None:
    model = Model(name, **changes)
    tokens, more = prompt(num_tokens), prompt(60, seed=2)
    kept = model.keep(model.prefilled(tokens), num_tokens)

    resumed = model.restored(kept)
    model.prefill(resumed, more, slice_tokens=33)
    answer, logits = model.decode(resumed, 7)

    recomputed = model.prefilled([*tokens, *more], slice_tokens=10_000)
    expected_answer, expected = model.decode(recomputed, 7)
    np.testing.assert_allclose(logits, expected, atol=2e-4)
    assert answer == expected_answer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_was_cut_does_not_follow_its_sequence_and_serves_many(name: str) -> None:
    model = Model(name)
    caches = model.prefilled(prompt(300))
    kept = model.keep(caches, 300)
    before = [bytes(tensor.data) for tensor in model.runner.to_bytes(kept.tail)]
    first, second = model.restored(kept), model.restored(kept)
    _, expected = model.decode(model.restored(kept), 7)

    model.prefill(caches, prompt(400, seed=3))
    model.prefill(first, prompt(400, seed=4))

    assert [bytes(tensor.data) for tensor in model.runner.to_bytes(kept.tail)] == before
    np.testing.assert_array_equal(model.decode(second, 7)[1], expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_restored_sequences_of_mixed_length_decode_together_as_alone(name: str) -> None:
    model = Model(name)
    lengths = (300, 40, 512)
    kept = [model.keep(model.prefilled(prompt(length, seed=length)), length) for length in lengths]
    # One of them has a prompt of a single token, which goes with the decode step.
    batch = [*(model.restored(each) for each in kept), model.runner.new_cache()]
    alone = [*(model.restored(each) for each in kept), model.runner.new_cache()]

    together = model.decode_together(batch, 7)

    fed = [7, *(int(row.argmax()) for row in together[0])]
    for caches, rows in zip(alone, together, strict=True):
        for token, row in zip(fed, rows, strict=False):
            single = np.array(model.model(mx.array([[token]]), cache=caches)[0, -1])
            np.testing.assert_allclose(row, single, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in NEED_CHECKPOINTS])
def test_plain_tails_serve_in_part_and_blocks_are_appended(name: str) -> None:
    model = Model(name)
    tokens = prompt(400)
    kept = model.keep(model.prefilled(tokens), 400)
    assert not model.runner.spec.needs_checkpoints
    appended = model.runner.new_cache()
    model.runner.append_block(appended, kept.blocks[0])
    model.prefill(appended, tokens[BLOCK_TOKENS:330])

    in_part = model.runner.restore(kept.payloads, 330 - BLOCK_TOKENS, 400)

    _, expected = model.decode(model.prefilled(tokens[:330]), 7)
    for caches in (in_part, appended):
        np.testing.assert_allclose(model.decode(caches, 7)[1], expected, atol=1e-4)


@pytest.mark.parametrize("name", NEED_CHECKPOINTS)
def test_windows_and_states_go_on_from_checkpoints_only(name: str) -> None:
    model = Model(name)
    caches = model.prefilled(prompt(300))
    kept = model.keep(caches, 300)
    assert model.runner.spec.needs_checkpoints
    with pytest.raises(EngineFailedError, match="checkpoint"):
        model.runner.restore(kept.blocks, BLOCK_TOKENS, 400)
    with pytest.raises(EngineFailedError, match="cannot go on from a block"):
        model.runner.append_block(model.runner.new_cache(), kept.blocks[0])


@pytest.mark.parametrize("name", WINDOWED)
def test_no_checkpoint_is_made_where_the_cache_is_not(name: str) -> None:
    model = Model(name)
    caches = model.prefilled(prompt(300))
    for num_tokens in (299, 301):
        with pytest.raises(EngineFailedError):
            model.runner.cut_tail(caches, num_tokens)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_payloads_weigh_what_the_spec_says(name: str) -> None:
    model = Model(name)
    spec = model.runner.spec
    kept = model.keep(model.prefilled(prompt(300)), 300)

    def weigh(payload: Any) -> int:
        return sum(tensor.num_bytes for tensor in model.runner.to_bytes(payload))

    assert weigh(kept.blocks[0]) == spec.bytes_per_token * BLOCK_TOKENS
    assert weigh(kept.tail) == spec.bytes_per_token * 44 + spec.checkpoint_bytes
    assert (spec.checkpoint_bytes > 0) is (name in NEED_CHECKPOINTS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_payloads_of_a_model_have_the_same_tensors(name: str) -> None:
    model = Model(name)
    kept = model.keep(model.prefilled(prompt(512)), 512)
    short = model.keep(model.prefilled(prompt(3)), 3)
    kinds = {
        tuple((tensor.dtype, len(tensor.shape)) for tensor in model.runner.to_bytes(payload))
        for payload in (*kept.payloads, short.tail)
    }
    assert len(kinds) == 1


def test_a_payload_of_another_model_is_refused() -> None:
    tensors = Model("llama").runner
    caches = tensors.new_cache()
    tensors.prefill(caches, [1, 2, 3])
    payload = tensors.to_bytes(tensors.cut_tail(caches, 3))
    with pytest.raises(PayloadError, match="4 tensors, and this model keeps 14"):
        Model("gemma3_text").runner.from_bytes(payload, PayloadSpan(0, 3, is_checkpoint=True))


# mlx multiplies experts in 32 bit only on the CPU, so none of these has any.
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("name", ["gemma3_text", "mamba2", "mamba", "recurrent_gemma", "falcon_h1"])
def test_sixteen_bit_models_come_back_bit_for_bit(name: str, dtype: mx.Dtype) -> None:
    model = Model(name)
    model.model.apply(lambda array: array.astype(dtype))
    model.runner = ModelRunner(model.model)
    caches = model.prefilled(prompt(300))
    kept = model.through_bytes(model.keep(caches, 300))

    restored = model.restored(kept)

    for _ in range(3):
        step = model.model(mx.array([[5]]), cache=restored).astype(mx.float32)
        expected = model.model(mx.array([[5]]), cache=caches).astype(mx.float32)
        np.testing.assert_array_equal(np.array(step), np.array(expected))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_config_tells_what_the_cache_really_keeps(name: str) -> None:
    difference = kv.config_difference(make_tiny_model(name), CONFIGS[name])
    # mlx-lm unfolds the latent vectors of this one before they are cached.
    assert bool(difference) is (name == "deepseek_v2")


def test_what_the_cache_really_keeps_is_charged_and_the_difference_told() -> None:
    model = make_tiny_model("gemma3_text")
    config = {**CONFIGS["gemma3_text"], "sliding_window": 1024}
    difference = kv.config_difference(model, config)
    assert "6 layers that keep a window of 1024" in difference
    assert difference.endswith(
        "6 layers that keep a window of 16 (1536 B/token), 1 layers that keep every token "
        "(256 B/token)"
    )


def test_layers_that_are_not_understood_are_never_cut() -> None:
    class ChunkModel:
        """One layer whose cache drops its oldest rows a chunk at a time."""

        def make_cache(self) -> list[Any]:
            return [CacheList(KVCache(), ChunkedKVCache(16))]

        def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
            rows = mx.ones((1, 2, tokens.shape[1], 4))
            for part in cache[0].caches:
                part.update_and_fetch(rows, rows)
            return rows

    runner = ModelRunner(ChunkModel())
    assert not runner.spec.reusable
    assert runner.spec.reason == "layers keep ChunkedKVCache"
    assert runner.spec.bytes_per_token == 2 * 2 * 2 * 4 * 4
