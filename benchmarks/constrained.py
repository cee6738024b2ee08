"""What it costs to hold replies to a grammar: a decode step of eight, and compiling.

Usage: ``python -m benchmarks.constrained``. One engine decodes eight turns at once, of which none,
one or all are held to a JSON schema, greedily and drawn at temperature 1; the kinds take turns, so
that drift cancels out. Then sets of tools are compiled that nobody has seen, and again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import queue
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cpu_profile import bundled_model
from benchmarks.engine_child import LIMIT_S, started_engine
from benchmarks.results_file import summarize, write_result
from engine.commands import Generate, Shutdown
from engine.constraint import Constraint
from engine.engine import Engine
from engine.messages import ChatFormat, Message, Role, ToolChoice, ToolSpec
from engine.request import Delta, Request, SamplingParams

BATCH = 8
NUMS_HELD = (0, 1, BATCH)
TEMPERATURES = (0.0, 1.0)
NUM_SPECIAL = 17
"""Tokens of the bundled model, from the first on, that are no text."""
NUM_TOOLS = 12
NUM_PROPERTIES = 8
PROMPT = "Story {}. Name the animals of the forest, the river and the mountain, one by one."
NAMES = {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 200}
LIST = {"type": "object", "properties": {"names": NAMES}, "required": ["names"]}
"""A reply that does not end before it is cut."""


@dataclass
class Timed:
    """When a turn's tokens came.

    Attributes:
        times_s: Monotonic seconds, one per token.
    """

    times_s: list[float] = field(default_factory=list)


def decode_together(
    engine: Engine, constraint: Constraint, num_held: int, temperature: float, num_tokens: int
) -> list[float]:
    """Eight turns at once.

    Returns:
        Seconds of every decode step while all eight decode.
    """
    chat = _chat_of(engine)
    ended: queue.SimpleQueue[Delta] = queue.SimpleQueue()
    turns = [Timed() for _ in range(BATCH)]
    # A story that ends by itself would leave a smaller batch behind.
    bans = tuple((token_id, -100.0) for token_id in range(NUM_SPECIAL)) if temperature else ()
    for number, timed in enumerate(turns):
        name = f"{num_held}-{temperature}-{number}-{time.monotonic()}"
        message = Message(role=Role.USER, text=PROMPT.format(name))
        request = Request(
            request_id=name,
            agent_id=name,
            prompt_token_ids=chat.render_chat([message]).token_ids,
            sampling=SamplingParams(
                max_tokens=num_tokens, temperature=temperature, seed=number, logit_bias=bans
            ),
            constraint=constraint if number < num_held else None,
        )
        engine.send(Generate(request=request, sink=_timing_sink(timed, ended)))
    for _ in turns:
        last = ended.get(timeout=LIMIT_S)
        if last.error is not None:
            raise last.error
    from_s = max(timed.times_s[0] for timed in turns)
    until_s = min(timed.times_s[-1] for timed in turns)
    longest = max(turns, key=lambda timed: len(timed.times_s)).times_s
    within = [at for at in longest if from_s <= at <= until_s]
    return [after - before for before, after in itertools.pairwise(within)]


def _timing_sink(timed: Timed, ended: queue.SimpleQueue[Delta]) -> Callable[[Delta], None]:
    def sink(delta: Delta) -> None:
        if delta.token_ids:
            timed.times_s.append(time.monotonic())
        if delta.finish_reason is not None:
            ended.put(delta)

    return sink


def tools(number: int) -> list[ToolSpec]:
    """A set of tools as an agent has it, unlike any other."""
    kinds: list[dict[str, Any]] = [
        {"type": "string"},
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "string"}},
        {"enum": ["one", "two", "three"]},
    ]
    specs = []
    for at in range(NUM_TOOLS):
        properties = {
            f"field_{number}_{at}_{each}": kinds[each % len(kinds)]
            for each in range(NUM_PROPERTIES)
        }
        schema = {"type": "object", "properties": properties, "required": list(properties)[:3]}
        specs.append(
            ToolSpec(name=f"tool_{at}", description="", parameters_json=json.dumps(schema))
        )
    return specs


def time_compiling(chat: ChatFormat, repeats: int) -> dict[str, Any]:
    """Seconds to make the constraint of a set of tools, when it is new and when it is known."""
    new: list[float] = []
    known: list[float] = []
    for number in range(repeats):
        offered = tools(number)
        for samples in (new, known):
            began_s = time.perf_counter()
            chat.constrain(offered, ToolChoice(), None)
            samples.append(time.perf_counter() - began_s)
    return {"new_tools_s": summarize(new), "known_tools_s": summarize(known)}


def _chat_of(engine: Engine) -> ChatFormat:
    chat = engine.chat_format
    assert chat is not None
    return chat


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64, help="generated tokens per turn")
    parser.add_argument("--rounds", type=int, default=4, help="runs of each kind")
    parser.add_argument("--sets", type=int, default=10, help="sets of tools that are compiled")
    options = parser.parse_args()
    settings = {"model": str(bundled_model()), "kv_disk_bytes": 0}
    steps: dict[tuple[float, int], list[float]] = {
        (temperature, held): [] for temperature in TEMPERATURES for held in NUMS_HELD
    }
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as home:
        engine = started_engine(settings, home)
        try:
            began_s = time.perf_counter()
            constraint = _chat_of(engine).constrain((), ToolChoice(), json.dumps(LIST))
            first_s = time.perf_counter() - began_s
            assert constraint is not None
            decode_together(engine, constraint, 1, 0.0, 8)
            for number in range(options.rounds):
                for kind in list(steps)[:: 1 if number % 2 else -1]:
                    temperature, held = kind
                    steps[kind] += decode_together(
                        engine, constraint, held, temperature, options.tokens
                    )
            compiling = time_compiling(_chat_of(engine), options.sets)
        finally:
            engine.send(Shutdown(drain_s=0.0))
            engine.join(LIMIT_S)
    results: dict[str, Any] = {"first_of_all_s": first_s, **compiling}
    for (temperature, held), samples in steps.items():
        name = f"step_s_{'drawn' if temperature else 'greedy'}_{held}_of_{BATCH}_held"
        results[name] = summarize(samples)
        print(f"{name}: p50 {results[name]['p50'] * 1000:.2f} ms", flush=True)
    for name in compiling:
        print(f"{name}: p50 {results[name]['p50'] * 1000:.3f} ms; first of all {first_s:.2f} s")
    print(write_result("constrained", results))


if __name__ == "__main__":
    main()
