"""A model whose every token depends on its whole cache, so that a wrong cache gives wrong tokens.

It stands in for the model runner: its "KV" of a token is the token itself.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from engine.cache.block import BLOCK_TOKENS
from engine.cache.disk.records import KVSpace, TensorBytes
from engine.cache.disk.tier import DiskLimits, DiskTier
from engine.cache.payload_span import PayloadSpan
from engine.cache.spec import CacheSpec, LayerGroup, LayerKind
from engine.core import EngineCore
from engine.core_parts import CoreParts
from engine.errors import PayloadError
from engine.models.chat import ModelChat
from engine.pressure import MemoryAccess
from engine.read_ahead import Post
from engine.runtime.runner import DecodeRow, ModelRunner
from engine.scheduler import SchedulerLimits
from engine.telemetry import Telemetry

VOCABULARY = 1000
END_TOKEN = VOCABULARY
NOT_FINITE = 2**32 - 1
"""Stands in a cache where numbers that are not finite would."""


def next_token(token_ids: Sequence[int]) -> int:
    """The one right continuation of a context; never the end token."""
    digest = hashlib.blake2b(repr(list(token_ids)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % VOCABULARY


def continuation(prompt: Sequence[int], num_tokens: int) -> list[int]:
    """What a generation of that prompt must be."""
    context = list(prompt)
    for _ in range(num_tokens):
        context.append(next_token(context))
    return context[len(prompt) :]


class CountingRunner:
    """A model runner whose caches are lists of tokens."""

    def __init__(self) -> None:
        rows = LayerGroup(kind=LayerKind.FULL, num_layers=1, bytes_per_token=4)
        self.spec = CacheSpec(groups=(rows,), kv_format="tokens")
        self.batches = True
        self.num_prefilled = 0
        self.poisoned: set[int] = set()

    def new_cache(self) -> list[int]:
        return []

    def restore(
        self, payloads: Sequence[Any], num_last_tokens: int, num_capacity_tokens: int
    ) -> list[int]:
        cache = [token for payload in payloads[:-1] for token in payload]
        assert len(payloads[-1]) >= num_last_tokens
        return cache + list(payloads[-1][:num_last_tokens])

    def trim(self, caches: list[int], num_tokens: int) -> None:
        assert num_tokens <= len(caches)
        del caches[num_tokens:]

    def append_block(self, caches: list[int], payload: Sequence[int]) -> None:
        caches.extend(payload)

    def cut_block(self, caches: list[int], index: int) -> tuple[int, ...]:
        block = tuple(caches[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS])
        assert len(block) == BLOCK_TOKENS
        return block

    def cut_tail(self, caches: list[int], num_tokens: int) -> tuple[int, ...]:
        assert len(caches) == num_tokens
        return tuple(caches[num_tokens // BLOCK_TOKENS * BLOCK_TOKENS :])

    def prefill(self, caches: list[int], token_ids: Sequence[int]) -> None:
        self.num_prefilled += len(token_ids)
        caches.extend(token_ids)

    def to_bytes(self, payload: Sequence[int]) -> tuple[TensorBytes, ...]:
        return (TensorBytes("U32", (len(payload),), array("I", payload).tobytes()),)

    def from_bytes(self, tensors: Sequence[TensorBytes], span: PayloadSpan) -> tuple[int, ...]:
        self._check(tensors, self._shapes(span))
        return tuple(memoryview(tensors[0].data).cast("B").cast("I"))

    def _shapes(self, span: PayloadSpan) -> list[tuple[str, tuple[int, ...]]]:
        """Types and shapes of a payload of that place."""
        return [("U32", (span.num_tokens,))]

    @staticmethod
    def _check(tensors: Sequence[TensorBytes], expected: list[tuple[str, tuple[int, ...]]]) -> None:
        found = [(tensor.dtype, tensor.shape) for tensor in tensors]
        if found != expected:
            raise PayloadError(f"its tensors are {found}, not {expected}")

    def decode(self, rows: Sequence[DecodeRow]) -> list[int | None]:
        chosen: list[int | None] = []
        for row in rows:
            row.caches.append(row.token_ids[-1])
            token = next_token(row.caches)
            is_finite = NOT_FINITE not in row.caches and token not in self.poisoned
            chosen.append(token if is_finite else None)
        return chosen


class NumberChat:
    """A text side whose text is the tokens' numbers."""

    def __init__(self, max_context_tokens: int = 100_000) -> None:
        self.max_context_tokens = max_context_tokens
        self.end_token_ids = frozenset({END_TOKEN})
        self.vocabulary_size = VOCABULARY + 1

    def detokenizer(self) -> NumberChat:
        return self

    def add(self, token_id: int) -> str:
        return f"{token_id} "

    def flush(self) -> str:
        return ""

    def spell_token(self, token_id: int) -> bytes:
        return self.add(token_id).encode()

    def spell(self, token_ids: Sequence[int]) -> str:
        return "".join(map(self.add, token_ids))

    def remember_reply(
        self, prompt: Sequence[int], reply: Sequence[int], namespace: str = ""
    ) -> None:
        """Numbers have one spelling."""

    def recollect_replies(self, replies: Sequence[object]) -> None:
        """There are none."""


class Clock:
    """Seconds that pass only when told, and a little with every look."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def make_core(
    *,
    num_blocks: int = 64,
    limits: SchedulerLimits | None = None,
    max_context_tokens: int = 100_000,
    folder: Path | None = None,
    post: Post | None = None,
    disk_budget_bytes: int = 1 << 30,
    fingerprint: str = "counting",
    memory: MemoryAccess | None = None,
    clock: Callable[[], float] | None = None,
    runner: CountingRunner | None = None,
) -> tuple[EngineCore, CountingRunner, Telemetry]:
    """A core on the counting model, with a warm tier where a folder for it is given."""
    runner = runner or CountingRunner()
    telemetry = Telemetry(lambda: 0.0)
    tier = None
    if folder is not None:
        space = KVSpace(fingerprint, runner.spec.kv_format)
        tier = DiskTier(folder, space, DiskLimits(budget_bytes=disk_budget_bytes), telemetry.note)
    core = EngineCore(
        CoreParts(
            runner=cast(ModelRunner, runner),
            chat=cast(ModelChat, NumberChat(max_context_tokens)),
            spec=runner.spec,
            fingerprint=fingerprint,
            reuses=True,
            num_blocks=num_blocks,
            limits=limits or SchedulerLimits(),
            telemetry=telemetry,
            tier=tier,
            post=post or (lambda action: action()),
            memory=memory,
        ),
        clock or Clock(),
    )
    return core, runner, telemetry
