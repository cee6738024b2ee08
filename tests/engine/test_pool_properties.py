"""The block pool under every order of operations keeps its invariants and its contents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash
from engine.cache.pool import BlockPool

NUM_BLOCKS = 8


class PoolMachine(RuleBasedStateMachine):
    """Tables allocate, seal, share, release; sealed content never changes under a holder."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS, block_bytes=10)
        self.tables: list[list[KVBlock]] = [[] for _ in range(3)]
        self.contents: dict[bytes, int] = {}
        self.idle: set[int] = set()
        self.pinned: set[int] = set()

    def _hash(self, content: int) -> bytes:
        value = block_hash(b"root", (content,) * BLOCK_TOKENS)
        self.contents[value] = content
        return value

    @contextmanager
    def changing(self, table: int) -> Iterator[None]:
        """What the agents do around every change of a table."""
        if table in self.idle:
            self.pool.unmark_idle(self.tables[table])
        if table in self.pinned:
            self.pool.mark_pinned(self.tables[table], -1)
        yield
        if table in self.idle:
            self.pool.mark_idle(self.tables[table])
        if table in self.pinned:
            self.pool.mark_pinned(self.tables[table], +1)

    @rule(table=st.integers(0, 2), is_idle=st.booleans(), is_pinned=st.booleans())
    def mark(self, table: int, is_idle: bool, is_pinned: bool) -> None:
        with self.changing(table):
            for marks, is_marked in ((self.idle, is_idle), (self.pinned, is_pinned)):
                marks.discard(table)
                marks |= {table} if is_marked else set()

    @rule(table=st.integers(0, 2), num_slots=st.integers(1, 4))
    def allocate(self, table: int, num_slots: int) -> None:
        if self.pool.can_allocate(num_slots):
            block = self.pool.allocate(num_slots)
            assert block.num_slots == num_slots
            assert block.ref_count == 1
            assert block.block_hash is None
            assert block.payload is None
            with self.changing(table):
                self.tables[table].append(block)

    @rule(table=st.integers(0, 2), num_slots=st.integers(2, 3))
    def join(self, table: int, num_slots: int) -> None:
        single = [b for b in self.tables[table] if b.block_hash is None and b.num_slots == 1]
        if len(single) >= num_slots:
            with self.changing(table):
                parts = single[:num_slots]
                rest = [b for b in self.tables[table] if b not in parts]
                self.tables[table] = [*rest, self.pool.join(parts)]

    @rule(table=st.integers(0, 2), content=st.integers(0, 8))
    def seal(self, table: int, content: int) -> None:
        unsealed = [b for b in self.tables[table] if b.block_hash is None]
        if unsealed:
            position = self.tables[table].index(unsealed[0])
            tokens = (content,) * BLOCK_TOKENS
            with self.changing(table):
                block = self.pool.seal(unsealed[0], self._hash(content), tokens, content)
                self.tables[table][position] = block

    @rule(table=st.integers(0, 2), content=st.integers(0, 8))
    def share(self, table: int, content: int) -> None:
        block = self.pool.lookup(self._hash(content))
        if block is not None:
            with self.changing(table):
                self.tables[table].append(self.pool.acquire(block))

    @precondition(lambda self: any(self.tables))
    @rule(table=st.integers(0, 2), position=st.integers(0, 10))
    def release_one(self, table: int, position: int) -> None:
        if self.tables[table]:
            with self.changing(table):
                self.pool.release(self.tables[table].pop(position % len(self.tables[table])))

    @rule(table=st.integers(0, 2))
    def release_all(self, table: int) -> None:
        with self.changing(table):
            self.pool.release_table(self.tables[table])
            self.tables[table] = []

    @rule()
    def drop(self) -> None:
        num_free = self.pool.num_free_blocks
        num_dropped = self.pool.drop_cached(list(self.pool))
        assert self.pool.num_free_blocks == num_free + num_dropped
        assert self.pool.num_cached_blocks == 0

    @invariant()
    def counts_agree(self) -> None:
        self.pool.check_integrity(self.tables)

    @invariant()
    def contents_are_what_was_sealed(self) -> None:
        for block_hash_, content in self.contents.items():
            block = self.pool.lookup(block_hash_)
            if block is not None:
                assert block.payload == content
                assert block.token_ids == (content,) * BLOCK_TOKENS

    @invariant()
    def the_promise_to_allocate_holds(self) -> None:
        held = {b.block_id: b.num_slots for table in self.tables for b in table}
        assert self.pool.num_allocatable_blocks == NUM_BLOCKS - sum(held.values())

    @invariant()
    def what_only_idle_tables_hold_is_known(self) -> None:
        kept = {b.block_id for at, t in enumerate(self.tables) if at not in self.idle for b in t}
        held = {b.block_id: b for table in self.tables for b in table}
        idle = [b.num_slots for block_id, b in held.items() if block_id not in kept]
        assert self.pool.num_idle_blocks == sum(idle)
        pinned = {b.block_id: b.num_slots for at in self.pinned for b in self.tables[at]}
        assert self.pool.num_pinned_blocks == sum(pinned.values())


PoolMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
