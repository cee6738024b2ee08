"""What the container, or the control group, allows this process to use of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
_LIMITS_V2 = ("memory.max", "memory.high")
_LIMIT_V1 = "memory.limit_in_bytes"
_UNLIMITED_BYTES = 1 << 60
"""Version 1 says "no limit" with the largest number of pages there is."""


def memory_limit_bytes(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> int | None:
    """The smallest memory limit of this process's groups and of all groups around them.

    Both versions of control groups are read. Inside a container its own group is the root.

    Args:
        root: Where control groups are mounted.
        own_groups: The kernel's list of the groups that this process is in.

    Returns:
        Bytes; None where nothing is limited or nothing can be read.
    """
    limits = [_read(path) for path in _limit_files(root, own_groups)]
    return min((limit for limit in limits if limit), default=None)


def _limit_files(root: Path, own_groups: Path) -> Iterator[Path]:
    for controllers, group in _groups(own_groups):
        if not controllers:
            for folder in _upwards(root, group):
                yield from (folder / name for name in _LIMITS_V2)
        elif "memory" in controllers:
            for folder in _upwards(root / "memory", group):
                yield folder / _LIMIT_V1


def _groups(own_groups: Path) -> Iterator[tuple[list[str], str]]:
    """The controllers (none in version 2) and the path of each group."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        yield [name for name in controllers.split(",") if name], group


def _upwards(root: Path, group: str) -> Iterator[Path]:
    """A group's folder and those of the groups around it, up to the root."""
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    for length in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:length])


def _read(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _UNLIMITED_BYTES else None
