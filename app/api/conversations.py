"""Conversations that the server keeps for its agents, in memory, within bounds."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.api.errors import ConversationTooLongError, NoConversationError
from engine.errors import AgentBusyError, AgentNotFoundError, InvalidRequestError
from engine.face import EngineFace
from engine.snapshot import EngineSnapshot

_NEWS_S = 5.0
"""An agent is on the engine's list of agents this long after its first turn at the latest."""

Key = tuple[str, str]
"""Whose agent it is, and its id."""


@dataclass(slots=True, eq=False)
class Conversation:
    """One agent's conversation, in Anthropic's shapes.

    Attributes:
        key: Whose agent it is, and its id.
        opening: ``system`` and ``tools`` as the client sent them, where it did.
        messages: All messages so far.
        num_bytes: Bytes of all that as JSON.
        is_busy: Whether a reply is under way.
        ends: Where turns ended: the number of each among the agent's, and the messages until then.
    """

    key: Key
    opening: dict[str, Any]
    messages: list[dict[str, Any]]
    num_bytes: int = 0
    is_busy: bool = False
    ends: list[tuple[int, int]] = field(default_factory=list)
    _made_at: float = field(default_factory=time.monotonic)
    _was_listed: bool = False

    def __post_init__(self) -> None:
        """Measures what it begins with."""
        self.num_bytes = _num_bytes([self.opening, self.messages])

    def is_over(self, *, is_listed: bool) -> bool:
        """Whether the agent was removed: then its conversation is, too.

        Args:
            is_listed: Whether the engine has the agent on its list now.
        """
        if is_listed:
            self._was_listed = True
            return False
        is_new = not self._was_listed and time.monotonic() - self._made_at < _NEWS_S
        return not self.is_busy and not is_new

    def end_turn(self, number: int) -> None:
        """Takes note that a turn of the agent ended with the messages that are there now."""
        self.ends.append((number, len(self.messages)))

    def fork(self, turn: int | None) -> Conversation | None:
        """What an agent that is forked from this one starts with; it has no key yet.

        Args:
            turn: The turn at whose end it starts; None for the last one.

        Returns:
            The conversation; None where nothing is known of that turn.
        """
        ends = [end for end in self.ends if turn is None or end[0] <= turn]
        if not ends:
            return None
        messages = self.messages[: ends[-1][1]]
        return Conversation(("", ""), self.opening, messages, ends=ends)


class Conversations:
    """The conversations that were used last. Belongs to the API's loop."""

    def __init__(self, engine: EngineFace, max_conversations: int, max_bytes: int) -> None:
        """Makes an empty store.

        Args:
            engine: Whose agents they are.
            max_conversations: How many are kept.
            max_bytes: Bytes of all of them together.
        """
        self._engine = engine
        self._max_conversations = max_conversations
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Key, Conversation] = OrderedDict()
        # The engine shows what it has done a moment later: with what it showed at that time.
        self._removed: dict[Key, EngineSnapshot] = {}

    def has_agent(self, key: Key) -> bool:
        """Whether the engine has an agent, as far as it shows; a removed one is gone at once."""
        snapshot = self._engine.snapshot
        namespace, agent_id = key
        is_removed = self._removed.get(key) is snapshot
        return not is_removed and snapshot.agent(agent_id, namespace) is not None

    def get(self, key: Key) -> Conversation:
        """The conversation of an agent.

        Raises:
            AgentNotFoundError: There is no such agent.
            NoConversationError: There is, and nothing of what it said is kept here.
        """
        self._let_go_of_removed()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if not self.has_agent(key):
            raise AgentNotFoundError(key[1])
        raise NoConversationError(key[1])

    def add(self, conversation: Conversation) -> None:
        """Keeps a new conversation; those that were not used for longest go.

        Raises:
            InvalidRequestError: The agent has one.
            ConversationTooLongError: It is longer than all of them may be together.
        """
        self._let_go_of_removed()
        if conversation.key in self._kept:
            raise InvalidRequestError(
                f"there is an agent {conversation.key[1]!r} with a conversation"
            )
        self._check_fits(conversation.num_bytes)
        self._kept[conversation.key] = conversation
        self._make_room()

    def forked(self, key: Key, turn: int | None) -> Conversation | None:
        """What a fork of an agent would start with; to be asked for before the engine forks it.

        Args:
            key: The agent.
            turn: The turn at whose end the fork starts; None for the last one.

        Returns:
            It; None where nothing of that is kept.

        Raises:
            AgentBusyError: A reply is under way.
        """
        self._let_go_of_removed()
        conversation = self._kept.get(key)
        if conversation is None:
            return None
        if conversation.is_busy:
            raise AgentBusyError(key[1], "fork")
        return conversation.fork(turn)

    def add_fork(self, key: Key, conversation: Conversation) -> None:
        """Keeps what a fork starts with. If there is no room for it, the fork has no words."""
        conversation.key = key
        self._kept[key] = conversation
        self._make_room()

    def remove(self, key: Key) -> None:
        """Lets go of the conversation of an agent that the engine has just removed."""
        snapshot = self._engine.snapshot
        self._removed = {
            other: shown for other, shown in self._removed.items() if shown is snapshot
        }
        self._removed[key] = snapshot
        self.forget(key)

    def forget(self, key: Key) -> None:
        """Lets go of a conversation, if there is one."""
        self._kept.pop(key, None)

    @contextmanager
    def held(self, conversation: Conversation) -> Iterator[None]:
        """Keeps others from talking in between; for what fails before a reply is under way."""
        self.hold(conversation)
        try:
            yield
        except BaseException:
            conversation.is_busy = False
            raise

    def hold(self, conversation: Conversation) -> None:
        """Begins an exchange: one at a time, so that messages follow each other.

        Raises:
            AgentBusyError: One is under way.
        """
        if conversation.is_busy:
            raise AgentBusyError(conversation.key[1], "send a message to")
        conversation.is_busy = True

    def check_grows(self, conversation: Conversation, message: dict[str, Any]) -> None:
        """Refuses a message that there could never be room for.

        Raises:
            ConversationTooLongError: The conversation would be too long.
        """
        self._check_fits(conversation.num_bytes + _num_bytes(message))

    def extend(
        self, conversation: Conversation, turn_number: int, *messages: dict[str, Any]
    ) -> None:
        """Adds what was said in a turn to a conversation, unless it was forgotten meanwhile."""
        conversation.messages += messages
        conversation.end_turn(turn_number)
        conversation.num_bytes += _num_bytes(list(messages))
        self._make_room()

    def _check_fits(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise ConversationTooLongError(self._max_bytes)

    def _make_room(self) -> None:
        num_bytes = sum(kept.num_bytes for kept in self._kept.values())
        for key, conversation in tuple(self._kept.items()):
            if len(self._kept) <= self._max_conversations and num_bytes <= self._max_bytes:
                return
            if not conversation.is_busy:
                num_bytes -= conversation.num_bytes
                del self._kept[key]

    def _let_go_of_removed(self) -> None:
        for key, conversation in tuple(self._kept.items()):
            if conversation.is_over(is_listed=self.has_agent(key)):
                del self._kept[key]


def _num_bytes(value: Any) -> int:
    return len(json.dumps(value))
