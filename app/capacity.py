"""How many agents would fit: arithmetic from a cache's shape and from measured memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.cache.block import BLOCK_TOKENS
from engine.cache.quantisation import KVQuantisation, format_words
from engine.cache.spec import CacheSpec, LayerGroup, LayerKind
from engine.memory import TARGET_SHARE
from engine.snapshot import EngineSnapshot

FORMATS: tuple[KVQuantisation | None, ...] = (None, KVQuantisation(8), KVQuantisation(4))
MIN_CONTEXT_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that could be run.

    Attributes:
        model_id: Its name here.
        spec: Its cache without quantisation.
        weight_bytes: Its weights in memory.
        max_context_tokens: Its context limit.
        number_bits: Bits of a number in its cache without quantisation.
        is_active: Whether it runs now.
        quantisation: The format of its cache now; None for lossless, or where it does not run.
    """

    model_id: str
    spec: CacheSpec
    weight_bytes: int
    max_context_tokens: int
    number_bits: int
    is_active: bool = False
    quantisation: KVQuantisation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What memory there is, from readings.

    Attributes:
        limit_bytes: What the process may use.
        other_bytes: What it takes beside weights and cache.
        pool_bytes: What the running engine's cache may take, withheld blocks taken off.
    """

    limit_bytes: int
    other_bytes: int
    pool_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What fits.

    Attributes:
        token_bytes: Rows of one token.
        agent_bytes: One agent's cache, in whole blocks, with its checkpoints.
        cache_bytes: Room for all caches.
        num_agents: Agents that fit without sharing anything.
    """

    token_bytes: int
    agent_bytes: int
    cache_bytes: int
    num_agents: int


def active_candidate(snapshot: EngineSnapshot) -> Candidate | None:
    """The model that runs, from its snapshot alone; None while none does.

    Only what it keeps of every token is known so; a model with windows or states takes more.
    """
    model = snapshot.model_detail
    if model is None:
        return None
    number_bits = 32 if model.dtype == "float32" else 16
    now = next((each for each in FORMATS if format_words(each) == model.kv_format), None)
    token_bytes = model.kv_bytes_per_token
    if now is not None:
        token_bytes = round(token_bytes * number_bits / now.bits_per_number)
    group = LayerGroup(kind=LayerKind.FULL, num_layers=1, bytes_per_token=token_bytes)
    return Candidate(
        model_id=model.model_id,
        spec=CacheSpec(groups=(group,), kv_format=""),
        weight_bytes=model.weight_bytes,
        max_context_tokens=model.max_context_tokens,
        number_bits=number_bits,
        is_active=True,
        quantisation=now,
    )


def measured_memory(snapshot: EngineSnapshot) -> Memory:
    """What the engine's readings say of memory."""
    device, pool, model = snapshot.device_detail, snapshot.pool, snapshot.model_detail
    weight_bytes = model.weight_bytes if model else 0
    other_bytes = device.memory_used_bytes - weight_bytes - pool.bytes_used
    return Memory(
        limit_bytes=device.memory_limit_bytes,
        other_bytes=max(0, other_bytes),
        pool_bytes=pool.bytes_budget - pool.num_withheld_blocks * pool.block_bytes,
    )


def quantised(candidate: Candidate, quantisation: KVQuantisation | None) -> CacheSpec:
    """A model's cache in a format: rows of full layers shrink, windows and states do not."""
    if quantisation is None:
        return candidate.spec
    share = quantisation.bits_per_number / candidate.number_bits
    groups = tuple(
        replace(group, bytes_per_token=round(group.bytes_per_token * share))
        if group.kind is LayerKind.FULL
        else group
        for group in candidate.spec.groups
    )
    return replace(candidate.spec, groups=groups)


def capacity(
    candidate: Candidate, memory: Memory, context_tokens: int, quantisation: KVQuantisation | None
) -> Capacity:
    """How many agents fit.

    Args:
        candidate: The model.
        memory: What memory there is.
        context_tokens: Context of each agent.
        quantisation: The cache's format; None for lossless.
    """
    spec = quantised(candidate, quantisation)
    num_blocks = -(-context_tokens // BLOCK_TOKENS) + spec.checkpoint_slots
    agent_bytes = num_blocks * spec.block_bytes
    cache_bytes = memory.pool_bytes
    if not candidate.is_active:
        room = round(memory.limit_bytes * TARGET_SHARE) - memory.other_bytes
        cache_bytes = max(0, room - candidate.weight_bytes)
    return Capacity(
        token_bytes=spec.bytes_per_token,
        agent_bytes=agent_bytes,
        cache_bytes=cache_bytes,
        num_agents=cache_bytes // agent_bytes if agent_bytes else 0,
    )
