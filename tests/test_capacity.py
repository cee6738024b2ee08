"""What would fit, by arithmetic that can be followed by hand."""

from __future__ import annotations

import dataclasses

import pytest

from app.capacity import (
    FORMATS,
    Candidate,
    Memory,
    active_candidate,
    capacity,
    measured_memory,
    quantised,
)
from engine.cache.spec import CacheSpec, LayerGroup, LayerKind
from engine.scripted_scenes import SCENES
from engine.snapshot import DeviceRow, PoolRow

FULL = LayerGroup(kind=LayerKind.FULL, num_layers=4, bytes_per_token=32_000)
WINDOW = LayerGroup(kind=LayerKind.WINDOW, num_layers=2, bytes_per_token=1000, window_tokens=512)
MEMORY = Memory(limit_bytes=10_000_000_000, other_bytes=1_000_000_000, pool_bytes=4_096_000_000)


def candidate(*groups: LayerGroup, is_active: bool = True) -> Candidate:
    return Candidate(
        model_id="m",
        spec=CacheSpec(groups=groups, kv_format=""),
        weight_bytes=3_000_000_000,
        max_context_tokens=8192,
        number_bits=32,
        is_active=is_active,
    )


def test_agents_are_counted_in_whole_blocks() -> None:
    one = capacity(candidate(FULL), MEMORY, 257, None)
    assert one.agent_bytes == 2 * 256 * 32_000
    assert one.num_agents == 250
    assert capacity(candidate(FULL), MEMORY, 256, None).num_agents == 500


def test_a_quantised_cache_costs_its_bits_and_its_scales() -> None:
    assert quantised(candidate(FULL), FORMATS[1]).bytes_per_token == 32_000 * 8.5 / 32
    assert quantised(candidate(FULL), FORMATS[2]).bytes_per_token == 32_000 * 4.5 / 32
    mixed = quantised(candidate(FULL, WINDOW), FORMATS[2])
    assert mixed.groups[1] == WINDOW


def test_a_model_with_windows_pays_for_its_checkpoint() -> None:
    plain, windowed = (
        capacity(candidate(*groups), MEMORY, 1024, None) for groups in ((FULL,), (FULL, WINDOW))
    )
    assert windowed.agent_bytes == plain.agent_bytes + 256 * 32_000


def test_another_model_gets_what_the_limit_leaves() -> None:
    other = capacity(candidate(FULL, is_active=False), MEMORY, 256, None)
    assert other.cache_bytes == 9_000_000_000 - 1_000_000_000 - 3_000_000_000
    tight = dataclasses.replace(MEMORY, limit_bytes=3_000_000_000)
    assert capacity(candidate(FULL, is_active=False), tight, 256, None).num_agents == 0


@pytest.mark.parametrize(
    ("kv_format", "now"), zip(("lossless", "8 bit, group 64"), FORMATS[:2], strict=True)
)
def test_the_running_model_is_known_by_its_snapshot_alone(kv_format: str, now: object) -> None:
    shown = SCENES["busy"]()
    assert shown.model_detail is not None
    per_token = 46_080 if now is None else 12_240
    model = dataclasses.replace(
        shown.model_detail, kv_format=kv_format, kv_bytes_per_token=per_token
    )
    found = active_candidate(dataclasses.replace(shown, model_detail=model))
    assert found is not None
    assert found.spec.bytes_per_token == 46_080
    assert found.quantisation == now
    assert active_candidate(SCENES["loading"]()) is None


def test_memory_is_what_the_readings_say() -> None:
    shown = dataclasses.replace(
        SCENES["busy"](),
        device_detail=DeviceRow(memory_used_bytes=2_000_000_000, memory_limit_bytes=8_000_000_000),
        pool=PoolRow(
            block_bytes=1_000_000, num_withheld_blocks=5, bytes_used=100_000_000, bytes_budget=10**9
        ),
    )
    memory = measured_memory(shown)
    assert memory.other_bytes == 2_000_000_000 - 538_060_032 - 100_000_000
    assert memory.pool_bytes == 995_000_000
