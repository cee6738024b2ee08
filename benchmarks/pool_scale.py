"""What a pool of 100 000 blocks and 10 000 agents costs, against one a hundred times smaller.

Usage: ``python -m benchmarks.pool_scale``. No model: its place is taken by the counting model of
the tests, whose KV is the tokens themselves, so what is left is the engine's own bookkeeping. The
disk part opens a folder of small block files without an index (it is rebuilt from their headers)
and with one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results_file import summarize, write_result
from engine.cache.block import BLOCK_TOKENS, chain_hashes, root_hash
from engine.cache.disk.block_file import block_path, encode
from engine.cache.disk.durable import make_folder
from engine.cache.disk.records import AgentRecord, BlockRecord, KVSpace
from engine.cache.disk.store import KV_FOLDER, BlockStore
from engine.cache.prefix import match_prefix
from engine.commands import Generate
from engine.relief import Relief
from engine.request import Delta, Request, SamplingParams
from tests.engine.counting_model import CountingRunner, make_core

BLOCKS_PER_AGENT = 10
SPARE_BLOCKS = 40
SIZES = (1_000, 10_000, 100_000)
FLAT = 3.0
"""An operation counts as flat if it takes at most so many times longer in a pool a hundred times
larger: what a processor's caches cannot hold costs that much by itself."""
REST = tuple(range(1000, 1000 + BLOCK_TOKENS))
"""Tokens of every block but an agent's first."""
NEW_AGENTS = 1_000_000
"""Agents from this number on are new to every pool."""
GIB = 1 << 30


def first_block(number: int) -> tuple[int, ...]:
    """Tokens that only one agent's context begins with."""
    return (number, *REST[1:])


def context(number: int) -> tuple[int, ...]:
    """All tokens of an agent's context."""
    return first_block(number) + REST * (BLOCKS_PER_AGENT - 1)


class Pool:
    """A core whose pool is full of agents' caches but for a few blocks."""

    def __init__(self, num_blocks: int) -> None:
        """Fills it with turns."""
        self._num_agents = num_blocks // BLOCKS_PER_AGENT
        self._core, _, self._telemetry = make_core(num_blocks=num_blocks + SPARE_BLOCKS)
        for number in range(self._num_agents):
            self.turn(context(number))

    def operations(self) -> dict[str, Callable[[int], object]]:
        """What is timed, each told how many times it was done before."""
        core, pool, agents = self._core, self._core.pool, self._core.agents
        middle = self._num_agents // 2
        prompt = (*context(middle), 5)
        hashes = chain_hashes(root_hash("counting", CountingRunner().spec.kv_format), prompt)
        block = pool.lookup(hashes[0])
        agent = agents.resolve(None, prompt, "known")
        assert block is not None
        assert agent.block_table
        relief = Relief(pool, agents, self._telemetry.note)

        def seal(number: int) -> None:
            name = number.to_bytes(32, "big")
            pool.release(pool.seal(pool.allocate(), name, REST, None))

        def publish(_number: int) -> object:
            return core.publisher.draw(core.stepper.reading, time.monotonic())

        return {
            "allocate and free": lambda _: pool.release(pool.allocate()),
            "seal": seal,
            "lookup": lambda _: pool.lookup(hashes[-1]),
            "acquire and release": lambda _: pool.release(pool.acquire(block)),
            "match a prefix": lambda _: match_prefix(pool, hashes, prompt),
            "find an agent by id": lambda _: agents.resolve(agent.agent_id, prompt, "a"),
            "find an agent by prompt": lambda _: agents.resolve(None, prompt, "a"),
            "see that there is no room": lambda _: relief.make_room(pool.num_total_blocks + 1, ()),
            "turn of a known agent": lambda _: self.turn(prompt),
            "turn of a new agent": lambda number: self.turn(context(NEW_AGENTS + number)[:260]),
            "publish, nothing changed": publish,
            "turn of a known agent, then publish": lambda n: (self.turn(prompt), publish(n)),
            "evict for room": lambda _: relief.make_room(pool.num_allocatable_blocks + 1, ()),
        }

    def turn(self, token_ids: tuple[int, ...]) -> bool:
        """A turn through the whole core, of two tokens."""
        request = Request(
            request_id="turn",
            agent_id=None,
            prompt_token_ids=token_ids,
            sampling=SamplingParams(max_tokens=2),
        )
        self._core.submit(Generate(request=request, sink=_drop))
        while self._core.scheduler.has_work:
            self._core.step()
        return True


