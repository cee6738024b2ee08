"""What a JSON schema must be before it is made into a grammar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import InvalidRequestError

MAX_SCHEMA_CHARS = 100_000
MAX_SCHEMA_DEPTH = 60
MAX_VISITS = 200_000
"""Parts of a schema that are looked at to follow its references; a hostile one has no end."""


def parse_schema(text: str, owner: str) -> dict[str, Any]:
    """A schema that is sound enough to be compiled.

    Args:
        text: The schema as JSON.
        owner: Which one it is, for the message: ``the response schema``.

    Raises:
        InvalidRequestError: It is no JSON object, too long, too deep, or nothing finite fits it.
    """
    if len(text) > MAX_SCHEMA_CHARS:
        raise InvalidRequestError(
            f"{owner} has {len(text)} characters; at most {MAX_SCHEMA_CHARS} can be enforced"
        )
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequestError(f"{owner} is not JSON") from None
    if not isinstance(schema, dict):
        raise InvalidRequestError(f"{owner} must be a JSON object")
    if not _is_shallow(schema, MAX_SCHEMA_DEPTH):
        raise InvalidRequestError(
            f"{owner} is nested more than {MAX_SCHEMA_DEPTH} levels deep; make it flatter"
        )
    if not _Endings(schema, owner).can_end(schema):
        raise InvalidRequestError(
            f"{owner} refers to itself without end; make one of the properties on the way optional"
        )
    return schema


def _is_shallow(value: object, num_levels: int) -> bool:
    children: list[object] = []
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    return not children or (
        num_levels > 0 and all(_is_shallow(child, num_levels - 1) for child in children)
    )


class _Endings:
    """Which parts of a schema a finite value fits, as far as references decide it.

    Args:
        root: The whole schema.
        owner: Which schema it is, for the message.
    """

    def __init__(self, root: Mapping[str, Any], owner: str) -> None:
        self._root = root
        self._owner = owner
        self._num_visits = 0
        self._ending: set[str] = set()
        # The references that can end are the least fixed point: each round finds those that need
        # only what was found before.
        references = set(_references(root))
        while found := {each for each in references - self._ending if self._target_ends(each)}:
            self._ending |= found

    def can_end(self, schema: object) -> bool:
        """Whether a finite value can fit a part of the schema."""
        self._num_visits += 1
        if self._num_visits > MAX_VISITS:
            raise InvalidRequestError(f"{self._owner} has too many references; use fewer")
        if not isinstance(schema, dict):
            return True
        reference = schema.get("$ref")
        if _is_local(reference) and reference not in self._ending:
            return False
        if not all(map(self.can_end, _items(schema.get("allOf")))):
            return False
        for keyword in ("anyOf", "oneOf"):
            choices = _items(schema.get(keyword))
            if choices and not any(map(self.can_end, choices)):
                return False
        return self._members_end(schema) or not _needs_members(schema)

    def _members_end(self, schema: Mapping[str, Any]) -> bool:
        """Whether the members that an object or array must have can end."""
        return all(map(self.can_end, _due_members(schema)))

    def _target_ends(self, reference: str) -> bool:
        target: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and key in target:
                target = target[key]
            elif isinstance(target, list) and key.isdecimal() and int(key) < len(target):
                target = target[int(key)]
            else:
                return True  # the compiler says what is wrong with it
        return self.can_end(target)


def _needs_members(schema: Mapping[str, Any]) -> bool:
    """Whether every value that fits is an object or an array."""
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else _items(kinds)
    return bool(kinds) and all(kind in ("object", "array") for kind in kinds)


def _due_members(schema: Mapping[str, Any]) -> Iterator[object]:
    properties = schema.get("properties")
    if isinstance(properties, dict):
        yield from (properties.get(name) for name in _items(schema.get("required")))
    num_due = schema.get("minItems", 0)
    if isinstance(num_due, int) and num_due > 0:
        first = _items(schema.get("prefixItems"))[:num_due]
        yield from first
        if len(first) < num_due:
            yield schema.get("items")


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if _is_local(value.get("$ref")):
            yield value["$ref"]
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def _is_local(reference: object) -> bool:
    return isinstance(reference, str) and (reference == "#" or reference.startswith("#/"))


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
