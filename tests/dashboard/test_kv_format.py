"""How keys and values are kept, and what that loses, is on the screen where something is lost."""

from __future__ import annotations

import dataclasses

import pytest

from engine.scripted_scenes import busy
from tests.dashboard.test_disk import text_of

WIDE = (200, 60)


async def text_with(kv_format: str, change: float | None) -> str:
    snapshot = busy()
    model = snapshot.model_detail
    assert model is not None
    row = dataclasses.replace(model, kv_format=kv_format, kv_perplexity_change=change)
    return await text_of(dataclasses.replace(snapshot, model_detail=row), WIDE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (0.0123, "4 bit, group 64, +1.2 % perplexity"),
        (-0.0002, "4 bit, group 64, -0.0 % perplexity"),
        (None, "4 bit, group 64, not measured: `stoker bench kv`"),
    ],
)
async def test_a_lossy_format_is_shown_with_what_it_loses(change: float | None, words: str) -> None:
    assert words in await text_with("4 bit, group 64", change)


async def test_nothing_is_said_where_nothing_is_lost() -> None:
    assert "kv cache" not in await text_with("lossless", None)
