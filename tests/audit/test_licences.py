"""All that the lock files name is under a permissive licence, and comes with its checksums."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from tests.audit.licences import is_permissive, licence_of
from tests.audit.sbom import LOCK, ROOT, bill, locked

LOCKS = sorted(ROOT.glob("requirements*.lock"))


def test_every_lock_file_is_looked_at() -> None:
    assert [lock.name for lock in LOCKS] == [
        "requirements-build.lock",
        "requirements-clients.lock",
        "requirements-dev.lock",
        "requirements-docs.lock",
        "requirements-model.lock",
        "requirements.lock",
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_installed_package_is_permissive(lock: Path) -> None:
    refused = {}
    for package in locked(lock):
        try:
            licence = licence_of(package.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # another machine's, or of another lock file's environment
        if not is_permissive(licence):
            refused[package.name] = licence
    assert refused == {}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_has_its_version_and_checksums(lock: Path) -> None:
    text = lock.read_text("utf-8")
    packages = list(locked(lock))
    assert packages
    assert all(package.hashes for package in packages)
    assert "://" not in text, "a lock file names no host"


def test_what_is_installed_to_run_is_what_the_lock_says() -> None:
    allowed: dict[str, set[str]] = {}
    for package in locked(LOCK):
        # Another Python may take another version.
        allowed.setdefault(package.name, set()).add(package.version)
    there = [
        (each.metadata["Name"].lower(), each.version) for each in importlib.metadata.distributions()
    ]
    wrong = [each for each in there if each[1] not in allowed.get(each[0], {each[1]})]
    assert wrong == []


@pytest.mark.parametrize(
    ("licence", "is_allowed"),
    [
        ("MIT", True),
        ("MIT License AND Apache Software License", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("GNU Affero General Public License v3", False),
        ("MIT AND GPL-2.0-only", False),
        ("", False),
        ("Proprietary", False),
    ],
)
def test_licences_are_told_apart(licence: str, is_allowed: bool) -> None:
    assert is_permissive(licence) is is_allowed


def test_the_bill_names_every_package_once() -> None:
    document = json.loads(json.dumps(bill(LOCK)))
    components = document["components"]
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert [each["name"] for each in components] == [package.name for package in locked(LOCK)]
    assert len({each["purl"] for each in components}) == len(components) > 40
    structlog = next(each for each in components if each["name"] == "structlog")
    assert structlog["purl"] == f"pkg:pypi/structlog@{structlog['version']}"
    assert "Apache" in structlog["licenses"][0]["license"]["name"]
    assert len(structlog["properties"]) == 2
