"""A turn that may generate nothing computes its prompt and leaves it in the cache."""

from __future__ import annotations

import pytest

from engine.core import EngineCore
from engine.request import FinishReason
from tests.engine.counting_model import continuation, make_core
from tests.engine.turns import Turn, check, run, submit

PROMPT = [(i * 31) % 997 for i in range(700)]


def assert_warm(core: EngineCore, turn: Turn) -> None:
    assert turn.finish_reason is FinishReason.MAX_TOKENS
    assert turn.token_ids == []
    assert "".join(delta.text for delta in turn.deltas) == ""
    assert turn.deltas[-1].usage.num_generated_tokens == 0
    assert turn.deltas[-1].usage.ttft_s is None
    check(core)


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 512, 700])
def test_the_turn_after_it_computes_one_token(length: int) -> None:
    core, runner, _ = make_core()
    warm = submit(core, "a", PROMPT[:length], max_tokens=0)
    run(core)
    assert_warm(core, warm)
    assert runner.num_prefilled == length - 1
    turn = submit(core, "a", PROMPT[:length])
    run(core)
    assert turn.num_cached_tokens == length - 1
    assert runner.num_prefilled == length - 1
    assert turn.token_ids == continuation(turn.prompt, 8)
    check(core)


def test_other_agents_share_what_it_computed() -> None:
    core, _, _ = make_core()
    submit(core, "a", PROMPT, max_tokens=0)
    run(core)
    turn = submit(core, "b", PROMPT)
    run(core)
    assert turn.num_cached_tokens == 512


def test_what_is_warm_already_is_not_computed_again() -> None:
    core, runner, _ = make_core()
    first = submit(core, "a", PROMPT)
    run(core)
    num_prefilled = runner.num_prefilled
    warm = submit(core, "a", PROMPT, max_tokens=0)
    run(core)
    assert_warm(core, warm)
    assert runner.num_prefilled == num_prefilled
    again = submit(core, "a", [*PROMPT, *first.token_ids, 5])
    run(core)
    assert again.token_ids == continuation(again.prompt, 8)


def test_the_turns_beside_it_and_behind_it_go_on() -> None:
    core, _, _ = make_core()
    turns = [submit(core, "a", [*PROMPT, 1]), submit(core, "b", [2, *PROMPT], max_tokens=0)]
    turns += [submit(core, "b", [2, *PROMPT, 3]), submit(core, "c", [4, *PROMPT], max_tokens=0)]
    run(core)
    assert [len(turn.token_ids) for turn in turns] == [8, 0, 8, 0]
    for turn in turns:
        assert turn.token_ids == continuation(turn.prompt, len(turn.token_ids))
    check(core)
