"""Named snapshots for still scenes: an ordinary minute, and states that are rare on a good day."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from engine.scripted_cast import BLOCK_BYTES, DEVICE, MAX_CONTEXT_TOKENS
from engine.scripted_rare_scenes import disk_off, failed, hostile, overloaded
from engine.scripted_stage import (
    CACHED,
    DIRTY,
    HOT,
    NOON_S,
    PINNED,
    RUN,
    SERVING,
    SHARED,
    Run,
    event,
    pool,
    sized,
)
from engine.scripted_swap_scene import swapping
from engine.snapshot import (
    NO_OWNER,
    AgentRow,
    AgentStatus,
    BatchRow,
    EngineSnapshot,
    EngineStatus,
    MissCause,
    MissRow,
    ThroughputRow,
    TurnRow,
    TurnTimes,
)

SYSTEM_CHANGED = MissRow(
    num_hot_tokens=1012,
    num_lost_tokens=632,
    num_new_tokens=1956,
    cause=MissCause.CHANGED_TEXT,
    changed_token=1012,
    part="system",
    lost_s=1.5,
)
FEW_TURNS = (
    TurnRow(
        number=1,
        num_prompt_tokens=1404,
        num_context_tokens=1472,
        ttft_s=3.5,
        ended_time=NOON_S - 94,
        times=TurnTimes(queue_s=0.02, prefill_s=3.48, decode_s=6.1),
    ),
    TurnRow(
        number=2,
        num_prompt_tokens=1512,
        num_context_tokens=1630,
        num_cached_tokens=1472,
        ttft_s=0.31,
        ended_time=NOON_S - 61,
        resumable=True,
        times=TurnTimes(queue_s=0.04, restore_s=0.12, prefill_s=0.15, decode_s=10.7),
    ),
    TurnRow(
        number=3,
        num_prompt_tokens=1640,
        num_context_tokens=1644,
        num_cached_tokens=1368,
        ttft_s=0.44,
        ended_time=NOON_S - 12,
        times=TurnTimes(queue_s=0.06, prefill_s=0.38, decode_s=0.36),
        miss="message 4 (assistant) tokenised differently at token 1368: 262 tokens, 0.6 s",
        resumable=True,
    ),
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
                num_cached_tokens=1012,
                num_prompt_tokens=3600,
                num_turns=3,
                prefill_progress=0.62,
                eta_s=1.4,
                ttft_s=0.44,
                times=TurnTimes(queue_s=0.05, prefill_s=2.3),
                miss=SYSTEM_CHANGED,
                turns=FEW_TURNS,
            ),
            shared=0.3,
            stored=0.7,
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
                num_restored_tokens=1536,
                num_prompt_tokens=2240,
                num_turns=2,
                wait_s=1.6,
            ),
            shared=0.4,
            stored=0.6,
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
                turns=tuple(
                    TurnRow(
                        number=number,
                        num_prompt_tokens=num_context - 10,
                        num_context_tokens=num_context,
                        num_cached_tokens=num_context - 68,
                        ttft_s=0.22,
                        ended_time=NOON_S - 251.0 - 600.0 * (31 - number),
                        times=TurnTimes(queue_s=0.03, restore_s=0.08, prefill_s=0.11, decode_s=0.9),
                        resumable=number > 28,
                    )
                    for number, num_context in ((28, 5220), (29, 5790), (30, 6410), (31, 6800))
                ),
            ),
            shared=0.61,
        ),
        AgentRow(
            agent_id="nightly",
            protocol="anthropic",
            status=AgentStatus.WARM,
            num_context_tokens=7420,
            max_context_tokens=MAX_CONTEXT_TOKENS,
            num_cached_tokens=7168,
            num_restored_tokens=7168,
            num_prompt_tokens=7400,
            num_turns=9,
            warm_bytes=29 * BLOCK_BYTES,
            ttft_s=0.41,
            idle_s=7260.0,
            miss=MissRow(num_warm_tokens=7168, num_new_tokens=232),
        ),
    )
    blocks: tuple[Run, ...] = (
        (SHARED, 0, 12),
        (RUN, 0, 8),
        (RUN, 1, 3),
        (SHARED, 3, 4),
        (RUN, 2, 5),
        (PINNED, 4, 15),
        (HOT, 3, 2),
        (DIRTY, 3, 3),
        (CACHED, NO_OWNER, 44),
    )
    return dataclasses.replace(
        SERVING,
        pool=pool(blocks, 192, num_evictions=2),
        disk=dataclasses.replace(SERVING.disk, num_pending=5),
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
            num_restored_tokens=23_500,
            num_lost_tokens=3_200,
            num_generated_tokens=9_400,
            num_turns=65,
        ),
        agents=agents,
        events=(
            *SERVING.events,
            event(2, "evict", "nightly: 342M to disk for review-bot, least recently used"),
            event(3, "miss", f"claude repo-a/2: {SYSTEM_CHANGED.words}"),
            event(4, "pin", "review-bot pinned"),
        ),
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
    "disk_off": disk_off,
    "swapping": lambda: swapping(busy()),
}
"""Each scene's name and how to make it."""
