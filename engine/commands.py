"""What goes into the engine: frozen commands, each answered through a future or a sink."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from engine.request import DeltaSink, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Queue one turn.

    Attributes:
        request: What to generate.
        sink: Receives the deltas on the engine thread.
        admitted: Resolves to the agent id once the turn is queued, or fails with a StokerError
            (``QueueFullError``, ``PoolExhaustedError``, ``ContextExceededError``,
            ``UnavailableError``) and then the sink never hears of it.
    """

    request: Request
    sink: DeltaSink
    admitted: Future[str] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """End one turn at the next step and free its blocks; unknown ids are ignored.

    Attributes:
        request_id: The turn to end.
        reason: Shown in the event.
    """

    request_id: str
    reason: str = "client went away"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortAgent:
    """End every turn of one agent, running or waiting.

    Attributes:
        agent_id: Whose turns to end.
        done: Resolves to the number of turns that were ended; fails with AgentNotFoundError.
    """

    agent_id: str
    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictAgent:
    """Drop an agent's cache from memory. Its identity stays.

    Its next turn reads back what is on disk and recomputes the rest, but for what others share.

    Attributes:
        agent_id: Whose cache to drop.
        done: Resolves to the bytes freed; fails with AgentNotFoundError, or AgentBusyError while
            a turn is in progress.
    """

    agent_id: str
    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictIdle:
    """Drop the caches of all idle, unpinned agents.

    Attributes:
        done: Resolves to the bytes freed.
    """

    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmAgent:
    """Bring an agent's cache from disk into memory, ahead of its next turn.

    Attributes:
        agent_id: The agent.
        done: Resolves to the tokens that are in memory afterwards; fails with AgentNotFoundError,
            AgentBusyError, or NotOnDiskError when there is nothing to bring.
    """

    agent_id: str
    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkAgent:
    """Make a new agent that starts from another's cache; they share its blocks.

    Attributes:
        agent_id: The agent to start from.
        fork_id: Name of the new one; None lets the engine name it after the old one.
        done: Resolves to the new agent's id; fails with AgentNotFoundError, AgentBusyError, or
            InvalidRequestError when the name is taken or not allowed.
    """

    agent_id: str
    fork_id: str | None = None
    done: Future[str] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class PinAgent:
    """Keep an agent's cache from eviction, or let it go again.

    Attributes:
        agent_id: The agent.
        pinned: The new state.
        done: Resolves to the new state; fails with AgentNotFoundError.
    """

    agent_id: str
    pinned: bool
    done: Future[bool] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Put an event into the engine's ring, so that what the edge decided is visible too.

    Attributes:
        kind: Event kind, one word.
        text: One line.
        level: ``info``, ``warning`` or ``error``.
    """

    kind: str
    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """Stop admitting, let running turns finish up to a limit, then end the thread.

    Attributes:
        drain_s: Seconds that running turns may take to finish; 0 aborts them at once.
    """

    drain_s: float = 5.0


AgentCommand = AbortAgent | EvictAgent | EvictIdle | WarmAgent | ForkAgent | PinAgent
Command = Generate | Abort | AgentCommand | Note | Shutdown
