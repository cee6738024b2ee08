"""The block pool under every order of operations keeps its invariants and its contents."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.cache.block import BLOCK_TOKENS, KVBlock, block_hash
from engine.cache.pool import BlockPool

NUM_BLOCKS = 6


class PoolMachine(RuleBasedStateMachine):
    """Tables allocate, seal, share, release; sealed content never changes under a holder."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS, block_bytes=10)
        self.tables: list[list[KVBlock]] = [[] for _ in range(3)]
        self.contents: dict[bytes, int] = {}

    def _hash(self, content: int) -> bytes:
        value = block_hash(b"root", (content,) * BLOCK_TOKENS)
        self.contents[value] = content
        return value

    @rule(table=st.integers(0, 2))
    def allocate(self, table: int) -> None:
        if self.pool.can_allocate(1):
            block = self.pool.allocate()
            assert block.ref_count == 1
            assert block.block_hash is None
            assert block.payload is None
            self.tables[table].append(block)

    @rule(table=st.integers(0, 2), content=st.integers(0, 8))
    def seal(self, table: int, content: int) -> None:
        unsealed = [b for b in self.tables[table] if b.block_hash is None]
        if unsealed:
            position = self.tables[table].index(unsealed[0])
            tokens = (content,) * BLOCK_TOKENS
            block = self.pool.seal(unsealed[0], self._hash(content), tokens, content)
            self.tables[table][position] = block

    @rule(table=st.integers(0, 2), content=st.integers(0, 8))
    def share(self, table: int, content: int) -> None:
        block = self.pool.lookup(self._hash(content))
        if block is not None:
            self.tables[table].append(self.pool.acquire(block))

    @precondition(lambda self: any(self.tables))
    @rule(table=st.integers(0, 2), position=st.integers(0, 10))
    def release_one(self, table: int, position: int) -> None:
        if self.tables[table]:
            self.pool.release(self.tables[table].pop(position % len(self.tables[table])))

    @rule(table=st.integers(0, 2))
    def release_all(self, table: int) -> None:
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
        num_held = len({b.block_id for table in self.tables for b in table})
        assert self.pool.num_allocatable_blocks == NUM_BLOCKS - num_held


PoolMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
