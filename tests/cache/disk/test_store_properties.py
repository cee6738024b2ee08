"""The store under every order of writing, reading, pinning, damage, eviction and restart."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.cache.disk.records import AgentRecord, BlockRecord
from engine.cache.disk.store import BlockStore
from tests.cache.disk.blocks import SPACE, Clock, Events, agent, block, hashes, path_of

BUDGET_BLOCKS = 8
NUM_SEEDS = 3
AGENT_IDS = st.sampled_from(["repo-a", "repo-b", "repo-c"])
PATHS = st.lists(st.integers(0, NUM_SEEDS - 1), min_size=1, max_size=4)
TAILS = st.sampled_from([0, 0, 3, 200])


class StoreMachine(RuleBasedStateMachine):
    """A dict of what was written stands beside the store and says what may come back."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stoker-test-"))
        self.clock = Clock()
        self.events = Events()
        self.written: dict[bytes, BlockRecord] = {}
        self.saved: dict[str, AgentRecord] = {}
        self.unsaved: dict[str, AgentRecord | None] = {}
        self.has_damage = False
        probe = block(SPACE.root_hash, 0)
        self.budget_bytes = BUDGET_BLOCKS * (probe.num_bytes + 2500)
        self.store = self._open()

    def _open(self) -> BlockStore:
        store = BlockStore(self.folder, SPACE, self.budget_bytes, self.events, self.clock)
        self.found = {record.agent_id: record for record in store.open()}
        return store

    def _records(self, path: list[int], num_tail_tokens: int) -> list[BlockRecord]:
        records: list[BlockRecord] = []
        parent = SPACE.root_hash
        for seed in path:
            records.append(block(parent, seed))
            parent = records[-1].block_hash
        if num_tail_tokens:
            records.append(block(parent, 0, num_tail_tokens))
        return records

    @rule(path=PATHS, num_tail_tokens=TAILS)
    def write(self, path: list[int], num_tail_tokens: int) -> None:
        for record in self._records(path, num_tail_tokens):
            if self.store.write_block(record):
                self.written[record.block_hash] = record
                assert record.block_hash in self.store.index

    @rule(path=PATHS, num_tail_tokens=TAILS)
    def read(self, path: list[int], num_tail_tokens: int) -> None:
        records = self._records(path, num_tail_tokens)
        num_there = 0
        while num_there < len(records) and records[num_there].block_hash in self.store.index:
            num_there += 1

        found = list(self.store.read_blocks(hashes(records)))

        assert found == records[: len(found)]
        assert all(record.block_hash in self.written for record in found)
        assert len(found) == num_there or self.has_damage

    @rule(agent_id=AGENT_IDS, path=PATHS, num_tail_tokens=TAILS, pinned=st.booleans())
    def save_agent(
        self, agent_id: str, path: list[int], num_tail_tokens: int, pinned: bool
    ) -> None:
        record = agent(agent_id, self._records(path, num_tail_tokens), pinned=pinned)
        whole = self.store.save_agent(record)
        assert whole.block_hashes == record.block_hashes[: len(whole.block_hashes)]
        assert all(block_hash in self.store.index for block_hash in whole.block_hashes)
        self.unsaved[agent_id] = whole

    @rule(agent_id=AGENT_IDS)
    def forget_agent(self, agent_id: str) -> None:
        self.store.forget_agent(agent_id)
        self.unsaved[agent_id] = None

    @rule()
    def save(self) -> None:
        self.store.save()
        self._take_over()

    def _take_over(self) -> None:
        for agent_id, record in self.unsaved.items():
            self.saved.pop(agent_id, None)
            if record is not None:
                self.saved[agent_id] = record
        self.unsaved.clear()

    @rule(seconds=st.sampled_from([1.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: len(self.store.index) > 0)
    @rule(position=st.integers(0, 50), flip=st.integers(0, 5000), vanish=st.booleans())
    def damage(self, position: int, flip: int, vanish: bool) -> None:
        names = sorted(self.store.index.entries)
        path = path_of(self.folder, self.written[names[position % len(names)]])
        self.has_damage = True
        if vanish:
            path.unlink(missing_ok=True)
        elif path.exists():
            content = bytearray(path.read_bytes())
            content[flip % len(content)] ^= 1 << flip % 8
            path.write_bytes(content)

    @rule(clean=st.booleans(), lose_index=st.sampled_from([False, False, False, True]))
    def restart(self, clean: bool, lose_index: bool) -> None:
        if clean:
            self.save()
        self.store.close()
        self.unsaved.clear()
        if lose_index:
            for name in ("index.db", "index.db-wal"):
                (self.folder / name).unlink(missing_ok=True)
            self.saved.clear()
        self.store = self._open()
        assert self.found.keys() == self.saved.keys()
        for agent_id, record in self.found.items():
            whole = self.saved[agent_id]
            assert record == whole.cut(len(record.block_hashes), record.num_tokens)
            rest = whole.block_hashes[len(record.block_hashes) :]
            assert not rest or rest[0] not in self.store.index or self.has_damage
        self.saved = dict(self.found)

    @invariant()
    def index_and_folder_agree(self) -> None:
        sizes = {
            bytes.fromhex(path.stem): path.stat().st_size
            for path in (self.folder / "kv").rglob("*.safetensors")
        }
        entries = self.store.index.entries
        assert self.store.index.num_bytes == sum(entry.size_bytes for entry in entries.values())
        assert sizes.keys() <= entries.keys()
        assert sizes.keys() == entries.keys() or self.has_damage
        assert len(os.listdir(self.folder)) <= 6

    @invariant()
    def budget_is_kept(self) -> None:
        assert self.store.index.num_bytes <= self.budget_bytes

    @invariant()
    def pinned_agents_keep_all(self) -> None:
        if self.has_damage:
            return
        for record in self.store.index.agents.values():
            if record.pinned:
                assert all(name in self.store.index for name in record.block_hashes)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
