"""Named snapshots of states that are rare on a good day."""

from __future__ import annotations

import dataclasses

from engine.scripted_cast import DEVICE, MAX_CONTEXT_TOKENS
from engine.scripted_stage import (
    DIRTY,
    HOT,
    NOON_S,
    RUN,
    SERVING,
    SHARED,
    Run,
    event,
    pool,
    sized,
)
from engine.snapshot import (
    AgentRow,
    AgentStatus,
    BatchRow,
    DiskRow,
    EngineSnapshot,
    EngineStatus,
    MissCause,
    MissRow,
    ThroughputRow,
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
                miss=MissRow(
                    num_lost_tokens=432,
                    num_new_tokens=468,
                    cause=MissCause.CHANGED_TEXT,
                    changed_token=0,
                    part=agent_id,
                ),
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


def disk_off() -> EngineSnapshot:
    """The disk tier gave up; one agent comes back from it, one lost its cache."""
    reason = "no space left on the disk; it is tried again every 30 s"
    restoring = sized(
        AgentRow(
            agent_id="nightly",
            protocol="anthropic",
            status=AgentStatus.RESTORING,
            num_context_tokens=7420,
            num_cached_tokens=7168,
            num_prompt_tokens=7400,
            num_turns=9,
            num_restoring_tokens=7168,
            eta_s=0.31,
            ttft_s=0.41,
        ),
    )
    restoring = dataclasses.replace(restoring, hot_bytes=0)
    idle = sized(
        AgentRow(
            agent_id="review-bot",
            protocol="openai",
            status=AgentStatus.IDLE,
            num_context_tokens=6800,
            num_cached_tokens=6732,
            num_prompt_tokens=6790,
            num_turns=31,
            ttft_s=0.22,
            idle_s=251.0,
        ),
        shared=0.61,
        stored=0.0,
    )
    half = sized(
        AgentRow(
            agent_id="codex 7f31",
            protocol="openai",
            status=AgentStatus.IDLE,
            num_context_tokens=2560,
            num_cached_tokens=1108,
            num_prompt_tokens=1180,
            num_turns=6,
            ttft_s=0.31,
            idle_s=12.0,
        ),
        stored=0.5,
    )
    cold = AgentRow(
        agent_id="claude docs",
        protocol="anthropic",
        status=AgentStatus.COLD,
        num_context_tokens=3100,
        max_context_tokens=MAX_CONTEXT_TOKENS,
        num_prompt_tokens=3100,
        num_turns=4,
        ttft_s=9.4,
        idle_s=640.0,
        miss=MissRow(
            num_lost_tokens=3010,
            num_new_tokens=90,
            cause=MissCause.EVICTED,
            lost_s=7.3,
        ),
    )
    blocks: tuple[Run, ...] = ((SHARED, 1, 16), (DIRTY, 1, 11), (HOT, 2, 5), (DIRTY, 2, 5))
    return dataclasses.replace(
        SERVING,
        pool=pool(blocks, 192),
        disk=DiskRow(
            reason_off=reason,
            bytes_used=18_400_000_000,
            bytes_budget=20_000_000_000,
            num_blocks=1560,
            num_pending=16,
            num_quarantined=1,
        ),
        batch=BatchRow(num_waiting=1, oldest_wait_s=0.3),
        throughput=ThroughputRow(
            prefill_tok_s=412.0, num_prompt_tokens=9_000, num_cached_tokens=8_000, num_turns=50
        ),
        agents=(restoring, idle, half, cold),
        events=(
            *SERVING.events,
            event(2, "disk", "1 file set aside: its checksum is wrong", "warning"),
            event(3, "disk", f"off: {reason}", "warning"),
        ),
    )
