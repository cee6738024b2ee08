"""Builds a ``tokenizer.json`` from the tokenizer metadata of a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from engine.errors import ModelLoadError

_CONTROL = 3
"""GGUF's token type of special tokens."""
_USER_DEFINED = 4
_END_OF_TEXT = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>")
"""Control tokens that end a reply whatever the file's single end-of-sequence id says."""


def write_tokenizer(metadata: dict[str, Any], folder: Path, *, max_context_tokens: int) -> None:
    """Writes ``tokenizer.json`` and ``tokenizer_config.json``, chat template included.

    Args:
        metadata: All fields of the GGUF file by name.
        folder: Where to write.
        max_context_tokens: The model's context limit in tokens.

    Raises:
        ModelLoadError: The tokenizer is of a kind that is not supported; the message names it.
    """
    _build_tokenizer(metadata).save(str(folder / "tokenizer.json"))
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_context_tokens,
    }
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    for gguf_name, name in names.items():
        token_id = metadata.get(f"tokenizer.ggml.{gguf_name}_token_id")
        if token_id is not None:
            config[f"{name}_token"] = tokens[token_id]
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata["tokenizer.chat_template"]
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, "utf-8")


def end_token_ids(metadata: dict[str, Any]) -> list[int]:
    """Ids of the tokens that end a reply; the file's own end-of-sequence id is the first."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"]
    ends = [
        token_id
        for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind == _CONTROL and token in _END_OF_TEXT
    ]
    own = metadata.get("tokenizer.ggml.eos_token_id")
    return list(dict.fromkeys(ends if own is None else [own, *ends]))


def _build_tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if (kind, pre) != ("gpt2", "smollm"):
        raise ModelLoadError(f"GGUF tokenizer {kind!r} with splitter {pre!r} is not supported")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types: list[int] = metadata["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(_added_tokens(tokens, types, _CONTROL))
    tokenizer.add_tokens(_added_tokens(tokens, types, _USER_DEFINED))
    return tokenizer


def _added_tokens(tokens: list[str], types: list[int], kind: int) -> list[AddedToken]:
    return [
        AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, token_kind in zip(tokens, types, strict=True)
        if token_kind == kind
    ]
