from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.compose import build_engine, engine_settings
from app.config import Settings
from app.model_defaults import NamedDefaults, parse_model_defaults
from app.paths import find_paths
from engine.cache.quantisation import KVQuantisation
from engine.commands import Shutdown
from engine.messages import Message, Role, ToolCall, ToolSpec
from engine.models.chat import ModelChat
from engine.models.defaults import NO_DEFAULTS, ModelDefaults, ToolFormat
from engine.snapshot import EngineStatus

NATIVE = (
    "{% if tools %}<|im_start|>system\nTOOLS {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m.tool_calls or [] %}CALL {{ c.function | tojson }}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WEATHER = ToolSpec(name="weather", description="The weather", parameters_json="{}")


def said(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=Role(role), text=text) for role, text in turns]


def text_of(chat: ModelChat, messages: list[Message], tools: tuple[ToolSpec, ...] = ()) -> str:
    return chat.spell(chat.render_chat(messages, tools).token_ids)


def test_prefix_stands_before_every_system_prompt(bundled_model_dir: Path) -> None:
    chat = ModelChat(bundled_model_dir, ModelDefaults(system_prefix="Be brief."))
    plain = ModelChat(bundled_model_dir)

    assert text_of(chat, said(("system", "You sing."), ("user", "x"))) == text_of(
        plain, said(("system", "Be brief.\n\nYou sing."), ("user", "x"))
    )
    assert text_of(chat, said(("user", "x"))) == text_of(
        plain, said(("system", "Be brief."), ("user", "x"))
    )


def test_prefix_leaves_the_numbers_of_messages_alone(bundled_model_dir: Path) -> None:
    chat = ModelChat(bundled_model_dir, ModelDefaults(system_prefix="Be brief."))

    parts = chat.render_chat(said(("user", "x"))).parts

    assert [part.label for part in parts] == ["system", "message 1 (user)", "reply"]


def test_context_is_the_smaller_of_the_two(bundled_model_dir: Path) -> None:
    for asked, limit in ((0, 8192), (512, 512), (10**6, 8192)):
        chat = ModelChat(bundled_model_dir, ModelDefaults(context_tokens=asked))
        assert chat.max_context_tokens == limit


def test_hermes_tells_of_tools_in_the_systems_words(make_chat: Any, tmp_path: Path) -> None:
    make_chat(NATIVE)  # writes the folder
    native = ModelChat(tmp_path)
    hermes = ModelChat(tmp_path, ModelDefaults(tool_format=ToolFormat.HERMES))
    call = ToolCall(call_id="c1", name="weather", arguments_json='{"city": "Bern"}')
    talk = [
        *said(("user", "x")),
        Message(role=Role.ASSISTANT, text="", tool_calls=(call,)),
        Message(role=Role.TOOL, text="sunny", tool_call_id="c1"),
    ]

    assert "TOOLS" in text_of(native, talk, (WEATHER,))
    assert native.why_calls_are_free
    text = text_of(hermes, talk, (WEATHER,))
    assert "TOOLS" not in text
    assert '<tool_call>\n{"arguments":{"city":"Bern"},"name":"weather"}\n</tool_call>' in text
    assert hermes.why_calls_are_free == ""


@pytest.mark.parametrize(
    ("general", "defaults", "expected"),
    [
        (None, NO_DEFAULTS, None),
        (KVQuantisation(8, 32), NO_DEFAULTS, KVQuantisation(8, 32)),
        (KVQuantisation(8, 32), ModelDefaults(kv_bits=0), None),
        (KVQuantisation(8, 32), ModelDefaults(kv_bits=4), KVQuantisation(4, 32)),
        (None, ModelDefaults(kv_bits=4), KVQuantisation(4, 64)),
        (None, ModelDefaults(kv_group_size=32), None),
        (KVQuantisation(8), ModelDefaults(kv_group_size=32), KVQuantisation(8, 32)),
    ],
)
def test_cache_format_of_a_model_comes_before_that_of_all(
    general: KVQuantisation | None, defaults: ModelDefaults, expected: KVQuantisation | None
) -> None:
    assert defaults.quantisation(general) == expected


def test_model_is_loaded_with_what_is_set_for_it(bundled_models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    table = {"temperature": 0.5, "context_tokens": 512, "kv_bits": 4}
    named = parse_model_defaults({"bundled": table, "org/other": {"temperature": 1}})
    # Where the other tests have built the kernels.
    home = find_paths({"STOKER_HOME": str(tmp_path)})
    paths = replace(home, cache_dir=bundled_models_dir / "cache")
    engine = build_engine(Settings(model_defaults=named), paths, keeps_caches=False)
    engine.start()
    try:
        while (row := engine.snapshot.model_detail) is None:
            assert engine.snapshot.status is not EngineStatus.FAILED
            assert not engine.join(0.05)
        chat = engine.chat_format
    finally:
        engine.send(Shutdown(drain_s=0.0))
        engine.join(10.0)

    assert chat is not None
    assert (row.max_context_tokens, row.kv_format) == (512, "4 bit, group 64")
    assert chat.sampling_defaults == {"temperature": 0.5}


def test_model_is_found_under_either_of_its_names(bundled_models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    named = parse_model_defaults({"SmolLM2-135M-Instruct": {"top_k": 5}})
    paths = find_paths({"STOKER_HOME": str(tmp_path)})

    settings = engine_settings(Settings(model_defaults=named), paths, keeps_caches=False)
    source = settings.find_model(lambda _share, _text: None)

    assert source.defaults == ModelDefaults(sampling={"top_k": 5})


def test_table_says_again_what_was_given() -> None:
    table = {
        "temperature": 0.0,
        "top_k": 20,
        "context_tokens": 4096,
        "kv_bits": 0,
        "system_prefix": "Be brief.\nBe kind.",
        "tool_format": "hermes",
    }
    (named,) = parse_model_defaults({"org/name": table})

    assert isinstance(named, NamedDefaults)
    assert named.as_data() == table
