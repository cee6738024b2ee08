"""Screens that look alike at every size."""

from __future__ import annotations

NO_BREAKPOINTS: list[tuple[int, str]] | None = []
"""Spares a screen the second pass over its styles that classes for its size would cost."""
