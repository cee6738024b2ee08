"""What a reply may be: text with calls, calls at once, JSON, and what of it cannot be enforced."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from engine.constraint import Constraint
from engine.errors import ConstraintFailedError, EngineFailedError, InvalidRequestError
from engine.messages import ToolChoice, ToolSpec, ToolUse
from engine.models import constraints
from engine.models.chat import ModelChat
from tests.models.conftest import MakeChat
from tests.models.reply_walk import at_random, may_end_after, reaches, walk

WEATHER = ToolSpec(
    name="get_weather",
    description="The weather of a city",
    parameters_json=json.dumps(
        {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
            "additionalProperties": False,
        }
    ),
)
NOW = ToolSpec(name="now", description="The time", parameters_json="")
TOOLS = (WEATHER, NOW)
AUTO = ToolChoice()
REQUIRED = ToolChoice(use=ToolUse.REQUIRED)
OSLO = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
CLOCK = '<tool_call>{"name":"now","arguments":{"zone":"CET"}}</tool_call>'
ANSWER = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'


def constrain(chat: ModelChat, choice: ToolChoice = AUTO, *args: Any, **more: Any) -> Constraint:
    constraint = chat.constrain(TOOLS, choice, *(args or (None,)), **more)
    assert constraint is not None
    return constraint


def tool(schema: object, name: str = "f") -> ToolSpec:
    return ToolSpec(name=name, description="", parameters_json=json.dumps(schema))


@pytest.mark.parametrize(
    "reply", ["Oslo.", f"Wait.\n{OSLO}", f"{OSLO}\n{CLOCK}\nDone.", "a < b <tool_", "naïve 🙂"]
)
def test_text_and_calls_may_follow_each_other(bundled_chat: ModelChat, reply: str) -> None:
    constraint = constrain(bundled_chat)
    assert reaches(bundled_chat, constraint, reply) == reply
    assert may_end_after(bundled_chat, constraint, reply)


@pytest.mark.parametrize(
    ("reply", "passes"),
    [
        ('<tool_call>\n{"name": "nobody"}', '"name":'),
        ('<tool_call>{"name":"get_weather","arguments":{"city":3}}', '"city":'),
        ('<tool_call>{"name":"get_weather","arguments":{}}', '"arguments":{'),
        ('<tool_call>{"name":"get_weather","arguments":{"city":"a","b":1}}', '{"city":"a",'),
        ("<tool_call>Oslo</tool_call>", "<tool_call>"),
        (f"{OSLO[:-13]} and so on", "}"),
    ],
)
def test_what_opens_a_call_must_be_one(bundled_chat: ModelChat, reply: str, passes: str) -> None:
    passed = reaches(bundled_chat, constrain(bundled_chat), reply)
    assert passed.rstrip('{" ').endswith(passes.rstrip('{" '))
    assert len(passed) < len(reply)


def test_a_turn_does_not_end_inside_a_call(bundled_chat: ModelChat) -> None:
    constraint = constrain(bundled_chat)
    for end in range(len("<tool_call>"), len(OSLO) - 1):
        assert not may_end_after(bundled_chat, constraint, OSLO[:end])
    assert may_end_after(bundled_chat, constraint, OSLO)


def test_without_parallel_calls_the_first_ends_the_reply(bundled_chat: ModelChat) -> None:
    constraint = constrain(bundled_chat, ToolChoice(is_parallel=False))
    assert reaches(bundled_chat, constraint, f"Wait. {OSLO}") == f"Wait. {OSLO}"
    assert may_end_after(bundled_chat, constraint, f"Wait. {OSLO}")
    for more in (" Done.", "\n", CLOCK):
        assert not reaches(bundled_chat, constraint, OSLO + more).startswith(OSLO + more[0])


def test_a_required_call_comes_at_once(bundled_chat: ModelChat) -> None:
    constraint = constrain(bundled_chat, REQUIRED)
    assert reaches(bundled_chat, constraint, "Oslo is cold") == ""
    for reply in (OSLO, CLOCK, f"{OSLO}\n{CLOCK}"):
        assert may_end_after(bundled_chat, constraint, reply)
    assert not may_end_after(bundled_chat, constraint, "<tool_call>")


def test_a_required_call_by_name_is_that_one(bundled_chat: ModelChat) -> None:
    choice = ToolChoice(use=ToolUse.REQUIRED, names=("now",))
    constraint = constrain(bundled_chat, choice)
    assert may_end_after(bundled_chat, constraint, CLOCK)
    assert not reaches(bundled_chat, constraint, OSLO).endswith("get_weather")


def test_allowed_tools_are_the_only_ones_that_are_called(bundled_chat: ModelChat) -> None:
    for use in (ToolUse.AUTO, ToolUse.REQUIRED):
        constraint = constrain(bundled_chat, ToolChoice(use=use, names=("now",)))
        assert may_end_after(bundled_chat, constraint, CLOCK)
        assert not reaches(bundled_chat, constraint, OSLO).endswith("get_weather")


def test_with_no_calls_wanted_the_mark_does_not_occur(bundled_chat: ModelChat) -> None:
    constraint = constrain(bundled_chat, ToolChoice(use=ToolUse.NONE))
    assert reaches(bundled_chat, constraint, f"Hm. {OSLO}").startswith("Hm. <tool_call")
    assert "<tool_call>" not in reaches(bundled_chat, constraint, f"Hm. {OSLO}")
    assert may_end_after(bundled_chat, constraint, 'Hm. {"name": "now"}')


def test_without_tools_and_schema_any_reply_will_do(bundled_chat: ModelChat) -> None:
    for use in (ToolUse.AUTO, ToolUse.NONE):
        assert bundled_chat.constrain((), ToolChoice(use=use), None) is None


def test_a_schema_is_the_whole_reply(bundled_chat: ModelChat) -> None:
    constraint = bundled_chat.constrain((), AUTO, ANSWER)
    assert constraint is not None
    assert may_end_after(bundled_chat, constraint, '{\n  "n": 12\n}')
    assert reaches(bundled_chat, constraint, "Sure: {") == ""
    assert not reaches(bundled_chat, constraint, '{"n": "x"}').endswith('"x"')
    assert reaches(bundled_chat, constraint, OSLO) == ""


def test_any_object_is_an_object(bundled_chat: ModelChat) -> None:
    constraint = bundled_chat.constrain((), AUTO, None, any_object=True)
    assert constraint is not None
    assert may_end_after(bundled_chat, constraint, '{"a": [1, {"b": null}]}')
    for reply in ("[1]", "3", '"text"', "null"):
        assert reaches(bundled_chat, constraint, reply) == ""


def test_with_tools_and_a_schema_it_is_a_call_or_that(bundled_chat: ModelChat) -> None:
    constraint = constrain(bundled_chat, AUTO, ANSWER)
    for reply in (OSLO, '{"n": 1}'):
        assert may_end_after(bundled_chat, constraint, reply)
    assert reaches(bundled_chat, constraint, "Hm.") == ""
    uncalled = constrain(bundled_chat, ToolChoice(use=ToolUse.NONE), ANSWER)
    assert reaches(bundled_chat, uncalled, OSLO) == ""


def test_special_tokens_are_no_text(bundled_chat: ModelChat) -> None:
    matcher = constrain(bundled_chat).begin()
    assert bundled_chat.spell([1]) == "<|im_start|>"
    assert not matcher.allows(1)


def test_names_and_schemas_with_odd_letters_are_kept_apart(bundled_chat: ModelChat) -> None:
    name = 'say "hi"\\/\n%json {'
    schema = {
        "type": "object",
        "properties": {'k"%\n': {"const": "</tool_call>\n%"}},
        "required": ['k"%\n'],
        "additionalProperties": False,
    }
    required = bundled_chat.constrain([tool(schema, name)], REQUIRED, None)
    assert required is not None
    reply = walk(bundled_chat, required, at_random(bundled_chat, 3))
    body = reply.removeprefix("<tool_call>").lstrip()
    call, _ = json.JSONDecoder().raw_decode(body)
    assert call == {"name": name, "arguments": {'k"%\n': "</tool_call>\n%"}}


def test_a_required_tool_that_is_not_given_is_named(bundled_chat: ModelChat) -> None:
    with pytest.raises(InvalidRequestError, match="'nobody', is not given"):
        constrain(bundled_chat, ToolChoice(use=ToolUse.REQUIRED, names=("nobody",)))
    with pytest.raises(InvalidRequestError, match="no tools are given"):
        bundled_chat.constrain((), REQUIRED, None)


def _nested(num_levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(num_levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def _endless() -> dict[str, Any]:
    node = {"properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}
    node |= {"type": "object"}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/node"}}, "required": ["a"]} | {
        "$defs": {"node": node}
    }


CHOICES: list[dict[str, Any]] = [
    {"anyOf": [{"properties": {f"p{number}_{choice}": {}}} for choice in range(4)]}
    for number in range(10)
]


def _property(schema: object) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"]}


HOSTILE = {
    "not JSON schema": (_property({"type": "objct"}), "Invalid type"),
    "no schema": (_property({"$ref": "#/$defs/none"}), "does not exist"),
    "elsewhere": (_property({"$ref": "http://127.0.0.1:9/x.json"}), "http://127.0.0.1:9/x.json"),
    "endless": (_endless(), "refers to itself without end"),
    "itself": (_property({"$ref": "#/properties/a"}), "refers to itself without end"),
    "around": (
        {"type": "object", "allOf": [{"$ref": "#/$defs/a"}]}
        | {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "refers to itself without end",
    ),
    "endless array": (
        {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}}}
        | _property({"$ref": "#/$defs/a"}),
        "refers to itself without end",
    ),
    "many references": (
        {"$defs": {f"n{number}": {"$ref": f"#/$defs/n{number + 1}"} for number in range(1500)}}
        | _property({"$ref": "#/$defs/n0"}),
        "too many references|does not exist",
    ),
    "nothing fits": (_property(False), "unsatisfiable"),
    "broken pattern": (_property({"type": "string", "pattern": "("}), "unclosed group"),
    "look-ahead": (_property({"type": "string", "pattern": "^(?=a)b"}), "look-around"),
    "huge pattern": (_property({"type": "string", "pattern": "^a{1000000000}$"}), "too many|large"),
    "deep": (_nested(300), "levels deep"),
    "many choices": ({"type": "object", "allOf": CHOICES}, "too large"),
    "many properties": (
        {"type": "object", "properties": {f"p{number}": {} for number in range(600)}},
        "items|too",
    ),
    "long": ({"type": "object", "description": "x" * 200_000}, "200"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("use", [ToolUse.AUTO, ToolUse.REQUIRED])
def test_a_hostile_tool_is_refused_by_name_and_soon(
    bundled_chat: ModelChat, name: str, use: ToolUse
) -> None:
    schema, reason = HOSTILE[name]
    began_s = time.monotonic()
    with pytest.raises(InvalidRequestError, match=f"the schema of tool 'hostile' .*({reason})"):
        bundled_chat.constrain([WEATHER, tool(schema, "hostile")], ToolChoice(use=use), None)
    assert time.monotonic() - began_s < constraints.COMPILE_S + 1
    assert may_end_after(bundled_chat, constrain(bundled_chat), OSLO)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_response_schema_is_refused(bundled_chat: ModelChat, name: str) -> None:
    schema, reason = HOSTILE[name]
    with pytest.raises(InvalidRequestError, match=f"the response schema .*({reason})"):
        bundled_chat.constrain((), AUTO, json.dumps(schema))


@pytest.mark.parametrize("text", ["{", "[]", "3", "true", "null", "[" * 100_000])
def test_what_is_no_schema_at_all_is_refused(bundled_chat: ModelChat, text: str) -> None:
    with pytest.raises(InvalidRequestError, match="response schema"):
        bundled_chat.constrain((), AUTO, text)
    broken = ToolSpec(name="broken", description="", parameters_json=text)
    with pytest.raises(InvalidRequestError, match="tool 'broken'"):
        bundled_chat.constrain([broken], AUTO, None)


def test_parameters_must_be_an_object(bundled_chat: ModelChat) -> None:
    with pytest.raises(InvalidRequestError, match="tool 'f' must be of type object"):
        bundled_chat.constrain([tool({"type": "string"})], AUTO, None)
    schemas: list[dict[str, Any]] = [{}, {"type": ["null", "object"]}, {"properties": {}}]
    for schema in schemas:
        constraint = bundled_chat.constrain([tool(schema)], REQUIRED, None)
        assert constraint is not None
        call = '<tool_call>{"name":"f","arguments":'
        assert reaches(bundled_chat, constraint, call + "null") == call
        assert may_end_after(bundled_chat, constraint, call + "{}}</tool_call>")


def test_references_that_end_are_followed(bundled_chat: ModelChat) -> None:
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/node"}},
        "additionalProperties": False,
    }
    schema = {"$defs": {"node": node}, "$ref": "#/$defs/node"}
    constraint = bundled_chat.constrain([tool(schema)], REQUIRED, None)
    assert constraint is not None
    call = '<tool_call>{"name":"f","arguments":{"next":{"next":{}}}}</tool_call>'
    assert may_end_after(bundled_chat, constraint, call)
    assert reaches(bundled_chat, constraint, call.replace("{}", '{"x"')).count("next") == 2


def test_where_the_model_chooses_keywords_beyond_reach_are_passed_over_and_named(
    bundled_chat: ModelChat,
) -> None:
    picky = tool({"type": "object", "propertyNames": {"pattern": "^a"}}, "picky")
    constraint = bundled_chat.constrain([WEATHER, picky], AUTO, None)
    assert constraint is not None
    assert len(constraint.gaps) == 1
    assert "tool 'picky'" in constraint.gaps[0]
    assert "propertyNames" in constraint.gaps[0]
    assert may_end_after(bundled_chat, constraint, OSLO)
    with pytest.raises(InvalidRequestError, match=r"tool 'picky'.*propertyNames"):
        bundled_chat.constrain([WEATHER, picky], REQUIRED, None)
    with pytest.raises(InvalidRequestError, match=r"response schema.*propertyNames"):
        bundled_chat.constrain((), AUTO, picky.parameters_json)


def test_a_clients_own_options_do_not_loosen_the_grammar(bundled_chat: ModelChat) -> None:
    options = {"lenient": True, "whitespace_pattern": r"[\s]*"}
    schema = {"type": "object", "uniqueItems": True, "x-guidance": options}
    with pytest.raises(InvalidRequestError, match="uniqueItems"):
        bundled_chat.constrain((), AUTO, json.dumps(schema))
    del schema["uniqueItems"]
    constraint = bundled_chat.constrain((), AUTO, json.dumps(schema))
    assert constraint is not None
    assert len(reaches(bundled_chat, constraint, "{" + " " * 99)) < 10


def test_a_grammar_that_takes_too_long_is_given_up_and_others_go_on(
    bundled_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = ModelChat(bundled_model_dir)
    chat.constrain((), AUTO, ANSWER)
    patterns = [{"type": "string", "pattern": f"a.{{{number},100}}b"} for number in range(20)]
    monkeypatch.setattr(constraints, "COMPILE_S", 0.2)
    with pytest.raises(InvalidRequestError, match=r"response schema.*takes too long"):
        chat.constrain((), AUTO, json.dumps({"allOf": patterns}))
    assert chat.constrain((), AUTO, None, any_object=True) is not None
    for thread in threading.enumerate():
        if thread.name == "grammar":
            thread.join(30)


def test_constraints_are_kept_and_not_too_many(
    bundled_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = ModelChat(bundled_model_dir)
    monkeypatch.setattr(constraints, "MAX_KEPT", 2)
    first = chat.constrain(TOOLS, AUTO, None)
    assert chat.constrain(list(TOOLS), AUTO, None) is first
    assert chat.constrain([replace(each, description="") for each in TOOLS], AUTO, None) is first
    chat.constrain(TOOLS, REQUIRED, None)
    assert chat.constrain(TOOLS, AUTO, None) is first
    chat.constrain((), AUTO, ANSWER)
    assert chat.constrain(TOOLS, AUTO, None) is first
    chat.constrain(TOOLS, REQUIRED, None)
    chat.constrain((), AUTO, ANSWER)
    assert chat.constrain(TOOLS, AUTO, None) is not first


def test_many_threads_get_constraints_that_go_their_own_ways(bundled_model_dir: Path) -> None:
    chat = ModelChat(bundled_model_dir)

    def ask(number: int) -> str:
        choice = ToolChoice(use=ToolUse.REQUIRED, is_parallel=bool(number % 2))
        constraint = chat.constrain(TOOLS, choice, None)
        assert constraint is not None
        return reaches(chat, constraint, OSLO)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(32))) == {OSLO}


def test_a_grammar_that_grows_too_complex_in_the_middle_says_so(bundled_chat: ModelChat) -> None:
    schema = {"type": "string", "pattern": "(.*a){50}.{1000}(x|y){1000}"}
    constraint = bundled_chat.constrain((), AUTO, json.dumps(schema))
    assert constraint is not None
    with pytest.raises(ConstraintFailedError, match="cannot be followed: lexer error"):
        walk(bundled_chat, constraint, at_random(bundled_chat, 1))


def test_a_constraint_that_was_never_compiled_does_not_let_everything_pass() -> None:
    with pytest.raises(EngineFailedError, match="without a matcher"):
        Constraint("start: /a/").begin()


THINKER = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
THINKER += "{# <think> </think> #}"


def test_reasoning_may_stand_before_a_required_call_and_speak_of_calls(
    make_chat: MakeChat,
) -> None:
    chat = make_chat(THINKER)
    thought = "<think>\nIs <tool_call> due?\n</think>\n\n"
    for constraint in (constrain(chat, REQUIRED), constrain(chat)):
        assert may_end_after(chat, constraint, thought + OSLO)
        assert may_end_after(chat, constraint, OSLO)
    assert may_end_after(chat, constrain(chat), f"{thought}Hello")
    assert reaches(chat, constrain(chat, REQUIRED), f"{thought}Hello") == thought


def test_reasoning_that_the_prompt_opened_ends_before_anything_else(make_chat: MakeChat) -> None:
    chat = make_chat(THINKER)
    thought = "Is <tool_call> due?\n</think>\n\n"
    required = constrain(chat, REQUIRED, opens_reasoning=True)
    assert may_end_after(chat, required, thought + OSLO)
    assert reaches(chat, required, f"{thought}Hello") == thought
    answer = constrain(chat, AUTO, ANSWER, opens_reasoning=True)
    assert may_end_after(chat, answer, thought + '{"n": 1}')
    assert not may_end_after(chat, answer, '{"n": 1}')


LLAMA = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
LLAMA += '{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'
LLAMA += "{% endfor %}\n{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"


def test_calls_in_a_form_that_is_not_known_are_free_and_cannot_be_required(
    make_chat: MakeChat,
) -> None:
    chat = make_chat("{% if tools %}{{ tools | tojson }}{% endif %}" + LLAMA)
    assert "form of its own" in chat.why_calls_are_free
    assert chat.constrain(TOOLS, AUTO, None) is None
    assert chat.constrain(TOOLS, ToolChoice(use=ToolUse.NONE), None) is None
    with pytest.raises(InvalidRequestError, match="cannot be enforced"):
        chat.constrain(TOOLS, REQUIRED, None)
    assert chat.constrain(TOOLS, AUTO, ANSWER) is not None


@pytest.mark.parametrize(
    ("use", "text"), [(ToolUse.REQUIRED, ""), (ToolUse.AUTO, ""), (ToolUse.AUTO, "Hm. ")]
)
def test_marks_that_are_special_tokens_open_and_close_calls(
    make_chat: MakeChat, use: ToolUse, text: str
) -> None:
    chat = make_chat(THINKER, "<tool_call>", "</tool_call>")
    size = chat.vocabulary_size
    opening, closing = size - 2, size - 1
    assert chat.spell([opening, closing]) == "<tool_call></tool_call>"
    matcher = constrain(chat, ToolChoice(use=use)).begin()
    body = chat.encode_text('{"name": "now", "arguments": {}}')
    for token_id in (*chat.encode_text(text), opening, *body, closing):
        assert matcher.allows(token_id)
        matcher.advance(token_id)
    assert all(map(matcher.allows, chat.end_token_ids))
    assert not matcher.allows(closing)
    assert not constrain(chat, ToolChoice(use=ToolUse.NONE)).begin().allows(opening)


def test_tokens_that_no_grammar_can_be_made_for_leave_calls_free(
    bundled_model_dir: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((bundled_model_dir / name).read_bytes())
    tokenizer = Tokenizer(models.WordLevel({"hello": 0, "<|im_end|>": 1}, unk_token="hello"))
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chat = ModelChat(tmp_path)
    assert chat.constrain(TOOLS, AUTO, None) is None
    assert "cannot be held to a form" in chat.why_calls_are_free
    with pytest.raises(InvalidRequestError, match="cannot be held to a form"):
        chat.constrain(TOOLS, REQUIRED, None)
    with pytest.raises(InvalidRequestError, match="cannot be held to a form"):
        chat.constrain((), AUTO, ANSWER)


def test_a_schema_that_found_no_time_may_come_again(
    bundled_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = ModelChat(bundled_model_dir)
    with monkeypatch.context() as hurry:
        hurry.setattr(constraints, "COMPILE_S", 0.0)
        with pytest.raises(InvalidRequestError, match="try again later"):
            chat.constrain(TOOLS, AUTO, None)
    assert may_end_after(chat, constrain(chat), OSLO)
