"""Responses that a later request may go on from, in memory, within bounds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.api.errors import ResponseNotFoundError

Key = tuple[str, str]
"""Whose it is, and its id."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item of a conversation.

    Attributes:
        item_id: Its id.
        content: It as JSON text.
    """

    item_id: str
    content: bytes


@dataclass(slots=True, eq=False, kw_only=True)
class StoredResponse:
    """A response, and what it adds to the one that it goes on from.

    Attributes:
        response_id: Its id.
        namespace: Whose it is.
        body: The response as JSON text.
        inputs: What the client sent with it.
        outputs: What was replied.
        previous: What it goes on from.
        num_holders: How many hold it: the store, and responses that go on from it.
    """

    response_id: str
    namespace: str
    body: bytes
    inputs: tuple[StoredItem, ...]
    outputs: tuple[StoredItem, ...]
    previous: StoredResponse | None = None
    num_holders: int = field(default=0, init=False)

    @property
    def key(self) -> Key:
        """Names it in the store."""
        return (self.namespace, self.response_id)

    @property
    def num_bytes(self) -> int:
        """Bytes of its own texts."""
        return len(self.body) + sum(len(item.content) for item in self.own_items())

    def own_items(self) -> Iterator[StoredItem]:
        """What it adds, oldest first."""
        yield from self.inputs
        yield from self.outputs

    def conversation(self) -> tuple[StoredItem, ...]:
        """Every item up to its end, oldest first."""
        return (*self.input_items(), *self.outputs)

    def input_items(self) -> tuple[StoredItem, ...]:
        """Every item that the model read for it, oldest first."""
        chain: list[StoredResponse] = [self]
        while chain[-1].previous is not None:
            chain.append(chain[-1].previous)
        earlier = [item for node in reversed(chain[1:]) for item in node.own_items()]
        return (*earlier, *self.inputs)


class ResponseStore:
    """The responses that were used last. Thread-safe.

    A conversation is a chain of responses, each with its own items only. Forgetting one takes its
    name away; its items stay as long as a response that goes on from it is there.
    """

    def __init__(self, max_responses: int, max_bytes: int) -> None:
        """Makes an empty store.

        Args:
            max_responses: Responses that can be asked for by name.
            max_bytes: Bytes of all texts, also of those that only later responses hold.
        """
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._responses: OrderedDict[Key, StoredResponse] = OrderedDict()
        self._items: dict[Key, StoredItem] = {}
        self._num_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many responses can be asked for."""
        return len(self._responses)

    @property
    def num_bytes(self) -> int:
        """Bytes of all texts."""
        return self._num_bytes

    def get(self, namespace: str, response_id: str) -> StoredResponse:
        """A response, which now counts as used.

        Raises:
            ResponseNotFoundError: There is none of that id in the namespace.
        """
        with self._lock:
            response = self._responses.get((namespace, response_id))
            if response is None:
                raise ResponseNotFoundError(response_id)
            self._responses.move_to_end(response.key)
            return response

    def item(self, namespace: str, item_id: str) -> StoredItem | None:
        """An item of any response that is there, by its id; None where it is unknown."""
        with self._lock:
            return self._items.get((namespace, item_id))

    def add(self, response: StoredResponse) -> None:
        """Keeps a response, and forgets the ones that were not used for longest."""
        with self._lock:
            self._responses[response.key] = response
            self._hold(response)
            while self._responses and (
                len(self._responses) > self._max_responses or self._num_bytes > self._max_bytes
            ):
                _, oldest = self._responses.popitem(last=False)
                self._let_go(oldest)

    def remove(self, namespace: str, response_id: str) -> None:
        """Forgets a response.

        Raises:
            ResponseNotFoundError: There is none of that id in the namespace.
        """
        with self._lock:
            response = self._responses.pop((namespace, response_id), None)
            if response is None:
                raise ResponseNotFoundError(response_id)
            self._let_go(response)

    def _hold(self, response: StoredResponse) -> None:
        """Counts a holder in; a chain that nobody held until now comes in whole."""
        node: StoredResponse | None = response
        while node is not None:
            node.num_holders += 1
            if node.num_holders > 1:
                return
            self._num_bytes += node.num_bytes
            self._items |= {(node.namespace, item.item_id): item for item in node.own_items()}
            node = node.previous

    def _let_go(self, response: StoredResponse) -> None:
        """Counts a holder out, and drops what of its chain nobody holds any more."""
        node: StoredResponse | None = response
        while node is not None:
            node.num_holders -= 1
            if node.num_holders:
                return
            self._num_bytes -= node.num_bytes
            for item in node.own_items():
                if self._items.get((node.namespace, item.item_id)) is item:
                    del self._items[node.namespace, item.item_id]
            node = node.previous
