"""The demo's scene: a small simulated day of several agents that share one block pool."""

from __future__ import annotations

import dataclasses
import random
from collections import deque

from engine.scripted_cast import (
    ACTIVE,
    BLOCK_TOKENS,
    CAST,
    DEVICE,
    LOAD_PARTS,
    MAX_CONTEXT_TOKENS,
    MODEL,
    RUNNING,
    Actor,
    Role,
)
from engine.scripted_rows import (
    PREFILL_TOK_S,
    agent_row,
    batch_row,
    by_activity,
    decode_rate,
    miss_row,
    pool_row,
    throughput_row,
)
from engine.scripted_swapping import ScriptedSwapping
from engine.snapshot import (
    AgentStatus,
    DiskRow,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
    PoolRow,
    ThroughputRow,
)

STEP_S = 0.1
LOAD_S = 4.0
MAX_RUNNING = 4
RECENT_TTFTS = 40


class DemoWorld(ScriptedSwapping):
    """Simulates the cast in steps of 0.1 s. The same seed and commands give the same day.

    Args:
        seed: Of the random choices (lengths of turns and rests).
        epoch_s: Wall-clock time of the scene's start.
        num_blocks: Size of the pool.
    """

    def __init__(self, seed: int = 7, epoch_s: float = 0.0, num_blocks: int = 136) -> None:
        super().__init__(random.Random(seed), num_blocks, STEP_S)
        self._epoch_s = epoch_s
        self._step = 0
        self._waiting_cast = deque(sorted(CAST, key=lambda role: role.arrives_s))
        self._events: deque[EngineEvent] = deque(maxlen=200)
        self._num_events = 0
        self._totals = ThroughputRow()
        self._ttfts: deque[float] = deque(maxlen=RECENT_TTFTS)
        self._prefiller: Actor | None = None
        self._drain_until_s: float | None = None
        self._status = EngineStatus.LOADING

    def advance(self, now_s: float) -> EngineSnapshot:
        """Moves on to ``now_s`` seconds after the start and shows the state there."""
        while (self._step + 1) * STEP_S <= now_s:
            self._step += 1
            self._now_s = self._step * STEP_S
            self._tick()
        return self._draw()

    def note(self, kind: str, text: str, level: str) -> None:
        """Adds an event."""
        self._num_events += 1
        self._events.append(
            EngineEvent(
                number=self._num_events,
                time=self._epoch_s + self._now_s,
                kind=kind,
                text=text,
                level=level,
            )
        )

    def shut_down(self, drain_s: float) -> None:
        """Lets running turns go on for up to ``drain_s`` seconds, then stops."""
        self._status = EngineStatus.DRAINING
        self._drain_until_s = self._now_s + drain_s
        self._abandon_swap()
        self.note("drain", "no new turns", "info")

    def _tick(self) -> None:
        if self._status is EngineStatus.STOPPED:
            return
        if self._status is EngineStatus.LOADING:
            self._tick_load()
            return
        if self._swap is not None:
            self._tick_swap(self._swap)
            return
        if self._drain_until_s is not None:
            self._tick_drain(self._drain_until_s)
        else:
            self._admit()
        self._work()

    def _work(self) -> None:
        self._prefill()
        self._decode()
        self._memory.disk.write_behind(self._actors, STEP_S)

    @property
    def _serves(self) -> bool:
        return self._status is EngineStatus.SERVING

    def _tick_load(self) -> None:
        if self._now_s < LOAD_S:
            return
        self._status = EngineStatus.SERVING
        self.note(
            "load", f"{MODEL.model_id} in {MODEL.load_s} s, batching {MODEL.batching}", "info"
        )

    def _tick_drain(self, until_s: float) -> None:
        busy = [actor for actor in self._actors if actor.status in ACTIVE]
        if self._now_s >= until_s:
            for actor in busy:
                self._end_turn(actor)
            busy = []
        if not busy:
            self._status = EngineStatus.STOPPED

    def _admit(self) -> None:
        while self._waiting_cast and self._waiting_cast[0].arrives_s <= self._now_s:
            role = self._waiting_cast.popleft()
            self._actors.append(self._arrive(role))
        for actor in self._actors:
            self._call_to_turn(actor)
        num_running = sum(actor.status in RUNNING for actor in self._actors)
        queue = sorted(
            (a for a in self._actors if a.status is AgentStatus.QUEUED and not a.paused),
            key=lambda actor: actor.due_s,
        )
        for actor in queue[: MAX_RUNNING - num_running]:
            if actor.held is None:
                self._begin_turn(actor)
            else:
                actor.status, actor.held = actor.held, None

    def _arrive(self, role: Role) -> Actor:
        if not role.stored_tokens:
            return Actor(role, next_turn_s=self._now_s, pinned=role.pinned)
        return Actor(
            role,
            next_turn_s=self._now_s + role.rest_s[1],
            status=AgentStatus.WARM,
            num_context=role.stored_tokens,
            num_stored_blocks=-(-role.stored_tokens // BLOCK_TOKENS),
            num_turns=9,
            ended_at_s=self._now_s - role.away_s,
        )

    def _call_to_turn(self, actor: Actor) -> None:
        if actor.status is AgentStatus.RESTORING:
            if self._now_s < actor.restored_at_s:
                return
            actor.status = AgentStatus.IDLE
        if actor.status in ACTIVE or actor.next_turn_s > self._now_s:
            return
        if actor.status is AgentStatus.WARM:
            self._restore(actor)
            return
        actor.status = AgentStatus.QUEUED
        actor.queued_at_s = self._now_s
        actor.num_generated = 0

    def _begin_turn(self, actor: Actor) -> None:
        role, choose = actor.role, self._random
        first_turn = actor.num_turns == 0
        num_new = role.opening_tokens if first_turn else choose.randint(*role.growth_tokens)
        actor.num_cached = actor.num_restorable
        num_before, changed_part = actor.num_context, ""
        if actor.restored_at_s < actor.ended_at_s or not actor.table:
            actor.num_restored = 0
        if actor.num_context + num_new > MAX_CONTEXT_TOKENS - 600:
            self._compact(actor)
            changed_part = "message 1 (user)"
        elif role.rewrites and actor.num_turns % role.rewrites == role.rewrites - 1:
            self._rewrite(actor)
            changed_part = "system"
        if not actor.table:
            self._memory.attach_prefix(actor)
        base = actor.num_context or role.prefix_blocks * BLOCK_TOKENS
        actor.num_prompt = base + num_new
        actor.num_reply = choose.randint(*role.reply_tokens)
        actor.num_to_prefill = actor.num_prompt - actor.num_cached
        actor.prefill_left = float(actor.num_to_prefill)
        actor.decoded = 0.0
        actor.num_context = actor.num_cached
        actor.status = AgentStatus.PREFILLING
        actor.begun_at_s = self._now_s
        actor.miss = miss_row(actor, num_before, changed_part)
        actor.is_foreign = False
        if actor.miss.num_lost_tokens:
            self.note("miss", f"{role.agent_id}: {actor.miss.words}", "info")

    def _compact(self, actor: Actor) -> None:
        self._memory.cut(actor, actor.role.prefix_blocks)
        actor.num_context = actor.num_cached = len(actor.table) * BLOCK_TOKENS
        self._forget_places(actor, actor.num_cached)

    def _rewrite(self, actor: Actor) -> None:
        keep = min(len(actor.table), actor.role.prefix_blocks + 2)
        self._memory.cut(actor, keep)
        actor.num_cached = min(actor.num_context, keep * BLOCK_TOKENS)
        self._forget_places(actor, actor.num_cached)

    def _prefill(self) -> None:
        prefilling = [a for a in self._actors if a.status is AgentStatus.PREFILLING]
        self._prefiller = min(prefilling, key=lambda actor: actor.prefill_left, default=None)
        actor = self._prefiller
        if actor is None:
            return
        actor.prefill_left = max(0.0, actor.prefill_left - PREFILL_TOK_S * STEP_S)
        actor.num_context = actor.num_prompt - round(actor.prefill_left)
        self._memory.grow(actor)
        if actor.prefill_left:
            return
        actor.status = AgentStatus.DECODING
        actor.ttft_s = round(self._now_s - actor.queued_at_s + 0.08, 2)
        self._ttfts.append(actor.ttft_s)

    def _decode(self) -> None:
        decoding = [a for a in self._actors if a.status is AgentStatus.DECODING]
        rate = decode_rate(self._step, len(decoding), is_prefilling=self._prefiller is not None)
        for actor in decoding:
            actor.decoded += rate * STEP_S
            actor.num_generated = int(actor.decoded)
            actor.num_context = actor.num_prompt + actor.num_generated
            self._memory.grow(actor)
            if actor.num_generated >= actor.num_reply:
                self._end_turn(actor)

    def _end_turn(self, actor: Actor) -> None:
        actor.status = AgentStatus.IDLE
        actor.held = None
        actor.num_turns += 1
        actor.prefill_left = 0.0
        actor.ended_at_s = self._now_s
        actor.next_turn_s = self._now_s + self._random.uniform(*actor.role.rest_s)
        self._remember_turn(actor, self._epoch_s + self._now_s)
        totals = self._totals
        self._totals = dataclasses.replace(
            totals,
            num_prompt_tokens=totals.num_prompt_tokens + actor.num_prompt,
            num_cached_tokens=totals.num_cached_tokens + actor.num_cached,
            num_restored_tokens=totals.num_restored_tokens + actor.miss.num_warm_tokens,
            num_lost_tokens=totals.num_lost_tokens + actor.miss.num_lost_tokens,
            num_generated_tokens=totals.num_generated_tokens + actor.num_generated,
            num_turns=totals.num_turns + 1,
        )

    def _draw(self) -> EngineSnapshot:
        is_loaded = self._status is not EngineStatus.LOADING
        progress = 1.0 if is_loaded else min(1.0, self._now_s / LOAD_S)
        actors = by_activity(self._actors)
        num_decoding = sum(a.status is AgentStatus.DECODING for a in actors)
        is_prefilling = self._prefiller is not None
        rate = decode_rate(self._step, num_decoding, is_prefilling=is_prefilling)
        prefill_tok_s = PREFILL_TOK_S - (self._step * 13) % 37 if is_prefilling else 0.0
        pool = pool_row(self._memory, actors) if is_loaded else PoolRow()
        drawn = EngineSnapshot(
            step=self._step,
            time=self._epoch_s + self._now_s,
            uptime_s=self._now_s,
            status=self._status,
            status_text="" if is_loaded else _load_part(progress),
            progress=progress,
            model=MODEL.model_id if is_loaded else "",
            device=DEVICE.name,
            model_detail=MODEL if is_loaded else None,
            device_detail=DEVICE,
            pool=pool,
            disk=self._memory.disk.row if is_loaded else DiskRow(),
            batch=batch_row(actors, self._prefiller, self._now_s, self._step, self._window_ms),
            throughput=throughput_row(
                self._totals, self._ttfts, rate * num_decoding, prefill_tok_s, pool.use
            ),
            agents=tuple(agent_row(a, self._memory, self._now_s, rate) for a in actors),
            events=tuple(self._events),
        )
        return self._as_served(drawn) if is_loaded else drawn


def _load_part(progress: float) -> str:
    return next(text for share, text in LOAD_PARTS if progress <= share)
