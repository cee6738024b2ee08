"""How a model's own template says it writes tool calls."""

from __future__ import annotations

import pytest

from engine.models.call_format import WRITTEN_CALLS, call_format_of

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
QWEN = """{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}
{%- for message in messages %}{%- for call in message.tool_calls %}
{{- '<tool_call>\\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}
{{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{%- endfor %}"""
HERMES = """{%- for tool_call in message.tool_calls %}{{- '<tool_call>\\n' }}{{- '{' }}
{{- '"name": "' }}{{- tool_call.name }}{{- '"' }}{{- ', ' }}{{- '"arguments": ' }}
{{- tool_call.arguments | tojson }}{{- '}' }}{{- '\\n</tool_call>' }}{%- endfor %}"""
QWEN_CODER = """{%- for tool_call in message.tool_calls %}
{{- '<tool_call>\\n<function=' + tool_call.name }}
{{- '>\\n<parameter=x>\\n</parameter>\\n</function>\\n</tool_call>' }}{%- endfor %}"""
LLAMA = """{%- for tool_call in message.tool_calls %}{{- '{"name": "' + tool_call.name + '", ' }}
{{- '"parameters": ' }}{{- tool_call.arguments | tojson }}{{- "}" }}{%- endfor %}"""
MISTRAL = """{%- for call in message.tool_calls %}[TOOL_CALLS] [{"name": "{{ call.name }}",
"arguments": {{ call.arguments }}}]{%- endfor %}"""
GLM = """{% for tc in m.tool_calls %}{{ '<tool_call>' + tc.name }}<arg_key>{{ k }}</arg_key>
<arg_value>{{ v }}</arg_value>{{ '</tool_call>' }}{% endfor %}"""


@pytest.mark.parametrize("source", [CHATML, QWEN, HERMES])
def test_json_between_marks_is_known(source: str) -> None:
    assert call_format_of(source) == WRITTEN_CALLS


@pytest.mark.parametrize("source", [QWEN_CODER, LLAMA, MISTRAL, GLM])
def test_calls_of_other_families_are_not_taken_for_it(source: str) -> None:
    assert call_format_of(source) is None
