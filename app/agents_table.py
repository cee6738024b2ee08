"""Agents as text for a terminal. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.snapshot import AgentRow, AgentStatus, TurnRow
from widgets.format import (
    clean,
    context_limit,
    duration,
    percent,
    seconds,
    short_bytes,
    short_count,
    shorten,
)

MAX_NAME_CELLS = 40
_HEADINGS = ("agent", "state", "context", "hot", "disk", "hit", "turns", "last miss")
_RIGHT = (False, False, True, True, True, True, True, False)
_WORDS = {AgentStatus.WARM: "on disk", AgentStatus.COLD: "no cache"}


def agents_table(agents: Sequence[AgentRow]) -> str:
    """All agents, a line each."""
    if not agents:
        return "no agents yet; they appear when clients send their first turn"
    return table(_HEADINGS, [_agent_cells(agent) for agent in agents], _RIGHT)


def _agent_cells(agent: AgentRow) -> tuple[str, ...]:
    limit = f"/{context_limit(agent.max_context_tokens)}" if agent.max_context_tokens else ""
    return (
        shorten(agent.agent_id, MAX_NAME_CELLS),
        state_words(agent),
        f"{short_count(agent.num_context_tokens)}{limit}",
        short_bytes(agent.hot_bytes) if agent.hot_bytes else "-",
        short_bytes(agent.warm_bytes) if agent.warm_bytes else "-",
        percent(agent.hit_ratio),
        str(agent.num_turns),
        clean(agent.miss.label) or "-",
    )


def state_words(agent: AgentRow) -> str:
    """What an agent is doing, and for how long where it rests; and whether it is pinned."""
    pin = ", pinned" if agent.pinned else ""
    return f"{_doing_words(agent)}{pin}"


def _doing_words(agent: AgentRow) -> str:
    word = _WORDS.get(agent.status, agent.status.value)
    if agent.status is AgentStatus.QUEUED:
        return f"{word} {seconds(agent.wait_s)}"
    if agent.status is AgentStatus.PREFILLING:
        return f"{word} {percent(agent.prefill_progress)}"
    return f"{word} {duration(agent.idle_s)}" if agent.idle_s >= 1 else word


def agent_page(agent: AgentRow) -> str:
    """One agent: facts, its last turn, and its history."""
    shared = f", {short_bytes(agent.shared_bytes)} of it shared" if agent.shared_bytes else ""
    facts = [
        ("agent", clean(agent.agent_id)),
        ("state", state_words(agent)),
        ("speaks", clean(agent.protocol)),
        ("context", f"{agent.num_context_tokens:,} of {agent.max_context_tokens:,} tokens"),
        ("in memory", f"{short_bytes(agent.hot_bytes)}{shared}" if agent.hot_bytes else "nothing"),
        ("on disk", short_bytes(agent.warm_bytes) if agent.warm_bytes else "nothing"),
        ("last turn", _last_turn(agent)),
        ("miss", clean(agent.miss.words)),
    ]
    width = max(len(label) for label, _ in facts) + 2
    lines = [f"{label:<{width}}{value}" for label, value in facts]
    if agent.turns:
        lines += ["", _turns_table(agent.turns)]
    return "\n".join(lines)


def _last_turn(agent: AgentRow) -> str:
    if not agent.num_prompt_tokens:
        return "none yet"
    miss = agent.miss
    num_computed = agent.num_prompt_tokens - agent.num_cached_tokens
    return (
        f"{agent.num_prompt_tokens:,} prompt tokens: {miss.num_hot_tokens:,} from memory, "
        f"{miss.num_warm_tokens:,} from disk, {num_computed:,} computed; "
        f"first token after {seconds(agent.ttft_s)}"
    )


def _turns_table(turns: Sequence[TurnRow]) -> str:
    headings = ("turn", "ended", "context", "hit", "ttft", "fork", "miss")
    rows = [
        (
            str(turn.number),
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(turn.ended_time)),
            f"{turn.num_context_tokens:,}",
            percent(turn.num_cached_tokens / turn.num_prompt_tokens)
            if turn.num_prompt_tokens
            else "-",
            seconds(turn.ttft_s),
            "yes" if turn.resumable else "-",
            clean(turn.miss) or "-",
        )
        for turn in turns
    ]
    return table(headings, rows, (True, False, True, True, True, False, False))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Columns as wide as they must be; ``right`` tells which are flush right."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )
