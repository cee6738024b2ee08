"""Stoker with a pool of as many blocks as it is told, whether there is memory for them or not.

Usage: ``python -m benchmarks.large_pool_child NUM_BLOCKS ARGUMENTS``, the arguments being those of
``stoker``. Blocks take memory only when they are filled, so the map of a large machine can be drawn
on a small one, with a real engine at work below it.
"""

from __future__ import annotations

import sys

from app.cli import main
from engine.cache.spec import CacheSpec


def enlarge(num_blocks: int) -> None:
    """Makes every pool of this process as large as that."""

    def fixed(self: CacheSpec, budget_bytes: int) -> int:
        return num_blocks

    CacheSpec.num_blocks = fixed  # type: ignore[method-assign]


if __name__ == "__main__":
    enlarge(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
