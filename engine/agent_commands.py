"""Commands about agents and their caches; like all of them answered through a future."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """What an eviction came to.

    Attributes:
        freed_bytes: Bytes of memory that were freed.
        num_tokens: Tokens of the caches that left memory.
        num_disk_tokens: Those of them that are on disk, from the beginning of each context.
    """

    freed_bytes: int = 0
    num_tokens: int = 0
    num_disk_tokens: int = 0

    def __add__(self, other: Eviction) -> Eviction:
        """Two evictions in one."""
        return Eviction(
            freed_bytes=self.freed_bytes + other.freed_bytes,
            num_tokens=self.num_tokens + other.num_tokens,
            num_disk_tokens=self.num_disk_tokens + other.num_disk_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedAgent:
    """An agent that was written into a file.

    Attributes:
        path: The file.
        num_bytes: Its length.
        num_tokens: Tokens of the cache in it.
    """

    path: Path
    num_bytes: int
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAgent:
    """An agent that was read from a file.

    Attributes:
        agent_id: Its name here.
        num_tokens: Tokens of its cache, all on disk.
    """

    agent_id: str
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentText:
    """What an agent's conversation says at one moment, as text with the model's own marks.

    Attributes:
        reply: The reply of its running turn so far; None while no turn runs, or where it was not
            asked for.
        is_cut: Whether that is only the end of it.
        lead: The last text that is equal before the place where its last prompt had changed;
            empty where no change cost it anything.
        was: What followed there before; empty where that is not known any more.
        now: What follows there now.
    """

    reply: str | None = None
    is_cut: bool = False
    lead: str = ""
    was: str = ""
    now: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAgent:
    """Tell what an agent is saying, and where its last prompt changed.

    Texts are for whoever asks; they are in no snapshot, event, log or recording.

    Attributes:
        agent_id: The agent.
        with_reply: Whether the reply of its running turn is wanted too.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the text; fails with AgentNotFoundError.
    """

    agent_id: str
    with_reply: bool = False
    namespace: str = ""
    done: Future[AgentText] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictAgent:
    """Drop an agent's cache from memory, once the disk has what it can take of it.

    Its identity stays. Its next turn reads back what is on disk and recomputes the rest, but for
    what others share.

    Attributes:
        agent_id: Whose cache to drop.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to what was freed and what stays on disk; fails with AgentNotFoundError, or
            AgentBusyError while a turn is in progress.
    """

    agent_id: str
    namespace: str = ""
    done: Future[Eviction] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictIdle:
    """Drop the caches of all idle, unpinned agents, each as ``EvictAgent`` does.

    Attributes:
        done: Resolves to what was freed and what stays on disk.
    """

    done: Future[Eviction] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmAgent:
    """Bring an agent's cache from disk into memory, ahead of its next turn.

    Attributes:
        agent_id: The agent.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the tokens that are in memory afterwards; fails with AgentNotFoundError,
            AgentBusyError, or NotOnDiskError when there is nothing to bring.
    """

    agent_id: str
    namespace: str = ""
    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkAgent:
    """Make a new agent that starts from another's cache; they share its blocks.

    Attributes:
        agent_id: The agent to start from.
        fork_id: Name of the new one; None lets the engine name it after the old one.
        turn: Number of the turn at whose end to start; None starts where the old one is.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the new agent's id; fails with AgentNotFoundError, AgentBusyError, or
            InvalidRequestError when the name is taken or not allowed, or that turn cannot be had.
    """

    agent_id: str
    fork_id: str | None = None
    turn: int | None = None
    namespace: str = ""
    done: Future[str] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class PinAgent:
    """Keep an agent's cache from eviction, or let it go again.

    Attributes:
        agent_id: The agent.
        pinned: The new state.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the new state; fails with AgentNotFoundError.
    """

    agent_id: str
    pinned: bool
    namespace: str = ""
    done: Future[bool] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAgent:
    """Forget an agent: its identity, its cache, and what only it has on disk.

    Attributes:
        agent_id: The agent.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the bytes of memory freed; fails with AgentNotFoundError, or
            AgentBusyError while a turn is in progress.
    """

    agent_id: str
    namespace: str = ""
    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportAgent:
    """Write an agent and its cache into one file, once all of it is on disk.

    Attributes:
        agent_id: The agent.
        path: The file; one that is there is replaced when the new one is complete.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves when the file is complete; fails with AgentNotFoundError, AgentBusyError,
            NoCacheError, NoDiskTierError or ArchiveError.
    """

    agent_id: str
    path: Path
    namespace: str = ""
    done: Future[ExportedAgent] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportAgent:
    """Take an agent and its cache in from a file; its cache is on disk afterwards.

    Attributes:
        path: The file; it is only read.
        agent_id: Name of the agent here; None keeps the one it had.
        namespace: Whose agent it becomes; see ``Request.namespace``.
        done: Resolves when all of it is on disk; fails with InvalidRequestError when the name is
            taken or not allowed, ForeignArchiveError, ArchiveError or NoDiskTierError, and then
            there is no such agent.
    """

    path: Path
    agent_id: str | None = None
    namespace: str = ""
    done: Future[ImportedAgent] = field(default_factory=Future)


CacheCommand = (
    ReadAgent
    | EvictAgent
    | EvictIdle
    | WarmAgent
    | ForkAgent
    | PinAgent
    | RemoveAgent
    | ExportAgent
    | ImportAgent
)
