"""Models with quantised keys and values: alone as in a batch, restored as computed, or lossless."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache

from engine.cache.payload_span import PayloadSpan
from engine.cache.quantisation import KVQuantisation
from engine.cache.spec import LayerKind
from engine.errors import KVFormatError
from engine.runtime import cpu, fitting, ragged
from engine.runtime.device import DeviceProfile
from engine.runtime.fitting import FittedRunner, fit
from engine.runtime.layer_caches import LayerCaches, leaf_caches
from engine.runtime.loader import load, quantised_ops
from engine.runtime.quantised import QuantisedCache, QuantisedOps
from engine.runtime.quantised_mlx import MlxQuantisedOps
from engine.runtime.ragged import ragged_layers
from engine.runtime.runner import ModelRunner
from tests.runtime.tiny_models import CONFIGS, kernels_or_none

FORMATS = [KVQuantisation(4, 32), KVQuantisation(8, 32), KVQuantisation(4, 64)]
QUANTISED = ("llama", "qwen3", "gemma3_text", "gpt_oss", "qwen3_next", "mixtral", "falcon_h1")
LENGTHS = (5, 23, 40)
WIDE_HEADS = {"head_dim": 64}
# This one's heads are as wide as its hidden size leaves them.
WIDE_HIDDEN = {"mixtral": {"hidden_size": 256}}


def model_of(architecture: str, **changes: Any) -> Any:
    """A small model with random weights and heads wide enough to be quantised."""
    mx.random.seed(7)
    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    config = {**CONFIGS[architecture], **WIDE_HEADS, **WIDE_HIDDEN.get(architecture, {}), **changes}
    model = module.Model(module.ModelArgs.from_dict(config))
    model.apply(lambda array: array.astype(mx.float32))
    mx.eval(model.parameters())
    return model


def name(quantisation: KVQuantisation) -> str:
    return quantisation.key


@pytest.fixture(params=["native", "numpy", "mlx"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "native" and kernels_or_none() is None:
        pytest.skip("no C compiler here")
    yield request.param
    cpu.uninstall()


def ops_of(device: str, model: Any) -> QuantisedOps:
    """The operations of a device, which is got ready for the model."""
    if device == "mlx":
        ragged.install()
        return MlxQuantisedOps()
    profile = DeviceProfile(kernels=kernels_or_none() if device == "native" else None)
    cpu.install(model, profile)
    ragged.install()
    return quantised_ops(profile)


def fitted(device: str, architecture: str, quantisation: KVQuantisation) -> FittedRunner:
    model = model_of(architecture)
    return fit(model, quantisation, lambda: ops_of(device, model), 100)


def prompt(length: int) -> list[int]:
    return [(length * 7 + i * 3) % 100 for i in range(length)]


def filled(runner: ModelRunner, tokens: list[int], *slices: int) -> LayerCaches:
    caches, start = runner.new_cache(), 0
    for length in slices or (len(tokens),):
        runner.prefill(caches, tokens[start : start + length])
        start += length
    return caches


def logits(runner: ModelRunner, batch: list[LayerCaches], token: int) -> Any:
    tokens = mx.array([[token]] * len(batch))
    cache = ragged_layers(batch) if len(batch) > 1 else batch[0]
    return np.array(runner.model(tokens, cache=cache)[:, -1])


@pytest.mark.parametrize("quantisation", FORMATS, ids=name)
@pytest.mark.parametrize("architecture", QUANTISED)
def test_a_model_of_each_kind_passes_its_self_test(
    architecture: str, quantisation: KVQuantisation, device: str
) -> None:
    result = fitted(device, architecture, quantisation)

    assert result.quantisation == quantisation, result.result.reasons
    assert result.result.batches
    assert result.result.restores
    leaves = list(leaf_caches(result.runner.new_cache()))
    assert any(isinstance(leaf, QuantisedCache) for leaf in leaves)
    assert not any(type(leaf) is KVCache for leaf in leaves)


@pytest.mark.parametrize("quantisation", FORMATS, ids=name)
def test_a_ragged_batch_gives_each_sequence_the_bits_it_gets_alone(
    quantisation: KVQuantisation,
) -> None:
    if kernels_or_none() is None:
        pytest.skip("no C compiler here")
    runner = fitted("native", "llama", quantisation).runner
    together = [filled(runner, prompt(length)) for length in LENGTHS]
    alone = [filled(runner, prompt(length)) for length in LENGTHS]

    for token in (11, 12, 13):
        batch = logits(runner, together, token)
        single = np.concatenate([logits(runner, [caches], token) for caches in alone])
        np.testing.assert_array_equal(batch, single)
    cpu.uninstall()


@pytest.mark.parametrize("quantisation", FORMATS, ids=name)
@pytest.mark.parametrize("slices", [(17, 283), (256, 44), (100, 5, 195)])
def test_slices_leave_the_same_bits_behind(
    quantisation: KVQuantisation, slices: tuple[int, ...]
) -> None:
    if kernels_or_none() is None:
        pytest.skip("no C compiler here")
    runner = fitted("native", "llama", quantisation).runner
    whole, sliced = filled(runner, prompt(300)), filled(runner, prompt(300), *slices)

    cuts = [runner.to_bytes(runner.cut_tail(caches, 255)) for caches in (whole, sliced)]

    assert cuts[0] == cuts[1]
    np.testing.assert_array_equal(logits(runner, [whole], 7), logits(runner, [sliced], 7))
    cpu.uninstall()


@pytest.mark.parametrize("quantisation", FORMATS, ids=name)
@pytest.mark.parametrize("architecture", ["llama", "gpt_oss"])
def test_a_cache_restored_from_bytes_goes_on_with_the_same_bits(
    architecture: str, quantisation: KVQuantisation, device: str
) -> None:
    runner = fitted(device, architecture, quantisation).runner
    caches = filled(runner, prompt(300))
    payloads = [runner.cut_block(caches, 0), runner.cut_tail(caches, 300)]
    assert all(tensor.dtype in ("U32", "F16", "F32") for tensor in runner.to_bytes(payloads[0]))

    spans = [PayloadSpan(0, 256), PayloadSpan(256, 44, is_checkpoint=True)]
    kept = [
        runner.from_bytes(runner.to_bytes(payload), span)
        for payload, span in zip(payloads, spans, strict=True)
    ]
    restored = runner.restore(kept, 44, 600)

    for token in (11, 12, 13):
        got, want = logits(runner, [restored], token), logits(runner, [caches], token)
        np.testing.assert_array_equal(got, want)


def test_a_block_may_be_appended_instead_of_computed(device: str) -> None:
    runner = fitted(device, "llama", KVQuantisation(4, 32)).runner
    computed = filled(runner, prompt(520))
    caches = runner.restore([runner.cut_block(computed, 0)], 256, 300)

    runner.append_block(caches, runner.cut_block(computed, 1))
    runner.prefill(caches, prompt(520)[512:])

    got, want = logits(runner, [caches], 7), logits(runner, [computed], 7)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_what_was_cut_out_stays_as_it_was(device: str) -> None:
    runner = fitted(device, "llama", KVQuantisation(4, 32)).runner
    caches = filled(runner, prompt(256))
    block = runner.cut_block(caches, 0)
    before = runner.to_bytes(block)

    runner.prefill(caches, prompt(30))
    logits(runner, [caches], 3)

    assert runner.to_bytes(block) == before


@pytest.mark.parametrize("architecture", QUANTISED)
def test_every_device_computes_about_the_same(architecture: str) -> None:
    quantisation, results = KVQuantisation(8, 32), []
    for device in ("numpy", "mlx"):
        runner = fitted(device, architecture, quantisation).runner
        results.append(logits(runner, [filled(runner, prompt(40))], 7))
        cpu.uninstall()
    lossless = ModelRunner(model_of(architecture))
    want = logits(lossless, [filled(lossless, prompt(40))], 7)
    for got in results:
        assert np.abs(got - want).max() < 0.02 * np.ptp(want)


def test_windows_and_states_stay_as_they_are() -> None:
    for architecture, kind in (
        ("gemma3_text", LayerKind.WINDOW),
        ("qwen3_next", LayerKind.STATE),
    ):
        model = model_of(architecture)
        ragged.install()
        lossless = fit(model, None, MlxQuantisedOps, 100).runner.spec
        spec = fit(model, KVQuantisation(4, 64), MlxQuantisedOps, 100).runner.spec
        others = [
            [group for group in each.groups if group.kind is kind] for each in (spec, lossless)
        ]
        assert others[0] == others[1] != []
        assert spec.bytes_per_token * 7 < lossless.bytes_per_token  # from 32 to 4.5 bits
        assert spec.kv_format != lossless.kv_format


def test_formats_never_share_a_name() -> None:
    model = model_of("llama")
    formats = {
        fit(model, each, lambda: ops_of("mlx", model), 100).runner.spec.kv_format
        for each in (None, *FORMATS, KVQuantisation(8, 64))
    }
    assert len(formats) == 5


@pytest.mark.parametrize("architecture", ["deepseek_v3", "gemma2"])
def test_a_model_whose_attention_cannot_stays_lossless_and_says_so(architecture: str) -> None:
    changes = {"kv_lora_rank": 64, "qk_rope_head_dim": 32} if "deepseek" in architecture else {}
    model = model_of(architecture, **changes)
    ragged.install()

    result = fit(model, KVQuantisation(4, 32), MlxQuantisedOps, 100)

    assert result.quantisation is None
    assert result.result.batches
    assert "KV 4 bit, group 32: " in result.result.reasons[-1]
    assert result.result.reasons[-1].endswith("it stays lossless")
    assert any(type(leaf) is KVCache for leaf in leaf_caches(result.runner.new_cache()))


@pytest.mark.parametrize("architecture", ["mamba2", "llama"])
def test_a_model_with_nothing_to_quantise_says_so(architecture: str) -> None:
    model = model_of(architecture, head_dim=32 if architecture == "mamba2" else 16)
    ragged.install()

    result = fit(model, KVQuantisation(4, 32), MlxQuantisedOps, 100)

    assert result.quantisation is None
    expected = {
        "mamba2": "no layer keeps rows",
        "llama": "no group size divides a head width of 16",
    }
    assert expected[architecture] in result.result.reasons[-1]


def test_attention_that_goes_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "engine.runtime.quantised_mlx.turn_matrix",
        lambda width, dtype, is_key: mx.eye(width, dtype=dtype) * (1 if is_key else -40),
    )
    monkeypatch.setattr(fitting, "MAX_DEVIATION", 0.1)
    model = model_of("llama")
    ragged.install()

    result = fit(model, KVQuantisation(8, 32), MlxQuantisedOps, 100)

    assert result.quantisation is None
    assert "logits are off by" in result.result.reasons[-1]


def test_a_group_size_that_does_not_divide_is_refused_with_what_does(
    bundled_model_dir: Path,
) -> None:
    with pytest.raises(KVFormatError, match=r"128 .* width 64: use 32 or 64"):
        load(
            bundled_model_dir,
            DeviceProfile(kernels=kernels_or_none()),
            lambda _share, _text: None,
            KVQuantisation(4, 128),
        )
    cpu.uninstall()


def test_four_bits_fit_three_and_a_half_times_the_agents_of_sixteen(
    bundled_model_dir: Path,
) -> None:
    profile = DeviceProfile(kernels=kernels_or_none())
    loaded = load(bundled_model_dir, profile, lambda _share, _text: None, KVQuantisation(4, 64))
    spec = loaded.runner.spec
    numbers_per_token = 30 * 3 * 64 * 2  # layers, KV heads, width, keys and values
    sixteen_bit_blocks = (1 << 30) // (256 * numbers_per_token * 2)

    assert loaded.quantisation == KVQuantisation(4, 64)
    assert spec.bytes_per_token == numbers_per_token * 4.5 / 8
    assert spec.num_blocks(1 << 30) >= 3.5 * sixteen_bit_blocks
    cpu.uninstall()
