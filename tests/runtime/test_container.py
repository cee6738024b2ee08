"""What control groups allow, of both versions, in and out of containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.runtime.container import memory_limit_bytes


class Machine:
    """Control groups as the kernel shows them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self._own = folder / "own"
        self.root.mkdir()

    def limit(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def read(self, *groups: str) -> int | None:
        self._own.write_text("\n".join(groups))
        return memory_limit_bytes(self.root, self._own)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_limits_there_is_none(machine: Machine) -> None:
    machine.limit("memory.max", "max")
    machine.limit("memory/memory.limit_in_bytes", "9223372036854771712")
    assert machine.read("0::/", "4:memory:/") is None


def test_a_container_s_own_group_is_the_root(machine: Machine) -> None:
    machine.limit("memory.max", "1000000000")
    assert machine.read("0::/") == 1_000_000_000


def test_the_process_s_own_group_is_found(machine: Machine) -> None:
    machine.limit("memory.max", "max")
    machine.limit("user.slice/stoker.scope/memory.max", "2000")
    assert machine.read("0::/user.slice/stoker.scope") == 2000
    assert machine.read("0::/user.slice/other.scope") is None


def test_the_groups_around_it_count_too(machine: Machine) -> None:
    machine.limit("user.slice/memory.max", "1500")
    machine.limit("user.slice/stoker.scope/memory.max", "2000")
    assert machine.read("0::/user.slice/stoker.scope") == 1500


def test_a_group_that_is_slowed_down_from_some_bytes_on_counts_as_limited(machine: Machine) -> None:
    machine.limit("a/memory.max", "2000")
    machine.limit("a/memory.high", "1800")
    assert machine.read("0::/a") == 1800


def test_version_1_is_read(machine: Machine) -> None:
    machine.limit("memory/job/memory.limit_in_bytes", "3000")
    assert machine.read("5:cpu,cpuacct:/job", "4:memory:/job", "0::/") == 3000


def test_a_group_path_from_outside_the_container_ends_at_its_root(machine: Machine) -> None:
    machine.limit("memory/memory.limit_in_bytes", "4000")
    assert machine.read("4:memory:/docker/0123") == 4000


def test_a_path_cannot_leave_the_root(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("7")
    assert machine.read("0::/../..") is None


def test_without_control_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path / "nowhere", tmp_path / "nothing") is None
