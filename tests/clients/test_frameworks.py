"""Frameworks for agents, each with a tool round trip in every dialect it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import Served, serving
from tests.api.word_engine import MODEL_ID, Script, WordEngine, prompt_text

pytestmark = pytest.mark.clients

CALL = Script(
    words=(
        "I will look.\n",
        '<tool_call>\n{"name": "get_weather", ',
        '"arguments": {"city": "Oslo"}}\n</tool_call>',
    )
)
ANSWER = Script(words=("It is", " sunny", " in Oslo."))
QUESTION = "What is the weather in Oslo?"


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


@pytest.fixture
def served() -> Any:
    """A server whose engine calls the tool first, and then answers."""
    with serving(CALL) as served:
        served.engine.at_end = lambda _request_id: answer_next(served.engine)
        yield served


def answer_next(engine: WordEngine) -> None:
    engine.script = ANSWER


def assert_round_trip(served: Served) -> None:
    """The tool's result came back behind the call, in a prompt that begins as the first did."""
    first, second = served.engine.requests
    asked = prompt_text(first).removesuffix("\nassistant:")
    assert "tool get_weather " in asked
    assert prompt_text(second).startswith(asked)
    assert '<get_weather {"city":"Oslo"}>' in prompt_text(second).replace('": "', '":"')
    assert "tool: sunny in Oslo" in prompt_text(second)


def openai_chat(served: Served, **options: Any) -> Any:
    module = pytest.importorskip("langchain_openai")
    url = f"{served.url}/v1"
    return module.ChatOpenAI(
        model=MODEL_ID, base_url=url, api_key="dummy", stream_usage=True, **options
    )


def openai_responses(served: Served) -> Any:
    return openai_chat(served, use_responses_api=True)


def openai_responses_by_id(served: Served) -> Any:
    return openai_chat(served, use_responses_api=True, use_previous_response_id=True)


def anthropic_messages(served: Served) -> Any:
    module = pytest.importorskip("langchain_anthropic")
    return module.ChatAnthropic(model=MODEL_ID, base_url=served.url, api_key="dummy")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "make", [openai_chat, openai_responses, openai_responses_by_id, anthropic_messages]
)
def test_langchain(served: Served, make: Callable[[Served], Any], streams: bool) -> None:
    model = make(served)
    messages = pytest.importorskip("langchain_core.messages")
    tools = pytest.importorskip("langchain_core.tools")
    weather = tools.tool(get_weather)
    bound = model.bind_tools([weather])

    def ask(conversation: list[Any]) -> Any:
        if not streams:
            return bound.invoke(conversation)
        first, *others = bound.stream(conversation)
        for chunk in others:
            first += chunk
        return messages.message_chunk_to_message(first)

    conversation: list[Any] = [messages.HumanMessage(QUESTION)]
    conversation.append(ask(conversation))
    (call,) = conversation[-1].tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Oslo"})
    conversation.append(weather.invoke(call))
    reply = ask(conversation)
    text = reply.content if isinstance(reply.content, str) else reply.text
    assert str(text) == "It is sunny in Oslo."
    assert reply.usage_metadata["output_tokens"] == 3
    assert_round_trip(served)


def chat_model(served: Served) -> Any:
    models = pytest.importorskip("pydantic_ai.models.openai")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=f"{served.url}/v1", api_key="dummy")
    return models.OpenAIChatModel(MODEL_ID, provider=provider)


def responses_model(served: Served) -> Any:
    models = pytest.importorskip("pydantic_ai.models.openai")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    provider = providers.OpenAIProvider(base_url=f"{served.url}/v1", api_key="dummy")
    return models.OpenAIResponsesModel(MODEL_ID, provider=provider)


def messages_model(served: Served) -> Any:
    models = pytest.importorskip("pydantic_ai.models.anthropic")
    providers = pytest.importorskip("pydantic_ai.providers.anthropic")
    provider = providers.AnthropicProvider(base_url=served.url, api_key="dummy")
    return models.AnthropicModel(MODEL_ID, provider=provider)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("make", [chat_model, responses_model, messages_model])
def test_pydantic_ai(served: Served, make: Callable[[Served], Any], streams: bool) -> None:
    if streams:  # this framework takes the first text of a stream for the answer
        served.engine.script = Script(words=CALL.words[1:])
    agent = pytest.importorskip("pydantic_ai").Agent(make(served))
    agent.tool_plain(get_weather)

    async def run() -> str:
        if not streams:
            result = await agent.run(QUESTION)
            return str(result.output)
        async with agent.run_stream(QUESTION) as stream:
            return str(await stream.get_output())

    text = asyncio.run(run())
    assert text == "It is sunny in Oslo."
    assert_round_trip(served)
