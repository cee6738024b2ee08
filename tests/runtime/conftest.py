from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.runtime import split_attention


@pytest.fixture(autouse=True)
def whole_attention() -> Iterator[None]:
    """Attention is split in classes that all models of a kind share, for as long as we run."""
    yield
    split_attention.uninstall()
