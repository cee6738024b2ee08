"""The pure miss explainer: numbers that add up, and the right cause for each kind of loss."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cache.earlier_context import EarlierContext
from engine.cache.last_turn import LastTurn, from_scalars, to_scalars
from engine.cache.miss import CacheState, explain_miss, found_later
from engine.request import PromptPart
from engine.snapshot import MissCause, MissRow

PARTS = (
    PromptPart("tools", 0),
    PromptPart("system", 400),
    PromptPart("message 1 (user)", 1000),
    PromptPart("reply", 1290),
)
WORDS = {1: "in", 2: "forma", 3: "tion", 4: "information", 5: " is", 6: " was", 7: "infor"}


def spell(token_ids: Sequence[int]) -> str:
    return "".join(WORDS.get(token, "?") for token in token_ids)


def explain(
    earlier: EarlierContext,
    num_prompt: int = 1300,
    num_hot: int = 0,
    num_warm: int = 0,
    state: CacheState = CacheState(),  # noqa: B008 - frozen
) -> MissRow:
    return explain_miss(
        earlier,
        range(num_prompt),
        num_hot_tokens=num_hot,
        num_warm_tokens=num_warm,
        state=state,
        parts=PARTS,
        spell=spell,
    )


def test_a_changed_system_prompt_is_named_with_its_place_and_price() -> None:
    earlier = EarlierContext(num_tokens=1100, changed_token=468, is_in_memory=True)
    miss = explain(earlier, num_hot=468)
    assert (miss.cause, miss.part, miss.changed_token) == (MissCause.CHANGED_TEXT, "system", 468)
    assert (miss.num_hot_tokens, miss.num_lost_tokens, miss.num_new_tokens) == (468, 632, 200)
    assert miss.words == "system changed at token 468: 632 tokens"


@pytest.mark.parametrize(
    ("lost_s", "words"),
    [(0.034, "0.03 s"), (1.13, "1.1 s"), (23.6, "24 s")],
)
def test_seconds_have_the_digits_that_matter(lost_s: float, words: str) -> None:
    miss = MissRow(
        num_lost_tokens=632,
        cause=MissCause.CHANGED_TEXT,
        changed_token=1012,
        part="system",
        lost_s=lost_s,
    )
    assert miss.words == f"system changed at token 1012: 632 tokens, {words}"


def test_a_turn_that_only_adds_loses_nothing() -> None:
    miss = explain(EarlierContext(num_tokens=900, is_in_memory=True), num_hot=900)
    assert not miss.is_miss
    assert miss.words == "nothing was lost"
    assert miss.num_new_tokens == 400


def test_the_last_token_is_always_new_and_never_lost() -> None:
    miss = explain(EarlierContext(num_tokens=1400, is_in_memory=True), num_hot=1299)
    assert not miss.is_miss
    assert miss.num_new_tokens == 1


def test_a_first_turn_is_no_miss() -> None:
    miss = explain(EarlierContext(is_first=True), num_hot=512)
    assert miss.cause is MissCause.FIRST_TURN
    assert not miss.is_miss
    assert miss.num_new_tokens == 1300 - 512


@pytest.mark.parametrize(
    ("earlier", "state", "cause"),
    [
        ({"is_evicted": True}, {}, MissCause.EVICTED),
        ({"is_evicted": True, "num_saved_tokens": 256}, {}, MissCause.EVICTED),
        ({"is_evicted": True, "num_saved_tokens": 900}, {}, MissCause.NOT_ON_DISK),
        ({"num_saved_tokens": 900}, {}, MissCause.NOT_ON_DISK),
        ({"num_saved_tokens": 900}, {"is_on_disk": True}, MissCause.NO_ROOM),
        (
            {"num_saved_tokens": 900},
            {"is_on_disk": True, "needs_checkpoints": True},
            MissCause.NO_CHECKPOINT,
        ),
        ({"is_in_memory": True}, {"needs_checkpoints": True}, MissCause.NO_CHECKPOINT),
        ({"is_in_memory": True}, {"is_trusted": False}, MissCause.DISTRUSTED),
        ({}, {"reuses": False}, MissCause.NOT_REUSABLE),
    ],
)
def test_an_absence_is_told_apart_by_what_is_known_of_it(
    earlier: dict[str, int], state: dict[str, bool], cause: MissCause
) -> None:
    context = EarlierContext(num_tokens=1000, **earlier)  # type: ignore[arg-type]
    miss = explain(context, num_hot=256, state=CacheState(**state))
    assert (miss.cause, miss.num_lost_tokens) == (cause, 744)
    assert (miss.changed_token, miss.part) == (None, "")
    assert miss.words.endswith(": 744 tokens")


def test_the_greater_loss_gives_the_cause() -> None:
    evicted = EarlierContext(num_tokens=1100, changed_token=1050, is_evicted=True)
    assert explain(evicted).cause is MissCause.EVICTED
    early = EarlierContext(num_tokens=1100, changed_token=200, is_evicted=True)
    assert explain(early).cause is MissCause.CHANGED_TEXT


def test_a_change_that_sends_a_turn_back_to_a_checkpoint_is_the_cause() -> None:
    earlier = EarlierContext(num_tokens=1100, changed_token=1050, is_in_memory=True)
    miss = explain(earlier, num_hot=400, state=CacheState(needs_checkpoints=True))
    assert (miss.cause, miss.part) == (MissCause.CHANGED_TEXT, "message 1 (user)")
    assert miss.num_lost_tokens == 700


@pytest.mark.parametrize(
    ("was", "now", "cause"),
    [
        ((4, 5), (1, 2, 3, 5), MissCause.TOKENISED_DIFFERENTLY),
        ((1, 2, 3, 5), (4, 5), MissCause.TOKENISED_DIFFERENTLY),
        ((4, 5), (1, 2, 3, 6), MissCause.TOKENISED_DIFFERENTLY),
        ((7,), (4, 6), MissCause.TOKENISED_DIFFERENTLY),
        ((5,), (6,), MissCause.CHANGED_TEXT),
        ((1, 5), (4, 6), MissCause.CHANGED_TEXT),
        ((), (4,), MissCause.CHANGED_TEXT),
    ],
)
def test_the_same_text_in_other_tokens_is_told_from_another_text(
    was: tuple[int, ...], now: tuple[int, ...], cause: MissCause
) -> None:
    prompt = (9, *now, 9, 9, 9, 9)
    earlier = EarlierContext(num_tokens=5, changed_token=1, following=was, is_in_memory=True)
    miss = explain_miss(
        earlier, prompt, num_hot_tokens=1, num_warm_tokens=0, state=CacheState(), spell=spell
    )
    assert miss.cause is cause
    assert miss.words.startswith(
        "prompt tokenised differently at token 1"
        if cause is MissCause.TOKENISED_DIFFERENTLY
        else "prompt changed at token 1"
    )


def test_what_others_computed_meanwhile_is_taken_off_the_loss() -> None:
    earlier = EarlierContext(num_tokens=1000, changed_token=512, is_in_memory=True)
    miss = explain(earlier, num_hot=512)
    assert (miss.num_lost_tokens, miss.num_new_tokens) == (488, 300)

    across = found_later(miss, 768, 512, earlier)
    assert (across.num_hot_tokens, across.num_lost_tokens, across.num_new_tokens) == (1024, 256, 20)
    assert across.cause is MissCause.CHANGED_TEXT

    all_of_it = found_later(miss, 512, 768, earlier)
    assert (all_of_it.num_lost_tokens, all_of_it.num_new_tokens) == (0, 20)
    assert not all_of_it.is_miss


def test_another_models_cache_is_named_and_only_proven_tokens_are_lost() -> None:
    unknown = explain(EarlierContext(foreign_cause=MissCause.OTHER_MODEL))
    assert unknown.words == "its cache is another model's"
    assert (unknown.num_lost_tokens, unknown.num_new_tokens) == (0, 1300)
    same = explain(EarlierContext(num_tokens=768, foreign_cause=MissCause.OTHER_KV_FORMAT))
    assert same.words == "its cache is in another KV format: 768 tokens"


@given(data=st.data())
def test_the_counts_add_up_to_the_prompt(data: st.DataObject) -> None:
    num_prompt = data.draw(st.integers(1, 3000))
    num_found = data.draw(st.integers(0, num_prompt - 1))
    num_warm = data.draw(st.integers(0, num_found))
    earlier = EarlierContext(
        num_tokens=data.draw(st.integers(0, 4000)),
        changed_token=data.draw(st.none() | st.integers(0, 3000)),
        num_saved_tokens=data.draw(st.integers(0, 4000)),
        is_in_memory=data.draw(st.booleans()),
        is_evicted=data.draw(st.booleans()),
        is_first=data.draw(st.booleans()),
    )
    state = CacheState(
        reuses=data.draw(st.booleans()),
        needs_checkpoints=data.draw(st.booleans()),
        is_on_disk=data.draw(st.booleans()),
    )
    miss = explain(earlier, num_prompt, num_found - num_warm, num_warm, state)
    start = num_found
    while True:
        counts = (
            miss.num_hot_tokens,
            miss.num_warm_tokens,
            miss.num_lost_tokens,
            miss.num_new_tokens,
        )
        assert sum(counts) == num_prompt == miss.num_prompt_tokens
        assert min(counts) >= 0
        assert miss.num_new_tokens >= 1
        assert miss.is_miss == bool(miss.num_lost_tokens)
        if start >= num_prompt - 1 or not data.draw(st.booleans()):
            break
        start = data.draw(st.integers(start, num_prompt - 2))
        num_more = data.draw(st.integers(1, num_prompt - 1 - start))
        miss = found_later(miss, start, num_more, earlier)
        start += num_more
    assert from_scalars(to_scalars(LastTurn(miss=miss))).miss == miss
