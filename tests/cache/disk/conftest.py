"""What the tests of the disk tier share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache.disk.tier_setup import LIMITS, Setup


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    """An open, empty tier."""
    setup = Setup(tmp_path / "home", LIMITS)
    assert setup.tier.open() == ()
    yield setup
    setup.tier.close(flush_s=5.0)
