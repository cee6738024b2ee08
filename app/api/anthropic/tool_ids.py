"""Whether every result in a conversation answers a call, and every call has its result."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from app.api.fields import Fields

_EACH = (
    "each `tool_result` block must have a corresponding `tool_use` block in the previous message"
)


def check_tool_ids(body: Fields) -> None:
    """Refuses conversations whose calls and results do not fit together.

    Messages of one role in a row count as one; system messages between them do not count.

    Raises:
        FieldError: An id is missing, stands alone, or stands for two calls.
    """
    said = (m for m in body.children("messages") if m.get("role") in ("user", "assistant"))
    known: set[str] = set()
    open_calls: dict[str, Fields] = {}
    for role, run in groupby(said, lambda message: message.get("role")):
        blocks = [block for message in run for block in _blocks(message)]
        if role == "user":
            _close(blocks, open_calls)
        _refuse_open(open_calls)
        open_calls = {}
        if role == "assistant":
            open_calls = _calls(blocks, known)
    _refuse_open(open_calls)


def _blocks(message: Fields) -> Iterator[Fields]:
    return message.children("content") if isinstance(message.get("content"), list) else iter(())


def _calls(blocks: list[Fields], known: set[str]) -> dict[str, Fields]:
    calls: dict[str, Fields] = {}
    for block in blocks:
        if block.get("type") != "tool_use":
            continue
        call_id = block.required_text("id")
        if call_id in known:
            raise block.error("id", "`tool_use` ids must be unique")
        known.add(call_id)
        calls[call_id] = block
    return calls


def _close(blocks: list[Fields], open_calls: dict[str, Fields]) -> None:
    answered: set[str] = set()
    for block in blocks:
        if block.get("type") != "tool_result":
            continue
        call_id = block.required_text("tool_use_id")
        if call_id in answered:
            raise block.error("tool_use_id", "each `tool_use` must have a single result")
        if open_calls.pop(call_id, None) is None:
            raise block.error("tool_use_id", f"unexpected; {_EACH}")
        answered.add(call_id)


def _refuse_open(open_calls: dict[str, Fields]) -> None:
    for block in open_calls.values():
        raise block.error("id", "no `tool_result` block for it in the next message")
