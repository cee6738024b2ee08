"""What a cache costs, read from configs as they are published."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cache.spec import CacheSpec, LayerKind
from engine.cache.spec_from_config import spec_difference, spec_from_config

MIB = 2**20

# Of a published config only what tells about the cache, under the names it has there.
GEMMA_3_12B = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 3840,
        "num_attention_heads": 16,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
}
LLAMA_31_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
}
QWEN_3_NEXT = {
    "model_type": "qwen3_next",
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_num_value_heads": 32,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "num_experts": 512,
}


def spec_of(config: dict[str, Any], element_bytes: int = 2) -> CacheSpec:
    spec = spec_from_config(config, element_bytes)
    assert spec is not None
    return spec


def layers_of(config: dict[str, Any]) -> dict[LayerKind, int]:
    """How many layers keep what."""
    layers: dict[LayerKind, int] = {}
    for group in spec_of(config).groups:
        layers[group.kind] = layers.get(group.kind, 0) + group.num_layers
    return layers


def test_gemma_3_12b_keeps_2_mib_per_layer_and_block() -> None:
    spec = spec_of(GEMMA_3_12B)
    window, full = sorted(spec.groups, key=lambda group: group.kind, reverse=True)
    assert (window.kind, window.num_layers, window.window_tokens) == (LayerKind.WINDOW, 40, 1024)
    assert (full.kind, full.num_layers) == (LayerKind.FULL, 8)
    for group in (window, full):
        assert group.bytes_per_token * 256 == group.num_layers * 2 * MIB
    assert spec.block_bytes == 16 * MIB
    assert spec.checkpoint_bytes == 40 * 8 * MIB
    assert spec.checkpoint_slots == 20
    assert spec.needs_checkpoints


def test_llama_keeps_every_token() -> None:
    spec = spec_of(LLAMA_31_8B)
    assert spec.bytes_per_token == 131_072
    assert spec.num_layers == 32
    assert not spec.needs_checkpoints
    assert spec_of(LLAMA_31_8B, element_bytes=4).bytes_per_token == 262_144


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe"])
def test_experts_change_nothing(model_type: str) -> None:
    experts = {"num_experts": 128, "num_local_experts": 8, "num_experts_per_tok": 8}
    spec = spec_of({**LLAMA_31_8B, **experts, "model_type": model_type})
    assert spec.groups == spec_of(LLAMA_31_8B).groups


def test_latent_attention_keeps_one_vector_per_token() -> None:
    deepseek_v3 = {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "num_hidden_layers": 61,
        "num_key_value_heads": 128,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "n_routed_experts": 256,
    }
    assert spec_of(deepseek_v3).bytes_per_token == 61 * (512 + 64) * 2
    assert not spec_of(deepseek_v3).needs_checkpoints


def test_linear_attention_keeps_states() -> None:
    state, full = sorted(spec_of(QWEN_3_NEXT).groups, key=lambda group: group.num_layers)[::-1]
    assert (state.kind, state.num_layers) == (LayerKind.STATE, 36)
    # Three inputs of the convolution in 16 bit, a matrix per head in 32.
    assert state.state_bytes == 36 * (3 * (2 * 16 * 128 + 32 * 128) * 2 + 32 * 128 * 128 * 4)
    assert (full.kind, full.num_layers) == (LayerKind.FULL, 12)
    assert full.bytes_per_token == 12 * 2 * 2 * 256 * 2


FULL, WINDOW, STATE = LayerKind.FULL, LayerKind.WINDOW, LayerKind.STATE
BASE = LLAMA_31_8B
MAMBA_2 = {"state_size": 128, "conv_kernel": 4, "num_heads": 80, "head_dim": 64, "n_groups": 1}
HYBRID = {
    "mamba_n_heads": 48,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_d_conv": 4,
    "mamba_n_groups": 1,
}


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({"model_type": "mistral", "sliding_window": None}, {FULL: 32}),
        ({"model_type": "mistral", "sliding_window": 4096}, {WINDOW: 32}),
        ({"model_type": "qwen2", "sliding_window": 32768, "max_window_layers": 28}, {FULL: 32}),
        (
            {
                "model_type": "qwen2",
                "use_sliding_window": True,
                "sliding_window": 32768,
                "max_window_layers": 28,
            },
            {FULL: 28, WINDOW: 4},
        ),
        ({"model_type": "qwen3", "sliding_window": None}, {FULL: 32}),
        ({"model_type": "gemma2"}, {FULL: 16, WINDOW: 16}),
        ({"model_type": "gpt_oss"}, {FULL: 16, WINDOW: 16}),
        ({"model_type": "cohere2"}, {FULL: 8, WINDOW: 24}),
        (
            {"layer_types": ["full_attention", *["sliding_attention"] * 31], "sliding_window": 9},
            {FULL: 1, WINDOW: 31},
        ),
        ({"sliding_window_pattern": "LLLG", "sliding_window": 9}, {FULL: 8, WINDOW: 24}),
        ({"hybrid_layer_pattern": [0, 1, 1, 1], "sliding_window_size": 9}, {FULL: 1, WINDOW: 3}),
        ({"model_type": "mamba2", **MAMBA_2}, {STATE: 32}),
        (
            {
                "model_type": "granitemoehybrid",
                "layer_types": ["mamba", "attention"] * 16,
                **HYBRID,
            },
            {FULL: 16, STATE: 16},
        ),
        ({"model_type": "falcon_h1", "mamba_d_ssm": 3072, **HYBRID}, {FULL: 32, STATE: 32}),
        (
            {
                "model_type": "jamba",
                "attn_layer_period": 8,
                "attn_layer_offset": 4,
                "mamba_expand": 2,
                "mamba_d_state": 16,
                "mamba_d_conv": 4,
            },
            {FULL: 4, STATE: 28},
        ),
        (
            {"num_hidden_layers": 4, "hybrid_override_pattern": "M-M*", **HYBRID},
            {FULL: 1, STATE: 2},
        ),
        ({"model_type": "lfm2", "full_attn_idxs": [2, 5], "conv_L_cache": 3}, {FULL: 2, STATE: 30}),
        (
            {
                "model_type": "recurrent_gemma",
                "_block_types": ["recurrent", "recurrent", "attention"],
                "conv1d_width": 4,
                "attention_window_size": 2048,
            },
            {WINDOW: 10, STATE: 22},
        ),
        (
            {
                "model_type": "kimi_linear",
                "kv_lora_rank": 512,
                "linear_attn_config": {
                    "kda_layers": [index for index in range(1, 33) if index % 4],
                    "num_heads": 32,
                    "head_dim": 128,
                    "short_conv_kernel_size": 4,
                },
            },
            {FULL: 8, STATE: 24},
        ),
        ({"model_type": "gemma4_text", "num_kv_shared_layers": 12}, {FULL: 4, WINDOW: 16}),
    ],
)
def test_which_layer_keeps_what_is_read_from_any_pattern(
    changes: dict[str, Any], layers: dict[LayerKind, int]
) -> None:
    assert layers_of({**BASE, **changes}) == layers


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "llama"},
        {**LLAMA_31_8B, "num_attention_heads": None},
        {**LLAMA_31_8B, "num_hidden_layers": "many"},
        {**LLAMA_31_8B, "layer_types": ["telepathy"] * 32},
        {**LLAMA_31_8B, "layer_types": ["mamba"] * 32},
        {**LLAMA_31_8B, "layer_types": 7},
        {"model_type": "x", "text_config": "none"},
        {**LLAMA_31_8B, "num_attention_heads": 0, "num_key_value_heads": 0},
    ],
)
def test_a_config_that_is_not_understood_gives_nothing(config: dict[str, Any]) -> None:
    assert spec_from_config(config, 2) is None


def test_a_cache_as_promised_differs_in_nothing() -> None:
    for config in (GEMMA_3_12B, LLAMA_31_8B, QWEN_3_NEXT):
        assert spec_difference(spec_of(config), spec_of(config)) == ""


def test_the_type_of_states_is_the_model_s_own_affair() -> None:
    # Half as wide heads of twice as many bytes: the rows cost the same, the states do not.
    wide = spec_of({**QWEN_3_NEXT, "head_dim": 128}, element_bytes=4)
    narrow = spec_of(QWEN_3_NEXT)
    assert wide.bytes_per_token == narrow.bytes_per_token
    assert wide.checkpoint_bytes > narrow.checkpoint_bytes
    assert spec_difference(wide, narrow) == ""
    assert spec_difference(spec_of({**QWEN_3_NEXT, "linear_num_value_heads": 96}), narrow) != ""


def test_a_difference_is_told_in_words() -> None:
    gemma_2 = {**LLAMA_31_8B, "model_type": "gemma2"}
    assert spec_difference(spec_of(gemma_2), spec_of({**LLAMA_31_8B, "head_dim": 256})) == (
        "the config describes 16 layers that keep a window of 4096 (131072 B/token), "
        "16 layers that keep every token (131072 B/token); "
        "the cache has 32 layers that keep every token (262144 B/token)"
    )
