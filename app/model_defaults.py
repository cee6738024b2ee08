"""Settings of single models, by their names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.setting_values import parse_choice, parse_number, parse_one_of
from engine.cache.quantisation import KV_BITS, KV_GROUP_SIZES
from engine.models.defaults import NO_DEFAULTS, ModelDefaults, ToolFormat

MAX_PREFIX_CHARS = 20_000
_FORM = 'must be a table of models, like {"org/name": {"temperature": 0.7}}'


@dataclass(frozen=True, slots=True)
class NamedDefaults:
    """What is set for one model.

    Attributes:
        model: What the settings call it.
        defaults: What is set.
    """

    model: str
    defaults: ModelDefaults

    def as_data(self) -> dict[str, Any]:
        """What is set, under the names it was given by."""
        fields, unset = asdict(self.defaults), asdict(NO_DEFAULTS)
        others = {name: value for name, value in fields.items() if value != unset[name]}
        return {**others.pop("sampling", {}), **others}


def _parse_prefix(given: object) -> str:
    is_text = isinstance(given, str) and all(c.isprintable() or c in "\n\t" for c in given)
    if not isinstance(given, str) or not is_text or len(given) > MAX_PREFIX_CHARS:
        raise ValueError(f"must be text of at most {MAX_PREFIX_CHARS} characters")
    return given.strip()


_SAMPLING: Mapping[str, Callable[[object], Any]] = {
    "temperature": parse_number(float, 0, 5),
    "top_p": parse_number(float, 0, 1),
    "top_k": parse_number(int, 0, 1_000_000),
    "min_p": parse_number(float, 0, 1),
    "repetition_penalty": parse_number(float, 0.01, 10),
    "presence_penalty": parse_number(float, -2, 2),
    "frequency_penalty": parse_number(float, -2, 2),
}
_OTHERS: Mapping[str, Callable[[object], Any]] = {
    "context_tokens": parse_number(int, 0, 100_000_000),
    "kv_bits": parse_one_of(0, *KV_BITS),
    "kv_group_size": parse_one_of(*KV_GROUP_SIZES),
    "system_prefix": _parse_prefix,
    "tool_format": parse_choice(*ToolFormat),
}


def parse_model_defaults(given: object) -> tuple[NamedDefaults, ...]:
    """Tables by model, of TOML or as JSON text.

    Raises:
        ValueError: It is neither, or a value cannot be used; worded to follow the setting's name.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise ValueError(_FORM) from None
    if not isinstance(given, Mapping):
        raise ValueError(_FORM)
    return tuple(NamedDefaults(str(model), _parse(model, table)) for model, table in given.items())


def _parse(model: str, table: object) -> ModelDefaults:
    if not isinstance(table, Mapping):
        raise ValueError(_FORM)
    if not model.isprintable() or not model.strip():
        raise ValueError("must call each model by its name")
    values: dict[str, Any] = {}
    for name, value in table.items():
        parse = {**_SAMPLING, **_OTHERS}.get(name)
        if parse is None:
            close = difflib.get_close_matches(name, [*_SAMPLING, *_OTHERS], n=1)
            hint = close[0] if close else ", ".join([*_SAMPLING, *_OTHERS])
            raise ValueError(f"cannot have {name!r} for {model!r}: did you mean {hint}?")
        try:
            values[name] = parse(value)
        except ValueError as error:
            raise ValueError(f"of {model!r}: {name} {error}, not {value!r}") from error
    sampling = {name: values.pop(name) for name in _SAMPLING if name in values}
    if "tool_format" in values:
        values["tool_format"] = ToolFormat(values["tool_format"])
    return ModelDefaults(sampling=sampling, **values)


def defaults_of(named: Sequence[NamedDefaults], *names: str) -> ModelDefaults:
    """What is set for a model.

    Args:
        named: All that is set.
        names: What the model is called; the first that something is set for counts.
    """
    by_name = {each.model: each.defaults for each in named}
    return next((by_name[name] for name in names if name in by_name), NO_DEFAULTS)
