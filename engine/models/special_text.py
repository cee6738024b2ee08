"""Keeps special-token strings in client text from becoming special tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from engine.errors import InvalidRequestError

_PRIVATE_USE = range(0xE000, 0xF900)


class SpecialStrings:
    """The strings that a tokenizer turns into special tokens."""

    def __init__(self, strings: Sequence[str]) -> None:
        longest_first = sorted(strings, key=len, reverse=True)
        self._numbers = {string: number for number, string in enumerate(longest_first)}
        self._strings = longest_first
        # With no strings at all, a pattern that matches nothing.
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def occur_in(self, value: Any) -> bool:
        """Whether any text inside nested JSON-like data holds a special string."""
        return any(self._pattern.search(text) for text in _texts_of(value))

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a text in order, each with whether it is a special string."""
        position = 0
        for match in self._pattern.finditer(text):
            if match.start() > position:
                yield text[position : match.start()], False
            yield match.group(), True
            position = match.end()
        if position < len(text):
            yield text[position:], False

    def find_all(self, text: str) -> list[str]:
        """The special strings of a text in order."""
        return self._pattern.findall(text)

    def disguise(self, value: Any) -> Disguise:
        """A disguise whose marker occurs nowhere in ``value``."""
        used = {char for text in _texts_of(value) for char in text if ord(char) in _PRIVATE_USE}
        free = (chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        marker = next(free, None)
        if marker is None:
            raise InvalidRequestError("the prompt uses every private-use character of Unicode")
        return Disguise(self._pattern, self._strings, self._numbers, marker)


class Disguise:
    """Swaps special strings for placeholders before a template runs, and back after it."""

    def __init__(
        self, pattern: re.Pattern[str], strings: Sequence[str], numbers: dict[str, int], marker: str
    ) -> None:
        self.marker = marker
        self._pattern = pattern
        self._strings = strings
        self._numbers = numbers
        self._placeholder = re.compile(f"{marker}([0-9]+){marker}")

    def put_on(self, value: Any) -> Any:
        """A copy of nested JSON-like data with every special string replaced, keys included."""
        if isinstance(value, str):
            return self._pattern.sub(self._hide, value)
        if isinstance(value, dict):
            return {self.put_on(key): self.put_on(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.put_on(item) for item in value]
        return value

    def take_off(self, text: str) -> str:
        """The text with its special strings back."""
        return self._placeholder.sub(lambda match: self._strings[int(match.group(1))], text)

    def _hide(self, match: re.Match[str]) -> str:
        return f"{self.marker}{self._numbers[match.group()]}{self.marker}"


def _texts_of(value: Any) -> Iterator[str]:
    """Every string inside nested JSON-like data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts_of(key)
            yield from _texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_of(item)
