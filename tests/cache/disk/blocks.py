"""Small blocks, chains and stores for tests; contents follow from a seed, so any can be checked."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.cache.block import BLOCK_TOKENS, block_hash
from engine.cache.disk.block_file import block_path
from engine.cache.disk.records import AgentRecord, BlockRecord, KVSpace, TensorBytes
from engine.cache.disk.store import BlockStore
from engine.cache.reply import ReplyTokens

SPACE = KVSpace("a" * 64, "v1 2 layers float32 k1x4 v1x4")
OTHER_MODEL = KVSpace("b" * 64, SPACE.kv_format)
OTHER_FORMAT = KVSpace(SPACE.fingerprint, SPACE.kv_format.replace("32", "16"))
PLENTY = 1 << 30


def block(parent: bytes, seed: int, num_tokens: int = BLOCK_TOKENS) -> BlockRecord:
    """A block of two layers; the same parent, seed and length give the same block."""
    source = random.Random(f"{parent.hex()} {seed} {num_tokens}")
    token_ids = tuple(source.randrange(50_000) for _ in range(num_tokens))
    tensors = tuple(
        TensorBytes(dtype, (1, 1, num_tokens, width), source.randbytes(num_tokens * width * size))
        for dtype, width, size in (("F32", 4, 4), ("F32", 4, 4), ("BF16", 2, 2), ("U8", 3, 1))
    )
    return BlockRecord(
        block_hash=block_hash(parent, token_ids),
        parent_hash=parent,
        token_ids=token_ids,
        tensors=tensors,
    )


def chain(
    num_full: int, seed: int = 0, num_tail_tokens: int = 0, space: KVSpace = SPACE
) -> list[BlockRecord]:
    """Full blocks, one after the other, and a tail if it is to have tokens."""
    records: list[BlockRecord] = []
    parent = space.root_hash
    for num_tokens in [BLOCK_TOKENS] * num_full + [num_tail_tokens] * (num_tail_tokens > 0):
        records.append(block(parent, seed, num_tokens))
        parent = records[-1].block_hash
    return records


def agent(agent_id: str, records: Sequence[BlockRecord], *, pinned: bool = False) -> AgentRecord:
    """An agent whose table is these blocks."""
    last = records[-1].token_ids if records else ()
    return AgentRecord(
        agent_id=agent_id,
        protocol="anthropic",
        pinned=pinned,
        block_hashes=tuple(record.block_hash for record in records),
        num_tokens=sum(len(record.token_ids) for record in records),
        tail_token_ids=last if len(last) < BLOCK_TOKENS else (),
        prompt_digest=b"digest",
        num_prompt_tokens=7,
        num_turns=3,
        last_active_time=12.5,
        last_turn={"num_cached_tokens": 5, "ttft_s": 0.25, "miss": ""},
        replies=(ReplyTokens(b"0123456789abcdef", 3, 1, (5, 6, 7)),),
    )


def hashes(records: Sequence[BlockRecord]) -> list[bytes]:
    """Their hashes."""
    return [record.block_hash for record in records]


class Events(list[tuple[str, str, str]]):
    """Takes events and keeps them."""

    def __call__(self, kind: str, text: str, level: str) -> None:
        self.append((kind, text, level))

    def kinds(self) -> list[str]:
        """Kinds, in order."""
        return [kind for kind, _, _ in self]

    def texts(self, kind: str) -> list[str]:
        """Texts of one kind."""
        return [text for name, text, _ in self if name == kind]


class Clock:
    """Wall-clock seconds that pass only on demand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def opened(
    folder: Path,
    *,
    space: KVSpace = SPACE,
    budget_bytes: int = PLENTY,
    events: Events | None = None,
    clock: Clock | None = None,
) -> Iterator[tuple[BlockStore, dict[str, AgentRecord]]]:
    """An open store and the agents it knew; what is unsaved at the end is saved."""
    note = Events() if events is None else events
    store = BlockStore(folder, space, budget_bytes, note, clock or Clock())
    agents = {record.agent_id: record for record in store.open()}
    try:
        yield store, agents
        store.save()
    finally:
        store.close()


def write_all(store: BlockStore, records: Sequence[BlockRecord]) -> None:
    """Writes blocks; all must fit."""
    for record in records:
        assert store.write_block(record)


def path_of(folder: Path, record: BlockRecord, space: KVSpace = SPACE) -> Path:
    """Where a block's file lies."""
    return block_path(folder / "kv", space.name, record.block_hash)


def file_bytes(record: BlockRecord, tmp_path: Path) -> int:
    """Size of the file of a block like this."""
    with opened(tmp_path / "for-size") as (store, _):
        write_all(store, [record])
        return store.index.num_bytes


def read(store: BlockStore, records: Sequence[BlockRecord]) -> list[BlockRecord]:
    """What comes back of a chain; must be a beginning of it, to the byte."""
    found = list(store.read_blocks(hashes(records)))
    assert found == list(records[: len(found)])
    return found


def replace_by_link(path: Path) -> None:
    """A link to the very same content."""
    target = path.parent.parent / "elsewhere"
    shutil.move(path, target)
    path.symlink_to(target)
