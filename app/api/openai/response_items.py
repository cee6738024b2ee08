"""The output items of a response, and the events that tell how they come about."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.api.openai.logprobs import chat_token
from app.api.openai.tools import FunctionName
from app.api.openai.wire import call_name
from app.api.reply import Block, ReasoningBlock, Reply, TextBlock
from engine.pieces import CallArguments, CallEnd, CallStart, Piece, ReasoningPiece, TextPiece
from engine.request import TokenLogprob

Event = dict[str, Any]
Item = dict[str, Any]


def new_id(prefix: str) -> str:
    """An id that no other thing has."""
    return f"{prefix}_{uuid.uuid4().hex}"


class OutputItems:
    """Makes items of the pieces of a reply.

    One item is open at a time: what a reply is made of comes one after the other.

    Attributes:
        items: The items that are finished.
    """

    def __init__(self, names: Mapping[str, FunctionName]) -> None:
        """Makes nothing yet.

        Args:
            names: What the client calls its functions, by the names that the model knows.
        """
        self.items: list[Item] = []
        self._names = names
        self._open: _TextItem | _CallItem | None = None

    def add(self, piece: Piece) -> Iterator[Event]:
        """Takes a piece; the events that tell of it, in order."""
        if isinstance(piece, TextPiece | ReasoningPiece):
            yield from self._add_text(piece)
        elif isinstance(piece, CallStart):
            yield from self.close()
            self._open = _CallItem(piece, self._names.get(piece.name) or FunctionName(piece.name))
            yield self._added(self._open)
        elif isinstance(piece, CallArguments):
            assert isinstance(self._open, _CallItem)
            yield self._at(self._open.add(piece.json_text))
        else:
            yield from self.close()

    def close(self, *, is_cut: bool = False) -> Iterator[Event]:
        """Finishes the item that is open, if one is.

        Args:
            is_cut: Whether the reply ended there for want of room.
        """
        item, self._open = self._open, None
        if item is None:
            return
        for event in item.done():
            yield self._at(event)
        content = item.content("incomplete" if is_cut else "completed")
        yield {"type": "response.output_item.done", "output_index": self._index, "item": content}
        self.items.append(content)

    def take(self, reply: Reply, *, is_cut: bool) -> None:
        """Takes a whole reply at once; nobody is told of it.

        Args:
            reply: The reply.
            is_cut: Whether it ended for want of room.
        """
        for number, block in enumerate(reply.blocks):
            for piece in _pieces_of(number, block):
                for _ in self.add(piece):
                    pass
        for _ in self.close(is_cut=is_cut):
            pass

    def _add_text(self, piece: TextPiece | ReasoningPiece) -> Iterator[Event]:
        kind = _MESSAGE if isinstance(piece, TextPiece) else _REASONING
        item = self._open
        if not isinstance(item, _TextItem) or item.kind is not kind:
            yield from self.close()
            self._open = item = _TextItem(kind)
            yield self._added(item)
            yield self._at(item.part_added())
        logprobs = piece.logprobs if isinstance(piece, TextPiece) else ()
        yield self._at(item.add(piece.text, logprobs))

    @property
    def _index(self) -> int:
        return len(self.items)

    def _added(self, item: _TextItem | _CallItem) -> Event:
        return {
            "type": "response.output_item.added",
            "output_index": self._index,
            "item": item.opening(),
        }

    def _at(self, event: Event) -> Event:
        return event | {"output_index": self._index}


def _pieces_of(number: int, block: Block) -> Iterator[Piece]:
    if isinstance(block, TextBlock):
        yield TextPiece(block.text, block.logprobs)
    elif isinstance(block, ReasoningBlock):
        yield ReasoningPiece(block.text)
    else:
        yield CallStart(number, block.call_id, block.name)
        yield CallArguments(number, block.arguments_json)
        yield CallEnd(number)


@dataclass(frozen=True, slots=True)
class _TextKind:
    """What tells an item of text from one of another kind.

    Attributes:
        prefix: Of its id.
        event: Beginning of the names of its own events.
        head: Fields of the item.
        part: Fields of its one part.
        tells_logprobs: Whether it has a place for how likely its tokens were.
    """

    prefix: str
    event: str
    head: Item
    part: Item
    tells_logprobs: bool


_MESSAGE = _TextKind(
    prefix="msg",
    event="response.output_text",
    head={"type": "message", "role": "assistant"},
    part={"type": "output_text", "annotations": []},
    tells_logprobs=True,
)
_REASONING = _TextKind(
    prefix="rs",
    event="response.reasoning_text",
    head={"type": "reasoning", "summary": []},
    part={"type": "reasoning_text"},
    tells_logprobs=False,
)


class _TextItem:
    """An item with one part, which is text."""

    def __init__(self, kind: _TextKind) -> None:
        self.item_id = new_id(kind.prefix)
        self.kind = kind
        self._texts: list[str] = []
        self._logprobs: list[Item] = []

    def add(self, text: str, logprobs: Sequence[TokenLogprob]) -> Event:
        rows = [chat_token(row) for row in logprobs]
        self._texts.append(text)
        self._logprobs += rows
        return self._event(f"{self.kind.event}.delta", delta=text, **self._told(rows))

    def part_added(self) -> Event:
        return self._event("response.content_part.added", part=self._part())

    def done(self) -> Iterator[Event]:
        text = "".join(self._texts)
        logprobs = self._told(self._logprobs)
        yield self._event(f"{self.kind.event}.done", text=text, **logprobs)
        yield self._event("response.content_part.done", part=self._part())

    def opening(self) -> Item:
        return self._item("in_progress", [])

    def content(self, status: str) -> Item:
        return self._item(status, [self._part()])

    def _item(self, status: str, parts: list[Item]) -> Item:
        return {"id": self.item_id, **self.kind.head, "status": status, "content": parts}

    def _part(self) -> Item:
        told = self._told(self._logprobs)
        return {**self.kind.part, **told, "text": "".join(self._texts)}

    def _told(self, logprobs: Sequence[Item]) -> Item:
        return {"logprobs": list(logprobs)} if self.kind.tells_logprobs else {}

    def _event(self, kind: str, **fields: object) -> Event:
        return {"type": kind, "item_id": self.item_id, "content_index": 0, **fields}


class _CallItem:
    """A function call."""

    def __init__(self, start: CallStart, name: FunctionName) -> None:
        self.item_id = new_id("fc")
        self._call_id = call_name(start.call_id)
        self._name = name
        self._arguments: list[str] = []

    def add(self, json_text: str) -> Event:
        self._arguments.append(json_text)
        kind = "response.function_call_arguments.delta"
        return {"type": kind, "item_id": self.item_id, "delta": json_text}

    def done(self) -> Iterator[Event]:
        yield {
            "type": "response.function_call_arguments.done",
            "item_id": self.item_id,
            "name": self._name.name,
            "arguments": "".join(self._arguments),
        }

    def opening(self) -> Item:
        return self._item("in_progress", "")

    def content(self, status: str) -> Item:
        return self._item(status, "".join(self._arguments))

    def _item(self, status: str, arguments: str) -> Item:
        item = {
            "id": self.item_id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name.name,
            "arguments": arguments,
        }
        return item | ({"namespace": self._name.namespace} if self._name.namespace else {})
