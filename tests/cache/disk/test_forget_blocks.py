"""Blocks whose content must not be used any more, though their files are sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache.disk.blocks import agent, chain, hashes
from tests.cache.disk.tier_setup import LIMITS, Gate, Setup, until


def files(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.rglob("*.safetensors"))


def test_forgotten_blocks_are_gone_at_once_and_for_good(setup: Setup) -> None:
    records = chain(4)
    setup.write(records)
    names = hashes(records)
    setup.tier.forget_blocks(names[1:3])
    assert [setup.tier.can_read(name) for name in names] == [True, False, False, True]
    assert [setup.tier.has(name) for name in names] == [True, False, False, True]
    until(lambda: files(setup.folder) == sorted(name.hex() for name in (names[0], names[3])))
    assert setup.read(records) == records[:1]


def test_what_follows_goes_with_them_where_it_is_to(setup: Setup) -> None:
    records, branch = chain(4), chain(1, seed=7)
    setup.write([*records, *branch])
    setup.tier.forget_blocks(hashes(records)[1:2], with_followers=True)
    kept = sorted(name.hex() for name in (*hashes(records)[:1], *hashes(branch)))
    until(lambda: files(setup.folder) == kept)


def test_one_that_is_written_again_is_another_one(setup: Setup) -> None:
    records = chain(2)
    setup.write(records)
    setup.tier.forget_blocks(hashes(records))
    for record in records:
        assert setup.tier.write(record)
    assert all(map(setup.tier.can_read, hashes(records)))
    until(lambda: all(map(setup.tier.has, hashes(records))))
    assert setup.read(records) == records


def test_one_that_waits_to_be_written_is_not(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, "sync")
    first, *rest = chain(4)
    for record in (first, *rest):
        assert setup.tier.write(record)
    assert gate.reached.wait(20)
    setup.tier.forget_blocks(hashes((first, *rest)))
    assert not any(map(setup.tier.can_read, hashes((first, *rest))))
    gate.open()
    until(lambda: setup.tier.stats.num_pending == 0)
    setup.save(agent("later", []))
    assert files(setup.folder) == []


def test_a_restart_does_not_bring_them_back(tmp_path: Path) -> None:
    records = chain(3)
    first = Setup(tmp_path, LIMITS)
    first.tier.open()
    first.write(records)
    first.save(agent("repo-a", records))
    first.tier.forget_blocks(hashes(records)[1:])
    assert first.tier.close(5.0)

    second = Setup(tmp_path, LIMITS)
    (record,) = second.tier.open()
    assert record.block_hashes == tuple(hashes(records)[:1])
    assert second.read(records) == records[:1]
    second.tier.close(1.0)


def test_forgetting_what_was_never_there_is_harmless(setup: Setup) -> None:
    setup.tier.forget_blocks([b"x" * 32], with_followers=True)
    setup.write(chain(1))
    assert setup.read(chain(1)) == chain(1)


def test_one_that_is_distrusted_is_set_aside_with_one_event(setup: Setup) -> None:
    records = chain(3)
    setup.write(records)
    name = hashes(records)[1]
    setup.tier.set_aside(name, "it holds something else")
    assert [setup.tier.can_read(name) for name in hashes(records)] == [True, False, True]
    until(lambda: setup.tier.stats.num_quarantined == 1)
    until(lambda: bool(setup.events))
    words = f"{name.hex()[:12]} set aside: it holds something else"
    assert setup.events == [("quarantine", words, "warning")]
    assert [path.name[-76:-12] for path in (setup.folder / "quarantine").iterdir()] == [name.hex()]
    assert setup.read(records) == records[:1]


def test_one_that_is_distrusted_before_it_is_written_is_not(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, "sync")
    first, second = chain(2)
    assert setup.tier.write(first)
    assert setup.tier.write(second)
    assert gate.reached.wait(20)
    setup.tier.set_aside(second.block_hash, "it holds something else")
    assert not setup.tier.can_read(second.block_hash)
    gate.open()
    until(lambda: bool(setup.events))
    assert setup.events.texts("quarantine") == [
        f"{second.block_hash.hex()[:12]} ignored: it holds something else"
    ]
    assert setup.tier.stats.num_quarantined == 1
    assert files(setup.folder) == [first.block_hash.hex()]