def _drop(_delta: Delta) -> None:
    """Nobody listens."""


def measure_pool(num_blocks: int, repeats: int) -> dict[str, Any]:
    """Microseconds of each operation at one size."""
    pool = Pool(num_blocks)
    return {
        name: summarize([_elapsed_s(operation, at) * 1e6 for at in range(repeats)])
        for name, operation in pool.operations().items()
    }


def _elapsed_s(operation: Callable[[int], object], at: int) -> float:
    began_s = time.perf_counter()
    operation(at)
    return time.perf_counter() - began_s


def measure_disk(num_blocks: int) -> dict[str, float]:
    """Seconds to open a folder of that many block files, without and with its index."""
    space = KVSpace("counting", "tokens")
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as name:
        folder = Path(name)
        agents = _write_blocks(folder, space, num_blocks)
        rebuild_s, store = _opened(folder, space)
        for record in agents:
            store.save_agent(record)
        began_s = time.perf_counter()
        store.save()
        save_s = time.perf_counter() - began_s
        store.close()
        open_s, store = _opened(folder, space)
        assert len(store.index) == num_blocks
        store.close()
    return {"rebuild_s": rebuild_s, "save_agents_s": save_s, "open_s": open_s}


def _opened(folder: Path, space: KVSpace) -> tuple[float, BlockStore]:
    store = BlockStore(folder, space, 100 * GIB, lambda *_: None)
    began_s = time.perf_counter()
    store.open()
    return time.perf_counter() - began_s, store


def _write_blocks(folder: Path, space: KVSpace, num_blocks: int) -> list[AgentRecord]:
    """Block files as a tier would have left them, without waiting for the disk."""
    runner = CountingRunner()
    (folder / KV_FOLDER).mkdir(mode=0o700)
    records = []
    for number in range(num_blocks // BLOCKS_PER_AGENT):
        token_ids = context(number)
        hashes = chain_hashes(space.root_hash, token_ids)
        parents = [space.root_hash, *hashes]
        for index, name in enumerate(hashes):
            part = token_ids[index * BLOCK_TOKENS : (index + 1) * BLOCK_TOKENS]
            record = BlockRecord(
                block_hash=name,
                parent_hash=parents[index],
                token_ids=part,
                tensors=runner.to_bytes(part),
            )
            path = block_path(folder / KV_FOLDER, space.name, name)
            for parent in (path.parent.parent, path.parent):
                if not parent.exists():
                    make_folder(parent)
            path.write_bytes(b"".join(encode(record, space)))
        records.append(
            AgentRecord(
                agent_id=f"agent-{number}", block_hashes=tuple(hashes), num_tokens=len(token_ids)
            )
        )
    return records


def main() -> None:
    """Runs the benchmark and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="+", default=SIZES, help="sizes of the pool")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument(
        "--files", type=int, nargs="*", default=SIZES, help="block files in the folder"
    )
    options = parser.parse_args()
    sizes = {num_blocks: measure_pool(num_blocks, options.repeats) for num_blocks in options.blocks}
    smallest, largest = sizes[min(sizes)], sizes[max(sizes)]
    growth = {name: largest[name]["p50"] / smallest[name]["p50"] for name in largest}
    for name, ratio in growth.items():
        shown = ", ".join(
            f"{size} blocks {each[name]['p50']:.1f} us" for size, each in sizes.items()
        )
        print(f"{name}: {shown}; {'flat' if ratio <= FLAT else 'grows'} ({ratio:.1f}x)")
    disk = {num_blocks: measure_disk(num_blocks) for num_blocks in options.files}
    for num_blocks, seconds in disk.items():
        shown = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
        print(f"{num_blocks} block files: {shown}")
    results = {"unit": "us", "pool": sizes, "growth": growth, "disk": disk}
    print(write_result("pool_scale", results))


if __name__ == "__main__":
    main()
