from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.cli import main
from engine.errors import InvalidRequestError
from engine.messages import Message, Role
from engine.models.chat import ModelChat
from engine.models.text_trial import try_text
from tests.models.conftest import MakeChat
from tests.models.test_places import make_model

TROUBLES = {
    "{{ raise_exception('no conversation is good enough') }}": "no conversation is good enough",
    "{{ messages[99].content }}": "has no element 99",
    "{{ 1 / 0 }}": "division by zero",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "maximum recursion depth",
    "{{ 'x' * 10 ** 18 }}": "refuses the conversation",
    "{{ messages.__class__ }}{{ messages.__class__.__mro__ }}": "unsafe",
}


@pytest.fixture
def folder(bundled_model_dir: Path, tmp_path: Path) -> Path:
    """A model whose weights are nothing, with a real tokenizer."""
    made = make_model(tmp_path / "m")
    shutil.copy(bundled_model_dir / "tokenizer.json", made / "tokenizer.json")
    return made


def set_template(folder: Path, template: str | None) -> None:
    fields = {} if template is None else {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(("template", "words"), TROUBLES.items())
def test_template_that_raises_is_told_in_one_line(folder: Path, template: str, words: str) -> None:
    set_template(folder, template)

    trial = try_text(folder)

    assert trial.refusal == ""
    assert words in trial.warning
    assert trial.warning.endswith("only raw completions work")


@pytest.mark.parametrize("template", list(TROUBLES)[:3])
def test_model_whose_template_raises_loads_and_says_so(make_chat: MakeChat, template: str) -> None:
    chat = make_chat(template)

    assert chat.why_no_chat.endswith("only raw completions work")
    assert chat.encode_text("as before")
    with pytest.raises(InvalidRequestError, match="refuses the conversation"):
        chat.render_chat([Message(role=Role.USER, text="x")])


def test_good_model_has_nothing_said_of_it(folder: Path, bundled_chat: ModelChat) -> None:
    set_template(folder, "{% for m in messages %}{{ m.content }}{% endfor %}")

    trial = try_text(folder)

    assert (trial.refusal, trial.warning) == ("", "")
    assert bundled_chat.why_no_chat == ""


def test_missing_template_is_a_warning(folder: Path, make_chat: MakeChat) -> None:
    set_template(folder, None)

    assert try_text(folder).warning == "it has no chat template: only raw completions work"
    assert "no chat template" in make_chat("").why_no_chat


@pytest.mark.parametrize("template", ["{% if %}", "{% for x in %}", "{{ x", "{% bogus %}"])
def test_template_that_is_none_is_a_refusal(folder: Path, template: str) -> None:
    set_template(folder, template)

    assert "chat template is not valid" in try_text(folder).refusal


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"model": {}}'])
def test_tokenizer_that_is_none_is_a_refusal(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(content)

    assert "tokenizer.json is not a tokenizer" in try_text(folder).refusal


def test_template_without_end_is_left_alone(folder: Path) -> None:
    loop = "{% for a in range(3000) %}{% for b in range(3000) %}{% endfor %}{% endfor %}"
    set_template(folder, loop)

    assert "took longer than 0.05 s" in try_text(folder, limit_s=0.05).warning


def test_show_tells_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_template(folder, "{{ raise_exception('\x1b[2J no') }}")
    assert main(["models", "show", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["can", "be", "loaded", "yes"]
    assert lines[-1].startswith("but            the model's chat template refuses")
    assert "\x1b" not in lines[-1]

    (folder / "tokenizer.json").unlink()
    assert main(["models", "show", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refusal"] == "it has no tokenizer.json"
