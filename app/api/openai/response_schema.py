"""The request of a response, read into a turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json

from app.api.draft import TurnDraft, max_tokens_of, sampling_of
from app.api.errors import PreviousResponseNotFoundError, ResponseNotFoundError
from app.api.fields import Fields
from app.api.openai.forms import response_form
from app.api.openai.items import messages_of
from app.api.openai.response_items import new_id
from app.api.openai.response_store import ResponseStore, StoredItem, StoredResponse
from app.api.openai.sampling import response_logprobs
from app.api.openai.tools import (
    FunctionName,
    response_tool_choice,
    response_tools,
    with_own_names,
)
from app.api.sse import compact
from engine.messages import Message, Role

_ID_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
}
_NOT_OFFERED = {
    "conversation": "conversations are not kept here; use previous_response_id",
    "prompt": "prompts are not kept here; send their text as instructions",
}
_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 0.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what it says where the request says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseDraft(TurnDraft):
    """A response that was asked for.

    Attributes:
        inputs: The items that were sent.
        previous: The response that it goes on from.
        names: What the client calls its functions, by the names that the model knows.
        repeated: The fields of the request that the response repeats.
        keeps: Whether the response may be stored.
    """

    inputs: tuple[StoredItem, ...]
    previous: StoredResponse | None
    names: Mapping[str, FunctionName]
    repeated: Mapping[str, Any]
    keeps: bool


class ResponseParser:
    """Reads ``POST /v1/responses`` of one client."""

    def __init__(self, store: ResponseStore, namespace: str) -> None:
        """Makes a reader.

        Args:
            store: What requests may refer to.
            namespace: Whose requests they are.
        """
        self._store = store
        self._namespace = namespace

    def __call__(self, body: Fields) -> ResponseDraft:
        """Reads a request.

        Raises:
            InvalidRequestError: A field is missing or wrong, or asks for what is not there; the
                error names it.
            PreviousResponseNotFoundError: It goes on from a response that is not stored.
        """
        _refuse_unsupported(body)
        previous = self._previous(body)
        items = list(self._items(body))
        tools = list(response_tools(body))
        specs = with_own_names(body, [spec for _, spec in tools])
        form = response_form(body)
        return ResponseDraft(
            model=body.text("model") or "",
            messages=_messages(body, previous, items),
            tools=specs,
            tool_choice=response_tool_choice(body, specs),
            response_schema_json=form.schema_json,
            any_object=form.any_object,
            sampling=replace(sampling_of(body, ()), num_logprobs=response_logprobs(body)),
            max_tokens=max_tokens_of(body, "max_output_tokens"),
            stream=body.flag("stream"),
            inputs=tuple(_stored(item) for item in items),
            previous=previous,
            names={name.for_model: name for name, _ in tools},
            repeated={
                name: default if body.get(name) is None else body.get(name)
                for name, default in _DEFAULTS.items()
            },
            keeps=body.get("store") is None or body.flag("store"),
        )

    def _previous(self, body: Fields) -> StoredResponse | None:
        response_id = body.text("previous_response_id")
        if response_id is None:
            return None
        try:
            return self._store.get(self._namespace, response_id)
        except ResponseNotFoundError as error:
            raise PreviousResponseNotFoundError(response_id) from error

    def _items(self, body: Fields) -> Iterator[Fields]:
        if isinstance(body.get("input"), str):
            part = {"type": "input_text", "text": body.required_text("input")}
            yield Fields({"type": "message", "role": "user", "content": [part]}, "input")
            return
        for item in body.children("input"):
            yield self._referred(item) if item.get("type") == "item_reference" else item

    def _referred(self, reference: Fields) -> Fields:
        item_id = reference.required_text("id")
        item = self._store.item(self._namespace, item_id)
        if item is None:
            raise reference.error("id", "no such item is stored here; send the item itself")
        return _parsed(item)


def _refuse_unsupported(body: Fields) -> None:
    """Refuses what would give another answer than the one asked for."""
    for name, advice in _NOT_OFFERED.items():
        if body.get(name) is not None:
            raise body.error(name, advice)
    if body.flag("background"):
        raise body.error("background", "responses are generated while you wait; leave it out")


def _messages(
    body: Fields, previous: StoredResponse | None, items: list[Fields]
) -> tuple[Message, ...]:
    """The whole conversation: the same whether it was sent whole or goes on from a response."""
    earlier = [_parsed(item) for item in previous.conversation()] if previous else []
    messages = messages_of([*earlier, *items])
    if not messages:
        raise body.error("input", "at least one message is required")
    instructions = body.text("instructions")
    system = [Message(role=Role.SYSTEM, text=instructions)] if instructions else []
    return (*system, *messages)


def _parsed(item: StoredItem) -> Fields:
    return Fields(from_json(item.content), item.item_id)


def _stored(item: Fields) -> StoredItem:
    kind = item.text("type") or "message"
    item_id = item.text("id") or new_id(_ID_PREFIXES.get(kind, "item"))
    content = {"type": kind, **item.values, "id": item_id}
    return StoredItem(item_id, compact(content))


def stored_output(item: Mapping[str, Any]) -> StoredItem:
    """An item of a reply as it is stored."""
    return StoredItem(item["id"], compact(item))
