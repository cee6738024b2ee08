"""Results of self-tests, kept so that a model is tested once and not at every load."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine.models.folder import write_whole

FOLDER_NAME = "self-tests"
_PACKAGES = ("mlx", "mlx-lm", "numpy")
"""What a result depends on beside this program."""
_TESTED_FOLDERS = ("runtime", "cache")
"""Parts of the engine that the self-test runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedTest:
    """A self-test that found nothing wrong.

    Attributes:
        restores: Whether the cache may be cut and restored; False where its kind does not allow it.
        splits_attention: Whether attention runs sequence by sequence within a batch.
        reasons: What it costs, in words.
    """

    restores: bool
    splits_attention: bool
    reasons: tuple[str, ...]


class SelfTestRecords:
    """The results of one model, one for each way of running it.

    Only a test that passed is kept. One that failed may have failed for want of memory, and is
    worth trying again. All are forgotten when the program or what it computes with has changed.
    """

    def __init__(self, cache_dir: Path, fingerprint: str) -> None:
        """Names the file; nothing is read yet.

        Args:
            cache_dir: Where things that can be made again are kept.
            fingerprint: The model's.
        """
        self._path = cache_dir / FOLDER_NAME / f"{fingerprint}.json"

    def find(self, setting: Iterable[str]) -> PassedTest | None:
        """The result that is on record; None where the model has to be tested.

        Args:
            setting: How the model is run: device, fast paths, types.
        """
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return _result(self._read()[_key(setting)])
        return None

    def keep(self, setting: Iterable[str], passed: PassedTest) -> None:
        """Puts a result on record. Where it cannot be written, the next load tests again.

        Args:
            setting: How the model was run.
            passed: What was found.
        """
        version = engine_version()
        if not version:
            return
        results = {**self._read(), _key(setting): asdict(passed)}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fields = {"engine": version, "results": results}
            write_whole(self._path, json.dumps(fields, indent=1) + "\n")

    def _read(self) -> dict[str, Any]:
        """What is on record from this version of the engine."""
        try:
            fields = json.loads(self._path.read_text("utf-8"))
            is_current = fields["engine"] == engine_version() != ""
            return dict(fields["results"]) if is_current else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}  # nothing is lost: the model is tested


@cache
def engine_version() -> str:
    """Tells versions of what the self-test runs apart; empty where that cannot be told.

    The code itself is looked at, for a number would stay the same while it is worked on.
    """
    engine = Path(__file__).parent.parent
    try:
        sources = [p for name in _TESTED_FOLDERS for p in sorted((engine / name).rglob("*.py"))]
        digest = hashlib.sha256()
        for source in sources:
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        versions = [importlib.metadata.version(name) for name in _PACKAGES]
    except (OSError, importlib.metadata.PackageNotFoundError):
        return ""
    return f"{digest.hexdigest()} {' '.join(versions)}" if sources else ""


def _key(setting: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(setting)).encode()).hexdigest()


def _result(fields: dict[str, Any]) -> PassedTest:
    """A result as it was written.

    Raises:
        ValueError: It is damaged.
    """
    passed = PassedTest(
        restores=fields["restores"],
        splits_attention=fields["splits_attention"],
        reasons=tuple(fields["reasons"]),
    )
    flags = (passed.restores, passed.splits_attention)
    if not all(isinstance(flag, bool) for flag in flags):
        raise ValueError("not a flag")
    if not all(isinstance(reason, str) for reason in passed.reasons):
        raise ValueError("not a reason")
    return passed
