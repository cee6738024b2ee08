"""Whether a value fits a JSON schema, of the keywords that tests use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a parsed JSON value fits."""
    if "anyOf" in schema:
        return any(fits(value, choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return any(value == each and type(value) is type(each) for each in schema["enum"])
    return _CHECKS[schema["type"]](value, schema)


def _fits_object(value: Any, schema: dict[str, Any]) -> bool:
    properties = schema.get("properties", {})
    if not isinstance(value, dict) or any(name not in value for name in schema["required"]):
        return False
    if schema.get("additionalProperties") is False and not set(value) <= set(properties):
        return False
    return all(fits(value[name], part) for name, part in properties.items() if name in value)


def _fits_array(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, list):
        return False
    least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
    return least <= len(value) <= most and all(fits(each, schema["items"]) for each in value)


def _fits_string(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, str):
        return False
    least, most = schema.get("minLength", 0), schema.get("maxLength", len(value))
    return bool(least <= len(value) <= most)


def _fits_integer(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


_CHECKS: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "object": _fits_object,
    "array": _fits_array,
    "string": _fits_string,
    "integer": _fits_integer,
    "boolean": lambda value, _: isinstance(value, bool),
    "null": lambda value, _: value is None,
}
