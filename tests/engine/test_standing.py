"""The cache of the last turn stands: the next turn goes on in it, and it takes nobody's room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from engine.cache.block import BLOCK_TOKENS
from engine.core import EngineCore
from tests.engine.counting_model import NOT_FINITE, CountingRunner, continuation, make_core
from tests.engine.stateful_model import StatefulRunner
from tests.engine.turns import Turn, check, run, submit


def prompt(seed: int, length: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 997 for i in range(length)]


class CountedRestores(CountingRunner):
    """Counts how often a cache is put together from blocks."""

    num_restores = 0

    def restore(self, payloads: Sequence[Any], *counts: int) -> Any:
        self.num_restores += 1
        return super().restore(payloads, *counts)


class CountedStatefulRestores(CountedRestores, StatefulRunner):
    """The same for a model that can be resumed only at checkpoints."""


def ask(core: EngineCore, agent: str, tokens: list[int]) -> Turn:
    turn = submit(core, agent, tokens, 3)
    run(core)
    assert turn.token_ids == continuation(tokens, 3), "a wrong token"
    check(core)
    return turn


def next_prompt(turn: Turn) -> list[int]:
    return [*turn.prompt, *turn.token_ids, *prompt(9, 20)]


@pytest.mark.parametrize("make_runner", [CountedRestores, CountedStatefulRestores])
def test_the_next_turn_goes_on_without_putting_anything_together(
    make_runner: type[CountedRestores],
) -> None:
    runner = make_runner()
    core, _, _ = make_core(runner=runner)
    turn = ask(core, "a", prompt(1, 700))
    later = ask(core, "a", next_prompt(turn))
    assert later.deltas[0].usage.num_cached_tokens == 702
    assert runner.num_restores == 0


def test_the_same_prompt_again_takes_the_end_back() -> None:
    runner = CountedRestores()
    core, _, _ = make_core(runner=runner)
    tokens = prompt(1, 700)
    ask(core, "a", tokens)
    again = ask(core, "a", tokens)
    changed = ask(core, "a", [*tokens[:650], *prompt(2, 80)])
    assert again.deltas[0].usage.num_cached_tokens == 699
    assert changed.deltas[0].usage.num_cached_tokens == 650
    assert runner.num_restores == 0


def test_a_state_cannot_be_taken_back_and_is_put_together() -> None:
    runner = CountedStatefulRestores()
    core, _, _ = make_core(runner=runner)
    tokens = prompt(1, 700)
    ask(core, "a", tokens)
    again = ask(core, "a", tokens)
    assert again.deltas[0].usage.num_cached_tokens == 699
    assert runner.num_restores == 1


def test_blocks_and_forks_keep_what_is_taken_back() -> None:
    core, runner, _ = make_core(runner=CountedRestores())
    turn = ask(core, "a", prompt(1, 700))
    core.agents.fork(core.agents.get("a"), "b")
    ask(core, "a", [*prompt(1, 600), *prompt(3, 90)])
    num_before = runner.num_prefilled
    ask(core, "b", next_prompt(turn))
    assert runner.num_prefilled - num_before == len(next_prompt(turn)) - 702 - 1


def test_it_goes_before_anything_else() -> None:
    core, _, _ = make_core(num_blocks=8)
    first, second = prompt(1, 700), prompt(2, 1000)
    ask(core, "a", first)
    assert core.pool.num_spare_blocks == 3
    ask(core, "b", second)
    assert core.pool.num_spare_blocks == 0
    assert len(core.agents.get("a").token_ids) == 702, "nothing that has no copy was lost"
    assert core.agents.num_evictions == 0


def test_only_the_last_turn_leaves_one() -> None:
    core, _, _ = make_core()
    for number in range(5):
        ask(core, f"agent-{number}", prompt(number, 700))
    assert [len(standing.token_ids) for standing in core.agents.standing] == [702]
    assert core.pool.num_spare_blocks == 3


def test_a_short_cache_leaves_none() -> None:
    core, _, _ = make_core()
    ask(core, "a", prompt(1, BLOCK_TOKENS - 10))
    assert core.pool.num_spare_blocks == 0


@pytest.mark.parametrize("action", ["evict", "remove"])
def test_it_goes_with_its_agent(action: str) -> None:
    core, _, _ = make_core()
    ask(core, "a", prompt(1, 700))
    if action == "evict":
        core.actions.evict("a")
    else:
        core.agents.remove(core.agents.get("a"))
    assert core.pool.num_spare_blocks == core.pool.num_referenced_blocks == 0


def test_another_conversation_of_the_same_agent_does_not_go_on_in_it() -> None:
    core, _, _ = make_core()
    ask(core, "a", prompt(1, 700))
    ask(core, "a", prompt(2, 700))
    [standing] = core.agents.standing
    assert list(standing.token_ids[:700]) == prompt(2, 700)


def test_one_that_is_spoilt_costs_time_and_no_token() -> None:
    core, runner, telemetry = make_core()
    turn = ask(core, "a", prompt(1, 700))
    [standing] = core.agents.standing
    standing.caches[5] = NOT_FINITE
    tokens = next_prompt(turn)
    num_before = runner.num_prefilled
    ask(core, "a", tokens)
    assert runner.num_prefilled - num_before > len(tokens), "it was computed again"
    assert "poison" in [event.kind for event in telemetry.events]
