"""Who loses a cache first when room is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache.block import KVBlock, block_hash
from engine.cache.pool import BlockPool
from engine.relief import MAX_LOOKS, Relief
from engine.trace import Fact
from tests.cache.disk.tier_setup import Gate
from tests.engine.counting_model import continuation
from tests.engine.disk_core import DiskCore
from tests.engine.turns import check, submit

NUM_BLOCKS = 12


class Shelf:
    """A keeper that is told what it has, and what it takes."""

    def __init__(self) -> None:
        self.safe: set[bytes] = set()
        self.takes = True
        self.offered: list[bytes] = []

    def has_block(self, block: KVBlock) -> bool:
        return block.block_hash in self.safe

    def offer(self, block: KVBlock) -> None:
        assert block.block_hash is not None
        self.offered.append(block.block_hash)
        if self.takes:
            self.safe.add(block.block_hash)

    def has_agent(self, agent: Agent) -> bool:
        return all(map(self.has_block, agent.block_table))

    def keep_agent(self, agent: Agent) -> None:
        for block in agent.block_table:
            self.offer(block)


class House:
    """A full pool: agents with blocks of their own, and blocks that nobody holds."""

    def __init__(self, num_blocks: int = NUM_BLOCKS) -> None:
        self.pool = BlockPool(num_blocks, 1)
        self.agents = AgentStore(self.pool)
        self.shelf = Shelf()
        self.events: list[str] = []
        self.relief = Relief(self.pool, self.agents, self._note)
        self.relief.keeper = self.shelf
        self._clock = 0.0

    def _note(self, _kind: str, text: str, _level: str = "info", /, **_facts: Fact) -> None:
        self.events.append(text)

    def block(self, name: str) -> KVBlock:
        parent = name.encode().ljust(32)
        block = self.pool.allocate()
        return self.pool.seal(block, block_hash(parent, (1,)), (1,), name, parent)

    def unheld(self, *names: str) -> list[bytes]:
        """Blocks that nobody holds, oldest first."""
        hashes = []
        for name in names:
            block = self.block(name)
            assert block.block_hash is not None
            hashes.append(block.block_hash)
            self.pool.release(block)
        return hashes

    def agent(self, name: str, *blocks: str) -> Agent:
        """An idle agent, younger than those before it."""
        self._clock += 1
        agent = self.agents.resolve(name, (), "")
        agent.last_active_s = self._clock
        self.agents.store(agent, [self.block(each) for each in blocks], (1,) * len(blocks))
        return agent

    def take(self, num_blocks: int) -> bool:
        """Makes room and uses it."""
        if not self.relief.make_room(num_blocks, ()):
            return False
        for _ in range(num_blocks):
            self.pool.allocate()
        return True

    def there(self, hashes: list[bytes]) -> list[bool]:
        return [self.pool.lookup(name) is not None for name in hashes]


def full_house() -> tuple[House, list[bytes]]:
    house = House()
    unheld = house.unheld("u0", "u1", "u2", "u3")
    house.agent("old", "a0", "a1", "a2", "a3")
    house.agent("young", "b0", "b1", "b2", "b3")
    return house, unheld


def test_blocks_nobody_holds_that_are_on_disk_go_first() -> None:
    house, unheld = full_house()
    house.shelf.safe = {unheld[1], unheld[3]}
    assert house.take(2)
    assert house.there(unheld) == [True, False, True, False]
    assert house.shelf.offered == []


def test_then_those_that_are_not_are_handed_to_the_disk_and_go() -> None:
    house, unheld = full_house()
    house.shelf.safe = {unheld[1], unheld[3]}
    assert house.take(4)
    assert house.there(unheld) == [False] * 4
    assert house.shelf.offered == [unheld[0], unheld[2]]
    assert house.events == [], "no agent has lost anything"


def test_a_disk_that_takes_nothing_holds_nobody_up() -> None:
    house, unheld = full_house()
    house.shelf.takes = False
    assert house.take(4)
    assert house.there(unheld) == [False] * 4


def test_then_the_oldest_idle_agent_is_handed_to_the_disk_and_goes() -> None:
    house, _ = full_house()
    lost = [b.block_hash for b in house.agents.get("old").block_table]
    assert house.take(5)
    assert [text.split(":")[0] for text in house.events] == ["old"]
    assert house.shelf.offered[:4] == lost
    assert house.agents.get("young").block_table


def test_an_agent_the_disk_does_not_take_is_spared_while_another_is_safe() -> None:
    house, unheld = full_house()
    young = house.agents.get("young")
    house.shelf.takes = False
    house.shelf.safe = {b.block_hash for b in young.block_table if b.block_hash} | set(unheld)
    assert house.take(6)
    assert house.agents.get("old").block_table
    assert not young.block_table


def test_where_none_is_safe_the_oldest_goes_all_the_same() -> None:
    house, _ = full_house()
    house.shelf.takes = False
    assert house.take(8)
    assert not house.agents.get("old").block_table
    assert house.agents.get("young").block_table


def test_pinned_and_busy_agents_never_go() -> None:
    house, _ = full_house()
    house.agents.pin(house.agents.get("old"), True)
    house.agents.begin_turn(house.agents.get("young"), 9.0)
    assert not house.take(5)
    assert house.take(4)
    assert len(house.agents.get("old").block_table) == 4
    assert len(house.agents.get("young").block_table) == 4


def test_nothing_goes_where_it_would_not_help() -> None:
    house, unheld = full_house()
    assert not house.take(NUM_BLOCKS + 1)
    assert house.there(unheld) == [True] * 4
    assert house.events == []


def test_only_so_many_blocks_are_looked_at() -> None:
    house = House(3 * MAX_LOOKS)
    unheld = house.unheld(*(f"u{i}" for i in range(3 * MAX_LOOKS)))
    looked: list[KVBlock] = []
    house.shelf.has_block = lambda block: bool(looked.append(block))  # type: ignore[method-assign, func-returns-value]
    assert house.take(1)
    assert len(looked) == MAX_LOOKS
    assert house.there(unheld[:1]) == [False]


def test_an_agent_the_disk_has_not_written_yet_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is held up: what memory loses meanwhile is on its way, and comes from there."""
    disk = DiskCore(tmp_path, num_blocks=8)
    gate = Gate(monkeypatch, "sync")
    first = [(i * 31) % 997 for i in range(700)]
    for number, name in enumerate(("first", "second", "third")):
        tokens = [(token + number) % 997 for token in first]
        turn = submit(disk.core, name, tokens)
        disk.run()
        assert turn.token_ids == continuation(tokens, 8)
    assert not disk.core.agents.get("first").block_table
    assert disk.persistence.tier.stats.num_pending > 0, "the disk has not been waited for"
    gate.open()
    again = submit(disk.core, "first", first)
    disk.run()
    assert again.token_ids == continuation(first, 8)
    assert again.num_cached_tokens >= 512, "but for the tail, which is not acknowledged yet"
    check(disk.core)
    disk.close()
