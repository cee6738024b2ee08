"""Named snapshots for still scenes: an ordinary minute, and states that are rare on a good day."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from engine.scripted_cast import BLOCK_BYTES, BLOCK_TOKENS, DEVICE, MAX_CONTEXT_TOKENS, MODEL
from engine.snapshot import (
    NO_OWNER,
    AgentRow,
    AgentStatus,
    BatchRow,
    BlockState,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
    PoolRow,
    ThroughputRow,
)

NOON_S = 1_763_640_000.0
RUN = BlockState.RUNNING
SHARED = BlockState.SHARED
HOT = BlockState.HOT
CACHED = BlockState.CACHED
PINNED = BlockState.PINNED
Run = tuple[BlockState, int, int]
"""State, owner and length of a run of blocks."""


def sized(row: AgentRow, shared: float = 0.0) -> AgentRow:
    """A row with the bytes that its context takes, ``shared`` (0-1) of them held by others too."""
    num_blocks = -(-row.num_context_tokens // BLOCK_TOKENS)
    return dataclasses.replace(
        row,
        max_context_tokens=MAX_CONTEXT_TOKENS,
        hot_bytes=num_blocks * BLOCK_BYTES,
        shared_bytes=int(num_blocks * shared) * BLOCK_BYTES,
    )


def pool(runs: tuple[Run, ...], num_blocks: int, num_evictions: int = 0) -> PoolRow:
    """A pool made of runs, the rest free."""
    states = b"".join(bytes([state]) * length for state, _, length in runs)
    owners = b"".join(bytes([owner]) * length for _, owner, length in runs)
    states = states.ljust(num_blocks, bytes([BlockState.FREE]))
    owners = owners.ljust(num_blocks, bytes([NO_OWNER]))
    num_free = states.count(BlockState.FREE)
    return PoolRow(
        block_tokens=BLOCK_TOKENS,
        block_bytes=BLOCK_BYTES,
        num_total_blocks=num_blocks,
        num_free_blocks=num_free,
        num_cached_blocks=states.count(CACHED),
        num_shared_blocks=states.count(SHARED),
        num_running_blocks=states.count(RUN),
        num_evictions=num_evictions,
        bytes_used=(num_blocks - num_free) * BLOCK_BYTES,
        bytes_budget=num_blocks * BLOCK_BYTES,
        block_states=states,
        block_owners=owners,
    )


def event(number: int, kind: str, text: str, level: str = "info") -> EngineEvent:
    """An event, ten seconds after the one before."""
    return EngineEvent(number=number, time=NOON_S + number * 10, kind=kind, text=text, level=level)


SERVING = EngineSnapshot(
    step=1200,
    time=NOON_S,
    uptime_s=8040.0,
    status=EngineStatus.SERVING,
    progress=1.0,
    model=MODEL.model_id,
    device=DEVICE.name,
    model_detail=MODEL,
    device_detail=DEVICE,
    pool=pool((), 192),
    events=(event(1, "load", "SmolLM2-135M-Instruct in 3.4 s, batching ragged"),),
)


def loading() -> EngineSnapshot:
    """A model half way in."""
    return EngineSnapshot(
        step=3,
        time=NOON_S,
        uptime_s=2.0,
        status=EngineStatus.LOADING,
        status_text="reading weights",
        progress=0.55,
        device=DEVICE.name,
        device_detail=DEVICE,
    )


def empty() -> EngineSnapshot:
    """Serving, and nobody has called yet."""
    return SERVING


def busy() -> EngineSnapshot:
    """Six agents, each in another state."""
    agents = (
        sized(
            AgentRow(
                agent_id="claude repo-a",
                protocol="anthropic",
                status=AgentStatus.DECODING,
                num_context_tokens=5120,
                num_cached_tokens=4915,
                num_prompt_tokens=5010,
                num_generated_tokens=110,
                num_turns=14,
                decode_tok_s=11.2,
                ttft_s=0.18,
            ),
            shared=0.61,
        ),
        sized(
            AgentRow(
                agent_id="claude repo-a/2",
                protocol="anthropic",
                status=AgentStatus.PREFILLING,
                num_context_tokens=3012,
                num_cached_tokens=2380,
                num_prompt_tokens=3600,
                num_turns=3,
                prefill_progress=0.62,
                eta_s=1.4,
                ttft_s=0.44,
                last_miss="system prompt changed at token 1012: 632 tokens recomputed",
            ),
            shared=0.88,
        ),
        sized(
            AgentRow(
                agent_id="codex 7f31",
                protocol="openai",
                status=AgentStatus.DECODING,
                num_context_tokens=1228,
                num_cached_tokens=1108,
                num_prompt_tokens=1180,
                num_generated_tokens=48,
                num_turns=6,
                decode_tok_s=11.0,
                ttft_s=0.31,
            )
        ),
        sized(
            AgentRow(
                agent_id="opencode web",
                protocol="openai",
                status=AgentStatus.QUEUED,
                num_context_tokens=2240,
                num_cached_tokens=2038,
                num_prompt_tokens=2240,
                num_turns=2,
                wait_s=1.6,
            ),
            shared=0.4,
        ),
        sized(
            AgentRow(
                agent_id="review-bot",
                protocol="openai",
                status=AgentStatus.IDLE,
                pinned=True,
                num_context_tokens=6800,
                num_cached_tokens=6732,
                num_prompt_tokens=6790,
                num_turns=31,
                ttft_s=0.22,
                idle_s=251.0,
            ),
            shared=0.61,
        ),
        AgentRow(
            agent_id="nightly",
            protocol="anthropic",
            status=AgentStatus.COLD,
            num_context_tokens=7420,
            max_context_tokens=MAX_CONTEXT_TOKENS,
            num_cached_tokens=0,
            num_prompt_tokens=7400,
            num_turns=9,
            ttft_s=21.4,
            idle_s=7260.0,
            last_miss="evicted: all 7400 tokens recomputed",
        ),
    )
    blocks: tuple[Run, ...] = (
        (SHARED, 0, 12),
        (RUN, 0, 8),
        (RUN, 1, 3),
        (SHARED, 3, 4),
        (RUN, 2, 5),
        (PINNED, 4, 15),
        (HOT, 3, 5),
        (CACHED, NO_OWNER, 44),
    )
    return dataclasses.replace(
        SERVING,
        pool=pool(blocks, 192, num_evictions=2),
        batch=BatchRow(
            num_running=3,
            num_waiting=1,
            num_decoding=2,
            slice_tokens=64,
            stall_ms=142.0,
            oldest_wait_s=1.6,
            prefilling="claude repo-a/2",
        ),
        throughput=ThroughputRow(
            prefill_tok_s=412.0,
            decode_tok_s=22.2,
            ttft_p50_s=0.24,
            ttft_p95_s=1.9,
            num_prompt_tokens=181_000,
            num_cached_tokens=170_000,
            num_generated_tokens=9_400,
            num_turns=65,
        ),
        agents=agents,
        events=(
            *SERVING.events,
            event(2, "evict", "nightly: 171M freed for review-bot, least recently used", "warning"),
            event(
                3,
                "miss",
                "claude repo-a/2: system prompt changed at token 1012: 632 tokens recomputed",
            ),
            event(4, "pin", "review-bot pinned"),
        ),
    )


def overloaded() -> EngineSnapshot:
    """More agents than the pool and the batch can take, memory nearly full."""
    statuses = [AgentStatus.DECODING] * 6 + [AgentStatus.PREFILLING] * 2 + [AgentStatus.QUEUED] * 32
    agents = tuple(
        sized(
            AgentRow(
                agent_id=f"worker-{number:02d}",
                protocol="openai",
                status=status,
                num_context_tokens=7900 - number * 150,
                num_cached_tokens=200,
                num_prompt_tokens=7700 - number * 150,
                num_generated_tokens=number if status is AgentStatus.DECODING else 0,
                num_turns=number % 5,
                decode_tok_s=4.2 if status is AgentStatus.DECODING else 0.0,
                prefill_progress=0.1 if status is AgentStatus.PREFILLING else 1.0,
                eta_s=38.0 if status is AgentStatus.PREFILLING else None,
                wait_s=float(number) if status is AgentStatus.QUEUED else 0.0,
                ttft_s=48.0 if number % 5 else None,
            )
        )
        for number, status in enumerate(statuses)
    )
    refusals = tuple(
        event(2 + at, "reject", f"worker-{40 + at}: queue is full, retry after 12 s", "error")
        for at in range(12)
    )
    return dataclasses.replace(
        SERVING,
        device_detail=dataclasses.replace(
            DEVICE,
            memory_used_bytes=16_400_000_000,
            fallbacks=("no C++ compiler: decode runs at half speed",),
        ),
        pool=pool(tuple((RUN, owner, 24) for owner in range(8)), 192, num_evictions=118),
        batch=BatchRow(
            num_running=8,
            num_waiting=32,
            num_decoding=6,
            slice_tokens=32,
            stall_ms=264.0,
            oldest_wait_s=39.0,
            prefilling="worker-06",
        ),
        throughput=ThroughputRow(
            prefill_tok_s=190.0,
            decode_tok_s=25.2,
            ttft_p50_s=48.0,
            ttft_p95_s=131.0,
            num_prompt_tokens=2_900_000,
            num_cached_tokens=310_000,
            num_generated_tokens=120_000,
            num_turns=812,
        ),
        agents=agents,
        events=(*SERVING.events, *refusals),
    )


def failed() -> EngineSnapshot:
    """The model could not be loaded."""
    reason = "model.safetensors is 41 MB short: the download was cut off; remove it and start again"
    return EngineSnapshot(
        step=5,
        time=NOON_S,
        uptime_s=3.0,
        status=EngineStatus.FAILED,
        status_text=reason,
        device=DEVICE.name,
        device_detail=DEVICE,
        events=(event(1, "error", reason, "error"),),
    )


def hostile() -> EngineSnapshot:
    """Ids and texts that try to harm the screen."""
    ids = (
        "[red]danger[/red]",
        "[@click=app.leave]click me[/]",
        "\x1b[31mescape\x1b[2J\x1b]0;title\x07",
        "line one\nline two\ttab",
        "日本語の長い長い長いエージェント名前です",
        "\u202eright to left",
        "z\u0301\u0302\u0303\u0304\u0305algo",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
        "a" * 200,
        " ",
    )
    agents = tuple(
        sized(
            AgentRow(
                agent_id=agent_id,
                status=AgentStatus.IDLE,
                num_context_tokens=900 + number,
                num_prompt_tokens=900,
                num_turns=1,
                idle_s=60.0,
                last_miss=agent_id,
            )
        )
        for number, agent_id in enumerate(ids)
    )
    events = tuple(event(2 + number, "miss", text) for number, text in enumerate(ids))
    return dataclasses.replace(
        SERVING,
        model="[b]bold[/b]\x1b[5m model",
        agents=agents,
        pool=pool(tuple((HOT, owner, 4) for owner in range(len(ids))), 192),
        events=(*SERVING.events, *events),
    )


def many_blocks() -> EngineSnapshot:
    """A pool of 50 000 blocks."""
    blocks: tuple[Run, ...] = (
        (SHARED, 0, 4_000),
        (RUN, 0, 9_000),
        (RUN, 2, 3_000),
        (PINNED, 4, 6_500),
        (HOT, 3, 11_000),
        (CACHED, NO_OWNER, 7_000),
        (HOT, 1, 1),
    )
    return dataclasses.replace(busy(), pool=pool(blocks, 50_000))


SCENES: dict[str, Callable[[], EngineSnapshot]] = {
    "empty": empty,
    "loading": loading,
    "busy": busy,
    "overloaded": overloaded,
    "failed": failed,
    "hostile": hostile,
    "many_blocks": many_blocks,
}
"""Each scene's name and how to make it."""
