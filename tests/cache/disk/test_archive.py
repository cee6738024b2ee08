"""An agent as one file: it comes back as it was, and a file that is not sound changes nothing."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cache.block import block_hash, root_hash
from engine.cache.disk.archive import ArchiveReader, archive_parts, block_member, member_header
from engine.cache.disk.archived_agent import ArchivedAgent
from engine.cache.disk.records import AgentRecord, BlockRecord, KVSpace
from engine.cache.disk.tier import DiskLimits, DiskTier
from engine.cache.turn_history import TurnMark
from engine.errors import ArchiveError, ForeignArchiveError, NoDiskTierError
from tests.cache.disk.blocks import OTHER_MODEL, SPACE, Events, agent, block, chain, path_of
from tests.cache.disk.tier_setup import LIMITS, Setup, until


@pytest.fixture
def records() -> list[BlockRecord]:
    return chain(3, num_tail_tokens=17)


@pytest.fixture
def archive(setup: Setup, records: list[BlockRecord], tmp_path: Path) -> Path:
    """A sound archive; its blocks are in ``setup`` too."""
    setup.write(records)
    path = tmp_path / "out" / "a.stoker-agent"
    setup.tier.archives.write(agent("repo-a", records), path)
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Setup]:
    """Another data folder."""
    fresh = Setup(tmp_path / "fresh", LIMITS)
    fresh.tier.open()
    yield fresh
    fresh.tier.close(5.0)


def _mark(number: int, records: list[BlockRecord], num_tokens: int) -> TurnMark:
    """A turn that ended so many tokens from the beginning."""
    num_full, num_rest = divmod(num_tokens, 256)
    last_hash = records[num_full - 1].block_hash
    rest = records[num_full].token_ids[:num_rest]
    return TurnMark(
        number=number,
        num_tokens=num_tokens,
        last_hash=last_hash,
        end_hash=block_hash(last_hash, rest),
    )


def content_of(
    records: list[BlockRecord], record: AgentRecord | None = None, space: KVSpace = SPACE
) -> bytes:
    parts = archive_parts(
        ArchivedAgent(record=record or agent("repo-a", records), space=space), records
    )
    return b"".join(bytes(buffer) for part in parts for buffer in part)


def read_all(content: bytes) -> list[BlockRecord]:
    return list(ArchiveReader(io.BytesIO(content), len(content)).blocks())


def test_an_agent_goes_to_another_machine(
    archive: Path, fresh: Setup, records: list[BlockRecord]
) -> None:
    taken = fresh.tier.archives.take_in(archive)
    assert taken == agent("repo-a", records)
    assert fresh.save(taken) == taken
    assert fresh.read(records) == records


def test_any_tar_program_unpacks_it(archive: Path, setup: Setup, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    records = chain(3, num_tail_tokens=17)
    for record in records:
        unpacked = tmp_path / "unpacked" / block_member(record.block_hash)
        assert unpacked.read_bytes() == path_of(setup.folder, record).read_bytes()
    body = json.loads((tmp_path / "unpacked" / "agent.json").read_text())
    assert body["agent"]["id"] == "repo-a"
    assert archive.stat().st_mode & 0o777 == 0o600


def test_a_pin_does_not_travel(setup: Setup, fresh: Setup, tmp_path: Path) -> None:
    records = chain(1)
    setup.write(records)
    setup.tier.archives.write(agent("a", records, pinned=True), tmp_path / "a")
    assert not fresh.tier.archives.take_in(tmp_path / "a").pinned


def test_it_moves_to_another_namespace(setup: Setup, fresh: Setup, tmp_path: Path) -> None:
    root = root_hash(SPACE.fingerprint, SPACE.kv_format, "alice")
    first = block(root, 1)
    checkpoint = block(first.block_hash, 2, 9)
    records = [first, block(first.block_hash, 3, 40)]
    setup.write([*records, checkpoint])
    turns = (
        TurnMark(
            number=1,
            num_tokens=256 + 9,
            last_hash=first.block_hash,
            end_hash=checkpoint.block_hash,
            has_checkpoint=True,
        ),
        TurnMark(number=2, num_tokens=256, last_hash=first.block_hash, end_hash=b"\1" * 32),
        _mark(3, records, 256 + 20),
    )
    setup.tier.archives.write(
        replace(agent("a", records), namespace="alice", turns=turns), tmp_path / "a"
    )

    taken = fresh.tier.archives.take_in(tmp_path / "a", namespace="bob")

    parent = root_hash(SPACE.fingerprint, SPACE.kv_format, "bob")
    for name, record in zip(taken.block_hashes, records, strict=True):
        assert name == block_hash(parent, record.token_ids)
        parent = name
    until(lambda: all(map(fresh.tier.has, taken.block_hashes)))
    assert taken.namespace == "bob"
    assert [mark.number for mark in taken.turns] == [1, 3]
    assert {mark.last_hash for mark in taken.turns} == {taken.block_hashes[0]}
    moved = block_hash(taken.block_hashes[0], checkpoint.token_ids)
    assert taken.turns[0].end_hash == moved
    rest = records[1].token_ids[:20]
    assert taken.turns[1].end_hash == block_hash(taken.block_hashes[0], rest)
    until(lambda: fresh.tier.has(moved))
    assert fresh.tier.stats.num_blocks == 3


def test_a_file_in_its_place_stays_until_the_new_one_is_whole(
    setup: Setup, archive: Path, records: list[BlockRecord]
) -> None:
    before = archive.read_bytes()
    missing = block(records[-1].block_hash, 9)
    with pytest.raises(ArchiveError, match="gone from the disk"):
        setup.tier.archives.write(agent("repo-a", [*records[:3], missing]), archive)
    assert archive.read_bytes() == before
    assert os.listdir(archive.parent) == [archive.name]


def test_another_model_is_named_with_ours(setup: Setup, tmp_path: Path) -> None:
    records = chain(1, space=OTHER_MODEL)
    path = tmp_path / "a"
    path.write_bytes(content_of(records, space=OTHER_MODEL))
    with pytest.raises(ForeignArchiveError) as caught:
        setup.tier.archives.take_in(path)
    assert "bbbbbbbbbbbb" in str(caught.value)
    assert "aaaaaaaaaaaa" in str(caught.value)


def refused(setup: Setup, path: Path, words: str = ".") -> None:
    """It is refused in words, and nothing of it is kept."""
    num_blocks = setup.tier.stats.num_blocks
    with pytest.raises(ArchiveError, match=words):
        setup.tier.archives.take_in(path)
    assert (setup.tier.stats.num_blocks, setup.tier.stats.num_pending) == (num_blocks, 0)


def test_every_cut_is_refused(fresh: Setup, archive: Path) -> None:
    content = archive.read_bytes()
    for length in {0, 1, 511, 512, *range(600, len(content), 997), len(content) - 1}:
        archive.write_bytes(content[:length])
        refused(fresh, archive)


def test_every_flipped_bit_is_refused() -> None:
    content = bytearray(content_of(chain(1)))
    source = random.Random(3)
    places = {*range(1200), *(source.randrange(len(content)) for _ in range(1500))}
    for place in places:
        bit = 1 << source.randrange(8)
        content[place] ^= bit
        with pytest.raises(ArchiveError):
            read_all(bytes(content))
        content[place] ^= bit
    assert read_all(bytes(content)) == chain(1)


@pytest.mark.parametrize("more", [b"\0", b"x" * 512, bytes(1 << 16)], ids=["1", "512", "64K"])
def test_nothing_may_follow_its_end(fresh: Setup, archive: Path, more: bytes) -> None:
    archive.write_bytes(archive.read_bytes() + more)
    refused(fresh, archive, "after its end")


def body_changes() -> list[tuple[str, Callable[[dict[str, object]], None], str]]:
    def put(*path: str, value: object) -> Callable[[dict[str, object]], None]:
        def change(body: dict[str, object]) -> None:
            place: dict[str, object] = body
            for name in path[:-1]:
                place = place[name]  # type: ignore[assignment]
            place[path[-1]] = value

        return change

    def repeat(body: dict[str, object]) -> None:
        body["blocks"] = [*body["blocks"], body["blocks"][0]]  # type: ignore[index, misc]

    def drop(body: dict[str, object]) -> None:
        del body["agent"]["num_turns"]  # type: ignore[attr-defined]

    return [
        ("version", put("version", value=2), "version 2"),
        ("format", put("format", value="tar"), "no archive of an agent"),
        ("escape", put("agent", "id", value="\x1b[2J"), "damaged"),
        ("long", put("agent", "id", value="x" * 300), "damaged"),
        ("number", put("agent", "num_tokens", value=3), "not those of its agent"),
        ("negative", put("agent", "num_turns", value=-1), "damaged"),
        ("infinite", put("agent", "last_active_time", value=float("inf")), "damaged"),
        ("nested", put("agent", "last_turn", value={"a": {"b": 1}}), "damaged"),
        ("tail", put("agent", "tail_token_ids", value=[1, 2]), "not those of its agent"),
        ("path", put("blocks", value=["../../etc/passwd"]), "damaged"),
        ("none", put("blocks", value=[]), "damaged"),
        ("repeat", repeat, "damaged"),
        ("drop", drop, "damaged"),
        ("namespace", put("agent", "namespace", value="bob"), "do not follow each other"),
    ]


@pytest.mark.parametrize(
    ("change", "words"), [pytest.param(c, w, id=n) for n, c, w in body_changes()]
)
def test_a_lie_in_agent_json_is_refused_though_all_checksums_fit(
    fresh: Setup,
    tmp_path: Path,
    records: list[BlockRecord],
    change: Callable[[dict[str, object]], None],
    words: str,
) -> None:
    class Lying(ArchivedAgent):
        def encode(self) -> bytes:
            body = json.loads(super().encode())
            change(body)
            return json.dumps(body).encode()

    lying = Lying(record=agent("repo-a", records), space=SPACE)
    parts = archive_parts(lying, records)
    path = tmp_path / "a"
    path.write_bytes(b"".join(bytes(buffer) for part in parts for buffer in part))
    refused(fresh, path, words)


def test_blocks_in_another_order_or_of_another_agent_are_refused(
    fresh: Setup, tmp_path: Path, records: list[BlockRecord]
) -> None:
    other = chain(3, seed=5)
    path = tmp_path / "a"
    for blocks in (
        [records[1], records[0], *records[2:]],
        [*records[:2], records[1], *records[3:]],
        [*records[:1], other[1], *records[2:]],
        records[:-1],
        [*records, other[0]],
    ):
        parts = archive_parts(ArchivedAgent(record=agent("repo-a", records), space=SPACE), blocks)
        path.write_bytes(b"".join(bytes(buffer) for part in parts for buffer in part))
        refused(fresh, path)


def test_a_chain_must_start_at_its_beginning(fresh: Setup, tmp_path: Path) -> None:
    """Blocks from the middle of a conversation hold KV of other positions."""
    middle = chain(3)[1:]
    path = tmp_path / "a"
    path.write_bytes(content_of(middle))
    refused(fresh, path, "do not follow each other")


@pytest.mark.parametrize("num_bytes", [1 << 33, 8**11 - 1])
def test_a_header_that_promises_gigabytes_takes_no_memory(
    fresh: Setup, tmp_path: Path, num_bytes: int
) -> None:
    path = tmp_path / "a"
    path.write_bytes(member_header("agent.json", num_bytes % 8**11) + bytes(1024))
    refused(fresh, path)


@pytest.mark.parametrize("name", ["../../agent.json", "/etc/passwd", "blocks/x.safetensors"])
def test_no_name_in_a_file_is_followed(
    fresh: Setup, tmp_path: Path, archive: Path, name: str
) -> None:
    content = archive.read_bytes()
    archive.write_bytes(member_header(name, 3) + content[512:])
    refused(fresh, archive, "no archive of an agent")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "absent"])
def test_what_is_no_file_is_refused_at_once(
    fresh: Setup, tmp_path: Path, archive: Path, kind: str
) -> None:
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(archive)
    refused(fresh, path)


def test_what_exceeds_the_budget_is_refused(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.cache.disk.archives.OVERHEAD_BYTES", 0)
    small = DiskTier(tmp_path / "small", SPACE, DiskLimits(budget_bytes=20_000), Events())
    small.open()
    with pytest.raises(ArchiveError, match="raise kv_disk_bytes"):
        small.archives.take_in(archive)
    small.close(1.0)


def test_more_than_may_wait_is_taken_in_all_the_same(
    tmp_path: Path, archive: Path, records: list[BlockRecord]
) -> None:
    limits = replace(LIMITS, max_pending_bytes=1)
    narrow = Setup(tmp_path / "narrow", limits)
    narrow.tier.open()
    taken = narrow.tier.archives.take_in(archive)
    assert narrow.save(taken) == taken
    narrow.tier.close(1.0)


def test_a_closed_tier_takes_nothing(tmp_path: Path, archive: Path) -> None:
    closed = Setup(tmp_path / "closed", LIMITS)
    closed.tier.open()
    closed.tier.close(1.0)
    with pytest.raises(NoDiskTierError, match="closed"):
        closed.tier.archives.take_in(archive)


def test_a_turn_that_does_not_end_where_it_says_is_left_out(setup: Setup, tmp_path: Path) -> None:
    """A fork there would take the third block for the second one."""
    records = chain(4)
    setup.write(records)
    sound = _mark(1, records, 512 + 30)
    lies = (
        replace(sound, num_tokens=256 + 30),
        replace(sound, last_hash=records[2].block_hash),
        replace(sound, num_tokens=512 + 31),
        replace(sound, end_hash=b"\2" * 32),
        replace(sound, has_checkpoint=True),
        replace(sound, num_tokens=1 << 40),
        replace(sound, miss="\x1b[2J"),
    )
    record = replace(agent("a", records), turns=(*lies, sound))
    setup.tier.archives.write(record, tmp_path / "a")
    assert setup.tier.archives.take_in(tmp_path / "a").turns == (sound,)
