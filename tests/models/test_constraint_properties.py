"""Whatever is chosen under a constraint fits it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.messages import ToolChoice, ToolSpec, ToolUse
from engine.models.chat import ModelChat
from engine.models.reply_grammar import SPACE
from tests.models.json_fit import fits
from tests.models.reply_walk import at_random, walk

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
NAMES = st.sampled_from(["a", "city", "name", 'quote"', "ünïcode", "with space", "x-y", "0"])


def _objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def draw_object(draw: st.DrawFn) -> dict[str, Any]:
        properties = draw(st.dictionaries(NAMES, parts, max_size=3))
        required = [name for name in properties if draw(st.booleans())]
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    return draw_object()


def _arrays(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return st.builds(
        lambda items, bound: {
            "type": "array",
            "items": items,
            "minItems": bound[0],
            "maxItems": sum(bound),
        },
        parts,
        bounds,
    )


SCALARS = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-1000, 1000),
        st.integers(0, 5000),
    ),
    st.builds(
        lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span},
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    st.builds(
        lambda values: {"enum": values},
        st.lists(
            st.sampled_from(["north", "süd", 'a"b', "", "</tool_call>", 3, None, True]),
            min_size=1,
            unique_by=repr,
        ),
    ),
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda parts: st.one_of(
        _objects(parts),
        _arrays(parts),
        st.lists(parts, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
    ),
    max_leaves=6,
)


@given(schema=SCHEMAS, seed=st.integers(0, 1 << 32))
@SETTINGS
def test_a_reply_under_a_schema_is_json_that_fits_it(
    bundled_chat: ModelChat, schema: dict[str, Any], seed: int
) -> None:
    constraint = bundled_chat.constrain((), ToolChoice(), json.dumps(schema))
    assert constraint is not None
    reply = walk(bundled_chat, constraint, at_random(bundled_chat, seed))
    assert fits(json.loads(reply), schema), reply


@given(schema=_objects(SCHEMAS), seed=st.integers(0, 1 << 32), is_parallel=st.booleans())
@SETTINGS
def test_a_call_that_is_required_fits_its_tool(
    bundled_chat: ModelChat, schema: dict[str, Any], seed: int, is_parallel: bool
) -> None:
    tools = [
        ToolSpec(name="first", description="", parameters_json=json.dumps(schema)),
        ToolSpec(name="second", description="", parameters_json='{"additionalProperties": false}'),
    ]
    choice = ToolChoice(use=ToolUse.REQUIRED, is_parallel=is_parallel)
    constraint = bundled_chat.constrain(tools, choice, None)
    assert constraint is not None
    # A token may close one call and open the next, so that several follow before any may end.
    reply = walk(bundled_chat, constraint, at_random(bundled_chat, seed), max_tokens=8000)
    calls = _calls_in(reply)
    assert len(calls) == 1 or is_parallel
    for call in calls:
        if call["name"] == "first":
            assert set(call) == {"name", "arguments"}
            assert fits(call["arguments"], schema), reply
        else:
            assert call == {"name": "second", "arguments": {}}


def _calls_in(reply: str) -> list[dict[str, Any]]:
    """The calls that a reply is made of, and nothing else."""
    calls: list[dict[str, Any]] = []
    rest = reply
    while rest:
        assert rest.startswith("<tool_call>")
        rest = rest.removeprefix("<tool_call>").lstrip()
        call, end = json.JSONDecoder().raw_decode(rest)
        calls.append(call)
        rest = rest[end:].lstrip()
        assert rest.startswith("</tool_call>")
        rest = rest.removeprefix("</tool_call>").lstrip()
    assert calls
    return calls


@given(schema=SCHEMAS)
@SETTINGS
def test_white_space_between_tokens_comes_to_an_end(
    bundled_chat: ModelChat, schema: dict[str, Any]
) -> None:
    constraint = bundled_chat.constrain((), ToolChoice(), json.dumps(schema))
    assert constraint is not None
    fallback = at_random(bundled_chat, 1)

    def choose(allowed: Sequence[int]) -> int:
        blank = [each for each in allowed if not bundled_chat.spell([each]).strip()]
        blank = [each for each in blank if each not in bundled_chat.end_token_ids]
        return max(blank) if blank and len(allowed) < 2000 else fallback(allowed)

    reply = walk(bundled_chat, constraint, choose)
    between = re.sub(r'"(?:[^"\\]|\\.)*"', "text", reply)
    assert all(re.fullmatch(SPACE, gap) for gap in re.findall(r"\s+", between)), reply
    assert fits(json.loads(reply), schema)
