"""The agent that is meant by a prompt is the one whose last prompt is its longest beginning."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.cache.prompt_index import PromptIndex, prompt_digest

# Two words only, so that prompts begin with each other.
PROMPTS = st.lists(st.integers(1, 2), min_size=1, max_size=6)


@given(
    known=st.lists(PROMPTS, max_size=12),
    removed=st.sets(st.integers(0, 11)),
    prompt=st.lists(st.integers(1, 2), max_size=8),
)
def test_owners_of_prefixes_come_longest_first(
    known: list[list[int]], removed: set[int], prompt: list[int]
) -> None:
    index: PromptIndex[int] = PromptIndex()
    for number, tokens in enumerate(known):
        index.add(len(tokens), prompt_digest(tokens), number)
    for number in removed & set(range(len(known))):
        index.remove(len(known[number]), prompt_digest(known[number]), number)
    kept = {n: t for n, t in enumerate(known) if n not in removed}
    expected = {number for number, tokens in kept.items() if prompt[: len(tokens)] == tokens}

    found = list(index.prefixes_of(prompt))

    assert sorted(found) == sorted(expected)
    lengths = [len(known[number]) for number in found]
    assert lengths == sorted(lengths, reverse=True)


def test_what_was_not_added_is_not_removed() -> None:
    index: PromptIndex[str] = PromptIndex()
    index.add(2, prompt_digest([1, 2]), "a")
    index.remove(3, prompt_digest([1, 2, 3]), "a")
    index.remove(2, prompt_digest([1, 2]), "b")
    assert list(index.prefixes_of([1, 2, 3])) == ["a"]
