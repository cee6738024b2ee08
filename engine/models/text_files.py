"""The files of a model folder that say how the model reads and writes text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import ModelLoadError
from engine.models.codec import TextCodec
from engine.models.template import ChatTemplate

_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file.
        optional: Whether it may be missing; then the object is empty.

    Raises:
        ModelLoadError: It is missing or damaged.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise ModelLoadError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise ModelLoadError(f"{path} is not a JSON object")
    return fields


def read_codec(folder: Path) -> TextCodec:
    """The tokenizer of a model folder.

    Raises:
        ModelLoadError: It is missing or damaged.
    """
    path = folder / "tokenizer.json"
    try:
        return TextCodec(path.read_bytes())
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelLoadError(f"{path} is not a tokenizer: {error}") from error


def read_template(folder: Path, tokenizer_config: dict[str, Any]) -> ChatTemplate | None:
    """The chat template of a model folder; None where it has none.

    Raises:
        ModelLoadError: It is not valid.
    """
    path = folder / "chat_template.jinja"
    source = path.read_text("utf-8") if path.is_file() else tokenizer_config.get("chat_template")
    if isinstance(source, list):  # several by name
        named = {entry["name"]: entry["template"] for entry in source}
        source = named.get("default") or next(iter(named.values()), None)
    if not source:
        return None
    variables = {name: token_text(tokenizer_config.get(name)) for name in _TOKEN_NAMES}
    return ChatTemplate(source, variables)


def token_text(token: object) -> str:
    """A token of ``tokenizer_config.json``: plain, or an object with ``content``."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def context_limit(config: dict[str, Any], folder: Path) -> int:
    """The most tokens that a model can hold.

    Raises:
        ModelLoadError: Its ``config.json`` does not say.
    """
    for fields in (config, config.get("text_config") or {}):
        limit = fields.get("max_position_embeddings")
        if isinstance(limit, int) and limit > 0:
            return limit
    raise ModelLoadError(f"{folder / 'config.json'} has no max_position_embeddings")


def configured_ends(folder: Path, config: dict[str, Any]) -> set[int | None]:
    """End-of-sequence ids of ``config.json`` and ``generation_config.json``."""
    generation = read_json(folder / "generation_config.json", optional=True)
    ends: set[int | None] = set()
    for fields in (config, config.get("text_config") or {}, generation):
        ends.update(_as_ids(fields.get("eos_token_id")))
    return ends


def _as_ids(value: object) -> Iterable[int]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, int)]
