"""Whether a value fits a JSON schema, of the keywords that tests use."""

from __future__ import annotations

from typing import Any

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a parsed JSON value fits."""
    if "anyOf" in schema:
        return any(fits(value, choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return any(value == each and type(value) is type(each) for each in schema["enum"])
    kind = schema["type"]
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    match kind:
        case "object":
            return _fits_object(value, schema)
        case "array":
            is_long_enough = len(value) >= schema.get("minItems", 0)
            is_short_enough = len(value) <= schema.get("maxItems", len(value))
            items = schema.get("items")
            members_fit = items is None or all(fits(each, items) for each in value)
            return is_long_enough and is_short_enough and members_fit
        case "string":
            is_long_enough = len(value) >= schema.get("minLength", 0)
            return is_long_enough and len(value) <= schema.get("maxLength", len(value))
        case "integer":
            return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _fits_object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    properties = schema.get("properties", {})
    if any(name not in value for name in schema.get("required", ())):
        return False
    if schema.get("additionalProperties") is False and not set(value) <= set(properties):
        return False
    return all(fits(value[name], part) for name, part in properties.items() if name in value)
