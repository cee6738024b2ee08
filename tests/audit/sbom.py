"""The bill of materials: every package of the lock file, as CycloneDX says it.

Run as a program: ``python -m tests.audit.sbom FILE``.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.version import __version__
from tests.audit.licences import licence_of

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Locked:
    """A package as a lock file names it.

    Attributes:
        name: Its name.
        version: The version that is installed.
        hashes: SHA-256 of each file that it may be installed from.
    """

    name: str
    version: str
    hashes: tuple[str, ...]


def locked(lock: Path) -> Iterator[Locked]:
    """Every package of a lock file."""
    text = lock.read_text("utf-8")
    entries = list(_ENTRY.finditer(text))
    ends = [entry.start() for entry in entries[1:]] + [len(text)]
    for entry, end in zip(entries, ends, strict=True):
        hashes = tuple(_HASH.findall(text, entry.end(), end))
        yield Locked(entry[1].lower(), entry[2], hashes)


def bill(lock: Path) -> dict[str, Any]:
    """A CycloneDX document of a lock file."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": "stoker",
                "version": __version__,
                "licenses": [{"license": {"id": "MIT"}}],
                "bom-ref": f"pkg:pypi/stoker@{__version__}",
            }
        },
        "components": [_component(package) for package in locked(lock)],
    }


def _component(package: Locked) -> dict[str, Any]:
    url = f"pkg:pypi/{package.name}@{package.version}"
    component: dict[str, Any] = {
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": url,
        "bom-ref": url,
        # One of these is the file that was installed; which one depends on the machine.
        "properties": [
            {"name": "stoker:sha256", "value": digest} for digest in sorted(package.hashes)
        ],
    }
    try:
        licence = licence_of(package.name)
    except importlib.metadata.PackageNotFoundError:
        return component  # another machine's, like a GPU's
    return {**component, "licenses": [{"license": {"name": licence}}]}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bill(LOCK), indent=1) + "\n", "utf-8")
