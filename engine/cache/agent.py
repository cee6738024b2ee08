"""One agent: a client's conversation identity, and the cache of its last turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.cache.block import KVBlock
from engine.cache.last_turn import LastTurn
from engine.cache.lineage import SavedTable
from engine.cache.reply import ReplyTokens
from engine.cache.token_change import TokenChange
from engine.cache.turn_history import TurnHistory

AgentKey = tuple[str, str]
"""Namespace and id of an agent."""


@dataclass(slots=True, eq=False)
class Agent:
    """A client's conversation identity and the cache of its last turn.

    What decides whether it or its cache may be taken away (``pinned``, ``paused``, ``priority``,
    ``num_active``, ``block_table``) is changed by the store alone, which keeps accounts of it.

    Attributes:
        agent_id: Its name.
        namespace: Whose it is; agents of different namespaces may have the same name.
        named_here: Whether the name was made here, because the client sent none.
        protocol: How it talks to us; for display.
        number: Tells it from all other agents in the pool's accounts.
        pinned: Never evicted while True.
        paused: No turn of it is admitted while True.
        priority: How far its turns go ahead of others', in steps; negative ones wait longer.
        block_table: Its blocks; all full and sealed but, possibly, the last (the tail, or the
            checkpoint at the end).
        token_ids: The tokens those blocks cover; the last block of a fork may cover more.
        prompt_token_ids: Prompt of its last turn; empty when that was before a restart.
        prompt_digest: ``prompt_digest`` of it.
        num_last_prompt_tokens: Its length.
        saving: Its cache as it was last handed to the disk.
        saved: Its cache as the disk has acknowledged it; None before it has.
        num_active: Turns in progress, waiting or running.
        last_active_s: When its last turn ended, monotonic seconds.
        num_turns: Turns finished.
        last_turn: What the last one was like.
        history: Marks of the last turns.
        replies: Replies of its conversation that the tokenizer would write in other tokens.
        num_evicted_tokens: Tokens of the cache that was taken away since its last turn.
        tool_turn: The turn whose reply called tools; 0 before one did.
        change: Where its last prompt was not what it had been; None where that cost nothing.
        is_short_lived: Whether it is there for one turn only.
    """

    agent_id: str
    namespace: str = ""
    named_here: bool = False
    protocol: str = "local"
    number: int = -1
    pinned: bool = False
    paused: bool = False
    priority: int = 0
    block_table: list[KVBlock] = field(default_factory=list)
    token_ids: tuple[int, ...] = ()
    prompt_token_ids: tuple[int, ...] = ()
    prompt_digest: bytes = b""
    num_last_prompt_tokens: int = 0
    saving: SavedTable | None = None
    saved: SavedTable | None = None
    num_active: int = 0
    last_active_s: float = 0.0
    num_turns: int = 0
    last_turn: LastTurn = field(default_factory=LastTurn)
    history: TurnHistory = field(default_factory=TurnHistory)
    replies: tuple[ReplyTokens, ...] = ()
    num_evicted_tokens: int = 0
    tool_turn: int = 0
    change: TokenChange | None = None
    is_short_lived: bool = False

    @property
    def key(self) -> AgentKey:
        """What tells it from all other agents."""
        return self.namespace, self.agent_id

    @property
    def awaits_tools(self) -> bool:
        """Whether its last reply called tools, and what they gave has not come."""
        is_last = self.tool_turn == self.history.next_number - 1
        return self.tool_turn > 0 and is_last and self.num_active == 0

    @property
    def evictable(self) -> bool:
        """Whether its cache may be taken away now."""
        return not self.pinned and self.num_active == 0 and bool(self.block_table)

    @property
    def forgettable(self) -> bool:
        """Whether nothing but its name would be lost with it."""
        is_marked = self.pinned or self.paused or self.priority != 0
        return not is_marked and self.num_active == 0 and not self.block_table
