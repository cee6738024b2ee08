from __future__ import annotations

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.models.stops import StopMatcher

TEXT = st.text(alphabet="ab", max_size=30)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=4).map(tuple)


def first_stop(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """The text before the stop string that is complete first, the longest of those; by trying."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@settings(max_examples=500)
@given(text=TEXT, stops=STOPS, cuts=st.lists(st.integers(0, 1000), max_size=8))
@example(text="aaab", stops=("aab",), cuts=[2])
@example(text="xaab", stops=("b", "aab", "ab"), cuts=[3])
@example(text="aabaabaaa", stops=("aabaaa",), cuts=[3, 6])
def test_outcome_is_the_same_however_the_text_is_cut(
    text: str, stops: tuple[str, ...], cuts: list[int]
) -> None:
    matcher = StopMatcher(stops)
    shown, found = "", None

    for piece in pieces_of(text, cuts):
        more, matched = matcher.feed(piece)
        shown += more
        found = found or matched
        if found:
            break
    else:
        shown += matcher.flush()

    assert (shown, found) == first_stop(text, stops)


@given(text=TEXT, stops=STOPS)
def test_text_is_held_back_no_longer_than_needed(text: str, stops: tuple[str, ...]) -> None:
    matcher = StopMatcher(stops)
    shown = ""
    for index, char in enumerate(text):
        more, matched = matcher.feed(char)
        shown += more
        if matched:
            return
        held = text[len(shown) : index + 1]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_nothing_comes_after_a_match() -> None:
    matcher = StopMatcher(("END",))

    assert matcher.feed("one END two") == ("one ", "END")
    assert matcher.feed("three") == ("", None)
    assert matcher.flush() == ""


def test_without_stop_strings_text_passes_at_once() -> None:
    matcher = StopMatcher(())

    assert matcher.feed("anything") == ("anything", None)
    assert matcher.flush() == ""
