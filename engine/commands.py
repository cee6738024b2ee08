"""What goes into the engine: frozen commands, each answered through a future or a sink."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from engine.agent_commands import CacheCommand
from engine.model_commands import ModelCommand
from engine.request import DeltaSink, Request
from engine.snapshot import BlockRow


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
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the number of turns that were ended; fails with AgentNotFoundError.
    """

    agent_id: str
    namespace: str = ""
    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseAgent:
    """Let no turn of an agent go on, or let them go on again.

    A running turn stops at the next step and waits; what is computed of it stays reusable.

    Attributes:
        agent_id: The agent.
        paused: The new state.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the new state; fails with AgentNotFoundError.
    """

    agent_id: str
    paused: bool
    namespace: str = ""
    done: Future[bool] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPriority:
    """Let an agent's turns go ahead of others', or behind them.

    Attributes:
        agent_id: The agent.
        priority: The new one, from ``MIN_PRIORITY`` to ``MAX_PRIORITY``; 0 is the usual one.
        namespace: Whose agent it is; see ``Request.namespace``.
        done: Resolves to the new priority; fails with AgentNotFoundError, or InvalidRequestError
            when there is no such priority.
    """

    agent_id: str
    priority: int
    namespace: str = ""
    done: Future[int] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBatchWindow:
    """Change how long an idle engine waits for company for a first request.

    Attributes:
        window_ms: Milliseconds; 0 waits for nobody.
        done: Resolves to the new window; fails with InvalidRequestError when it is out of range.
    """

    window_ms: float
    done: Future[float] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeBlock:
    """Tell what is in one block of the pool.

    Attributes:
        block_id: Its place in the block map.
        done: Resolves to what is there; fails with InvalidRequestError where the pool has no such
            place.
    """

    block_id: int
    done: Future[BlockRow] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsCalled:
    """Take note that a reply has called tools, so that its agent will be back with what they give.

    Who takes replies apart knows it, at the end of the turn; an agent that is gone is ignored.

    Attributes:
        agent_id: Whose reply it was.
        turn_number: Of the turn that it ended; see ``Usage.turn_number``.
        namespace: Whose agent it is; see ``Request.namespace``.
    """

    agent_id: str
    turn_number: int
    namespace: str = ""


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


TurnCommand = AbortAgent | PauseAgent | SetPriority | SetBatchWindow
AgentCommand = TurnCommand | CacheCommand
EdgeCommand = Abort | ToolsCalled | Note
"""What nobody waits for an answer to."""
Command = Generate | EdgeCommand | AgentCommand | ModelCommand | DescribeBlock | Shutdown
