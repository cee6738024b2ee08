"""Imports a llama-architecture GGUF file as an MLX model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from engine.errors import ModelLoadError
from engine.models.gguf_tokenizer import end_token_ids, write_tokenizer

Progress = Callable[[float, str], None]
"""Told the share that is done (0-1) and what is being done; may raise to cancel."""

_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert_gguf(path: Path, folder: Path, progress: Progress) -> None:
    """Writes config, tokenizer and float32 weights of a GGUF file into an empty folder.

    Weights are stored as float32 because that alone keeps the dequantised values: a 4-bit group
    is ``scale * level + minimum`` with 16-bit factors, and the sum does not fit 16 bits again.

    Args:
        path: The GGUF file.
        folder: Where to write ``config.json``, ``generation_config.json``, ``tokenizer.json``,
            ``tokenizer_config.json`` and ``model.safetensors``.
        progress: Called between steps.

    Raises:
        ModelLoadError: The file is not GGUF, or of a kind that is not supported; the message
            names it.
        OSError: The folder cannot be written.
    """
    progress(0.0, f"reading {path.name}")
    reader = _open_reader(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    config = _model_config(metadata, {tensor.name for tensor in reader.tensors}, path.name)
    progress(0.3, "building the tokenizer")
    write_tokenizer(metadata, folder, max_context_tokens=config["max_position_embeddings"])
    ends = end_token_ids(metadata)
    config |= {"bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"), "eos_token_id": ends}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"eos_token_id": ends})
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for index, tensor in enumerate(reader.tensors):
        progress(0.4 + 0.4 * index / len(reader.tensors), "dequantising weights")
        weights[_weight_name(tensor.name)] = _dequantise(tensor, config)
    progress(0.8, "writing weights")
    save_file(weights, folder / "model.safetensors", metadata={"format": "mlx"})


def _open_reader(path: Path) -> Any:
    try:
        return gguf.GGUFReader(path)
    except FileNotFoundError:
        raise ModelLoadError(f"{path} does not exist") from None
    except (ValueError, IndexError, KeyError) as error:
        raise ModelLoadError(f"{path} is not a readable GGUF file: {error}") from error


def _model_config(metadata: dict[str, Any], tensors: set[str], name: str) -> dict[str, Any]:
    """The ``config.json`` of the model, without token ids."""
    _check_supported(metadata, name)
    num_heads = metadata["llama.attention.head_count"]
    hidden_size = metadata["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "intermediate_size": metadata["llama.feed_forward_length"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_attention_heads": num_heads,
        "num_key_value_heads": metadata.get("llama.attention.head_count_kv", num_heads),
        "head_dim": metadata.get("llama.attention.key_length", hidden_size // num_heads),
        "max_position_embeddings": metadata["llama.context_length"],
        "rms_norm_eps": _shortest(metadata["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": _shortest(metadata.get("llama.rope.freq_base", 10000.0)),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": False,
        "mlp_bias": False,
    }


def _check_supported(metadata: dict[str, Any], name: str) -> None:
    """Refuses what would be computed wrongly, by name.

    Raises:
        ModelLoadError: The architecture, its rope scaling or its experts are not supported.
    """
    architecture = metadata.get("general.architecture", "unnamed")
    if architecture != "llama":
        raise ModelLoadError(f"{name}: GGUF architecture {architecture!r} is not supported")
    scaling = metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ModelLoadError(f"{name}: rope scaling {scaling!r} is not supported in GGUF")
    if metadata.get("llama.expert_count"):
        raise ModelLoadError(f"{name}: mixture-of-experts GGUF files are not supported")
    required = (
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "llama.context_length",
        "tokenizer.ggml.tokens",
    )
    missing = [key for key in required if key not in metadata]
    if missing:
        raise ModelLoadError(f"{name}: the GGUF file lacks {', '.join(missing)}")


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05 instead of 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _weight_name(name: str) -> str:
    """The MLX name of a GGUF tensor, e.g. ``blk.3.attn_q.weight``.

    Raises:
        ModelLoadError: There is no such weight in a plain llama model.
    """
    if name in _GLOBAL_NAMES:
        return _GLOBAL_NAMES[name]
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.weight"
    raise ModelLoadError(f"GGUF tensor {name!r} is not supported")


def _dequantise(tensor: Any, config: dict[str, Any]) -> npt.NDArray[np.float32]:
    """One tensor as float32 of shape (rows, columns), rope rows in MLX order."""
    try:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        kind = tensor.tensor_type.name
        raise ModelLoadError(f"GGUF quantisation {kind} is not supported") from error
    weight = np.ascontiguousarray(values, dtype=np.float32)
    if ".attn_q." in tensor.name:
        return _unpermute(weight, config["num_attention_heads"])
    if ".attn_k." in tensor.name:
        return _unpermute(weight, config["num_key_value_heads"])
    return weight


def _unpermute(weight: npt.NDArray[np.float32], num_heads: int) -> npt.NDArray[np.float32]:
    """Undoes GGUF's row order, which interleaves the two rope halves of each head."""
    rows, columns = weight.shape
    halves = weight.reshape(num_heads, rows // num_heads // 2, 2, columns).swapaxes(1, 2)
    return np.ascontiguousarray(halves.reshape(rows, columns))


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n", "utf-8")
