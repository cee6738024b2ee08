"""Finds stop strings in text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Passes text on, except what is or may yet become a stop string.

    Where several stop strings could match, the one that is complete first wins, and of those the
    longest: so the outcome does not depend on how the text was cut into pieces. Costs a few steps
    per character and stop string (Knuth-Morris-Pratt), however long the text is.

    Args:
        stops: The stop strings, none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._progress = [_StopProgress(stop) for stop in stops]
        self._held = ""
        self._is_over = False

    def feed(self, text: str) -> tuple[str, str | None]:
        """Takes the next piece.

        Returns:
            The text that may go out now, and the stop string that was completed, or None. After
            a match nothing more comes out.
        """
        if self._is_over:
            return "", None
        if not self._progress:
            return text, None
        held = self._held + text
        for end, char in enumerate(text, start=len(self._held) + 1):
            complete = [stop for stop in self._progress if stop.advance(char)]
            if complete:
                longest = max((stop.text for stop in complete), key=len)
                self._is_over = True
                self._held = ""
                return held[: end - len(longest)], longest
        num_held = max(stop.num_matched for stop in self._progress)
        num_out = len(held) - num_held
        self._held = held[num_out:]
        return held[:num_out], None

    def flush(self) -> str:
        """What is held back, at the end of the text."""
        held, self._held = self._held, ""
        self._is_over = True
        return held


class _StopProgress:
    """How much of one stop string the text so far ends with."""

    __slots__ = ("_borders", "num_matched", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.num_matched = 0
        self._borders = _border_lengths(text)

    def advance(self, char: str) -> bool:
        """Takes one character; True when it completes the stop string."""
        matched = self.num_matched
        while matched and self.text[matched] != char:
            matched = self._borders[matched - 1]
        if self.text[matched] == char:
            matched += 1
        self.num_matched = matched
        return matched == len(self.text)


def _border_lengths(text: str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix."""
    borders = [0] * len(text)
    length = 0
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = borders[length - 1]
        if text[index] == text[length]:
            length += 1
        borders[index] = length
    return borders
