"""Cases of llama.cpp's tests that are not run against Stoker, each with the reason.

A name without parameters means all cases of a test; with the beginning of its parameters, those.
"""

from __future__ import annotations

_COUNTS = "token counts and words of the model they were written with"
_BUILD = "system_fingerprint has to be llama.cpp's build number"
_TEMPLATE = "shows the rendered prompt, of templates chosen at the start: fields of llama.cpp"
_GBNF = "GBNF grammars: a field of llama.cpp"
_SCHEMA_FIELD = "json_schema outside response_format: a field of llama.cpp"
_TELEMETRY = "timings and prompt_progress: fields of llama.cpp"
_ROUTE = "a route of llama.cpp"
_LIMIT = "the error's name and the slots of llama.cpp, with a context of its own at the start"
_IMAGES = "wants 500 for an image; here it is 400, and a line of text in a tool's result"
_VISION = "a model that sees, and a download"
_REASONING = "a template that renders earlier reasoning; the bundled model's has none"
_EMPTY = "wants 200 for no messages; Anthropic's API and this one say 400"
_LAST_TURNS = "two assistant messages in a row are no mistake to this API"
_OTHERS = "add_generation_prompt and continue_final_message: fields of other servers, not read here"
_CORS = "there are no CORS headers here, on purpose"
_MEDIA = "images from files of the server are not read here, on purpose"
# OpenAI sends null only where a reply is a call from its first token; all these replies are text.
_FIRST_CHUNK = "the first chunk's content is an empty string, as in OpenAI's API; theirs is null"
_WITHOUT_CALLS = (
    "test_tool_call.py::test_completion_without_tool_call_fast"
    "[meta-llama-Llama-3.3-70B-Instruct-128-"
)

SKIPPED: dict[str, str] = {
    "test_compat_anthropic.py::test_anthropic_tool_result_with_image": _IMAGES,
    "test_compat_anthropic.py::test_anthropic_vision_format_accepted": _IMAGES,
    "test_compat_anthropic.py::test_anthropic_vision_base64_with_multimodal_model": _VISION,
    "test_compat_anthropic.py::test_anthropic_empty_messages": _EMPTY,
    "test_compat_anthropic.py::test_anthropic_thinking_history_in_count_tokens": _REASONING,
    "test_compat_anthropic.py::test_anthropic_thinking_history_in_template": _ROUTE,
    "test_compat_oai_responses.py::test_responses_stream_with_llama_telemetry": _TELEMETRY,
    "test_chat_completion.py::test_chat_completion": _COUNTS,
    "test_chat_completion.py::test_chat_completion_cached_tokens": _COUNTS,
    "test_chat_completion.py::test_chat_completion_stream": _COUNTS,
    "test_chat_completion.py::test_chat_completion_with_openai_library": _BUILD,
    "test_chat_completion.py::test_chat_template": _TEMPLATE,
    "test_chat_completion.py::test_chat_template_assistant_prefill": _TEMPLATE,
    "test_chat_completion.py::test_chat_template_continue_final_message_vllm_compat": _TEMPLATE,
    "test_chat_completion.py::test_chat_template_continue_final_message_mutual_exclusion": _OTHERS,
    "test_chat_completion.py::test_invalid_chat_completion_req[messages7": _LAST_TURNS,
    "test_chat_completion.py::test_verbose_debug": _TEMPLATE,
    "test_chat_completion.py::test_apply_chat_template": _ROUTE,
    "test_chat_completion.py::test_completion_with_json_schema": _SCHEMA_FIELD,
    "test_chat_completion.py::test_completion_with_grammar": _GBNF,
    "test_chat_completion.py::test_completion_with_invalid_grammar": _GBNF,
    "test_chat_completion.py::test_chat_completion_with_timings_per_token": _TELEMETRY,
    "test_chat_completion.py::test_logprobs_stream": _FIRST_CHUNK,
    "test_chat_completion.py::test_logit_bias": _ROUTE,
    "test_chat_completion.py::test_context_size_exceeded": _LIMIT,
    "test_chat_completion.py::test_context_size_exceeded_stream": _LIMIT,
    "test_chat_completion.py::test_return_progress": _TELEMETRY,
    "test_chat_completion.py::test_chat_completions_token_count": _ROUTE,
    f"{_WITHOUT_CALLS}tools0-None-CompletionMode.STREAMED]": _FIRST_CHUNK,
    f"{_WITHOUT_CALLS}tools1-None-CompletionMode.STREAMED]": _FIRST_CHUNK,
    f"{_WITHOUT_CALLS}tools2-none-CompletionMode.STREAMED]": _FIRST_CHUNK,
    "test_security.py::test_access_public_endpoint": _ROUTE,
    "test_security.py::test_access_static_assets_without_api_key": _ROUTE,
    "test_security.py::test_correct_api_key": _ROUTE,
    "test_security.py::test_correct_api_key_anthropic_header": _ROUTE,
    "test_security.py::test_cors_options": _CORS,
    "test_security.py::test_cors_origins_localhost_reflects": _CORS,
    "test_security.py::test_cors_origins_localhost_rejects": _CORS,
    "test_security.py::test_cors_origins_defaults_to_localhost_with_tools_enabled": _CORS,
    "test_security.py::test_cors_proxy_only_forwards_explicit_proxy_headers": _ROUTE,
    "test_security.py::test_local_media_file": _MEDIA,
}

OTHER_WORDS = (
    "test_compat_oai_responses.py::test_responses_with_openai_library",
    "test_compat_oai_responses.py::test_responses_stream_with_openai_library",
)
"""Cases that run, but where any words do: the expected ones are another model's."""
