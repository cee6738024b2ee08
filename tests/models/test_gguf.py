from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from engine.errors import ModelLoadError
from engine.models.gguf import convert_gguf

HIDDEN = 32
HEADS = 2
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"]


def quiet(_share: float, _text: str) -> None:
    """Progress that nobody watches."""


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    extra_tensor: str = "",
    quantise: gguf.GGMLQuantizationType | None = None,
    scaling: str = "",
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Writes a one-layer model; returns its weights as they should come out of the import."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    if scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType(scaling))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(2)
    random = np.random.default_rng(0)
    expected: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    shapes = {"token_embd": (len(TOKENS), HIDDEN), "blk.0.attn_q": (HIDDEN, HIDDEN)}
    if extra_tensor:
        shapes[extra_tensor] = (HIDDEN, HIDDEN)
    for name, shape in shapes.items():
        weight = random.standard_normal(shape, dtype=np.float32)
        expected[name] = weight
        stored = interleaved(weight) if "attn_q" in name else weight
        if quantise is None:
            writer.add_tensor(f"{name}.weight", stored)
        else:
            levels = gguf.quantize(stored, quantise)
            writer.add_tensor(f"{name}.weight", levels, raw_dtype=quantise)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def interleaved(
    weight: np.ndarray[Any, np.dtype[np.float32]],
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """GGUF's row order, row by row: rope pairs (i, i + half) become neighbours."""
    rows_per_head = len(weight) // HEADS
    half = rows_per_head // 2
    order = [
        head * rows_per_head + pair + side * half
        for head in range(HEADS)
        for pair in range(half)
        for side in range(2)
    ]
    return np.ascontiguousarray(weight[order])


def test_query_rows_come_back_in_mlx_order(tmp_path: Path) -> None:
    expected = write_gguf(tmp_path / "m.gguf")

    convert_gguf(tmp_path / "m.gguf", tmp_path, quiet)

    weights = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(
        weights["model.layers.0.self_attn.q_proj.weight"], expected["blk.0.attn_q"]
    )
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], expected["token_embd"])


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (gguf.GGMLQuantizationType.F16, 2e-3),
        (gguf.GGMLQuantizationType.Q8_0, 2e-2),
        (gguf.GGMLQuantizationType.Q4_1, 0.3),
    ],
)
def test_quantised_weights_come_close(
    tmp_path: Path, kind: gguf.GGMLQuantizationType, tolerance: float
) -> None:
    expected = write_gguf(tmp_path / "m.gguf", quantise=kind)

    convert_gguf(tmp_path / "m.gguf", tmp_path, quiet)

    weights = load_file(tmp_path / "model.safetensors")
    found = weights["model.layers.0.self_attn.q_proj.weight"]
    np.testing.assert_allclose(found, expected["blk.0.attn_q"], atol=tolerance)


def test_progress_rises_and_names_the_steps(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    shares: list[float] = []

    convert_gguf(tmp_path / "m.gguf", tmp_path, lambda share, _text: shares.append(share))

    assert shares == sorted(shares)
    assert len(shares) >= 4


def test_other_architecture_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", architecture="mamba")

    with pytest.raises(ModelLoadError, match="mamba"):
        convert_gguf(tmp_path / "m.gguf", tmp_path, quiet)


def test_other_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", pre="llama-bpe")

    with pytest.raises(ModelLoadError, match="llama-bpe"):
        convert_gguf(tmp_path / "m.gguf", tmp_path, quiet)


def test_unknown_tensor_is_refused_and_not_left_out(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", extra_tensor="blk.0.attn_q_norm")

    with pytest.raises(ModelLoadError, match="attn_q_norm"):
        convert_gguf(tmp_path / "m.gguf", tmp_path, quiet)


def test_rope_scaling_is_refused_and_not_ignored(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", scaling="yarn")

    with pytest.raises(ModelLoadError, match="yarn"):
        convert_gguf(tmp_path / "m.gguf", tmp_path, quiet)


def test_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"not a model at all, just some bytes")

    with pytest.raises(ModelLoadError, match="not a readable GGUF"):
        convert_gguf(tmp_path / "m.gguf", tmp_path, quiet)
