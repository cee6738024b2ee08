"""Tensors of other types and shapes than a model keeps are refused before anything uses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import pytest

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.records import DTYPE_BYTES, TensorBytes
from engine.cache.payload_span import PayloadSpan
from engine.cache.quantisation import KVQuantisation
from engine.errors import PayloadError
from engine.runtime import ragged
from engine.runtime.fitting import quantised_runner
from engine.runtime.quantised_mlx import MlxQuantisedOps
from engine.runtime.runner import ModelRunner
from tests.runtime.tiny_models import make_tiny_model

Tensors = tuple[TensorBytes, ...]
Shape = tuple[int, ...]

MODELS = ("qwen3", "quantised", "deepseek_v2", "gemma3_text", "mamba2", "falcon_h1")
NEED_CHECKPOINTS = ("gemma3_text", "mamba2", "falcon_h1")
BLOCK = PayloadSpan(BLOCK_TOKENS, BLOCK_TOKENS)
END = PayloadSpan(2 * BLOCK_TOKENS, 30, is_checkpoint=True)


def zeros(dtype: str, shape: Shape) -> TensorBytes:
    return TensorBytes(dtype, shape, bytes(DTYPE_BYTES[dtype] * math.prod(shape)))


@cache
def cut_of(name: str) -> tuple[ModelRunner, dict[PayloadSpan, Tensors]]:
    """A model, and a block and an end of what it keeps, as bytes."""
    ragged.install()
    if name == "quantised":
        model = make_tiny_model("qwen3", head_dim=64)
        runner = quantised_runner(model, KVQuantisation(8, 64), MlxQuantisedOps())
    else:
        runner = ModelRunner(make_tiny_model(name))
    caches = runner.new_cache()
    runner.prefill(caches, [token % 100 for token in range(END.stop)])
    return runner, {
        BLOCK: runner.to_bytes(runner.cut_block(caches, 1)),
        END: runner.to_bytes(runner.cut_tail(caches, END.stop)),
    }


def longer(axis: int, num_more: int, tensor: TensorBytes) -> TensorBytes:
    """The same with another length of an axis; without that axis, or too short for it, as it is."""
    shape = tensor.shape
    if axis >= len(shape) or shape[axis] + num_more < 0:
        return tensor
    return zeros(tensor.dtype, (*shape[:axis], shape[axis] + num_more, *shape[axis + 1 :]))


def turned(tensor: TensorBytes) -> TensorBytes:
    """As many numbers, the first axis last."""
    return zeros(tensor.dtype, (*tensor.shape[1:], *tensor.shape[:1]))


CHANGES: dict[str, Callable[[TensorBytes], TensorBytes]] = {
    "another type": lambda tensor: zeros("F16", tensor.shape),
    "a type that numpy has not": lambda tensor: zeros("F8_E4M3", tensor.shape),
    "an axis more": lambda tensor: zeros(tensor.dtype, (*tensor.shape, 1)),
    "an axis less": lambda tensor: zeros(tensor.dtype, tensor.shape[:-1]),
    "axes turned": turned,
    "nothing": lambda tensor: zeros(tensor.dtype, (0,) * len(tensor.shape)),
    **{
        f"axis {axis} by {num_more}": partial(longer, axis, num_more)
        for axis in range(4)
        for num_more in (-1, 1)
    },
}


@pytest.mark.parametrize("span", [BLOCK, END], ids=["block", "end"])
@pytest.mark.parametrize("name", MODELS)
def test_what_the_model_made_is_taken(name: str, span: PayloadSpan) -> None:
    runner, tensors = cut_of(name)
    assert runner.to_bytes(runner.from_bytes(tensors[span], span)) == tensors[span]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("span", [BLOCK, END], ids=["block", "end"])
@pytest.mark.parametrize("name", MODELS)
def test_one_tensor_that_differs_is_enough(name: str, span: PayloadSpan, change: str) -> None:
    runner, all_tensors = cut_of(name)
    tensors = all_tensors[span]
    for index, tensor in enumerate(tensors):
        wrong = CHANGES[change](tensor)
        if (wrong.dtype, wrong.shape) == (tensor.dtype, tensor.shape):
            continue
        with pytest.raises(PayloadError, match=f"tensor {index} is"):
            runner.from_bytes((*tensors[:index], wrong, *tensors[index + 1 :]), span)


@pytest.mark.parametrize("name", MODELS)
def test_tensors_are_not_more_or_fewer(name: str) -> None:
    runner, tensors = cut_of(name)
    for wrong in ((), tensors[END][:-1], (*tensors[END], tensors[END][-1])):
        with pytest.raises(PayloadError, match=f"it has {len(wrong)} tensors"):
            runner.from_bytes(wrong, END)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_right_in_one_place_is_wrong_in_another(name: str) -> None:
    runner, tensors = cut_of(name)
    for found, said in ((BLOCK, END), (END, BLOCK)):
        with pytest.raises(PayloadError):
            runner.from_bytes(tensors[found], said)


@pytest.mark.parametrize("name", NEED_CHECKPOINTS)
def test_a_block_of_as_many_rows_is_no_checkpoint(name: str) -> None:
    """Mamba keeps no rows at all: only the states tell them apart."""
    runner, tensors = cut_of(name)
    said = PayloadSpan(BLOCK.start, BLOCK.num_tokens, is_checkpoint=True)
    with pytest.raises(PayloadError):
        runner.from_bytes(tensors[BLOCK], said)


def test_a_window_is_as_long_as_its_place_allows() -> None:
    """Early in a context a window is not full yet; the same rows later are too few."""
    runner, _ = cut_of("gemma3_text")
    caches = runner.new_cache()
    runner.prefill(caches, [1, 2, 3, 4, 5])
    tensors = runner.to_bytes(runner.cut_tail(caches, 5))

    runner.from_bytes(tensors, PayloadSpan(0, 5, is_checkpoint=True))
    with pytest.raises(PayloadError, match="1x2x5x16, and this model keeps F32 1x2x16x16"):
        runner.from_bytes(tensors, PayloadSpan(BLOCK_TOKENS, 5, is_checkpoint=True))
