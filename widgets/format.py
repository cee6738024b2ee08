"""Numbers and outside text as short, stable-width text for the screen. Pure functions."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import datetime, tzinfo

from rich.cells import cell_len, set_cell_size

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_STACKED_MARKS = 2
_UUID = re.compile(
    r"(?<![0-9A-Za-z])([0-9A-Fa-f]{8})(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
)
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


def short_count(count: int) -> str:
    """A count in at most 4 characters: 940, 5.1K, 118K, 1.2M."""
    return _short(count, 1000, ("", "K", "M", "G", "T"))


def context_limit(num_tokens: int) -> str:
    """A context limit as people say it: 8K for 8192, 128K for 131072, else as a count."""
    if num_tokens and num_tokens % 1024 == 0:
        return f"{num_tokens // 1024}K"
    return short_count(num_tokens)


def short_bytes(num_bytes: int) -> str:
    """Bytes in decimal units, at most 4 characters: 940B, 5.1K, 118M, 17G."""
    if num_bytes < 1000:
        return f"{num_bytes}B" if num_bytes else "0"
    return _short(num_bytes, 1000, ("", "K", "M", "G", "T"))


def _short(value: float, base: int, units: tuple[str, ...]) -> str:
    unit = 0
    while value >= base and unit < len(units) - 1:
        value /= base
        unit += 1
    if round(value) >= base and unit < len(units) - 1:
        value /= base
        unit += 1
    if unit == 0:
        return f"{value:.0f}"
    digits = 1 if value < 9.95 else 0
    return f"{value:.{digits}f}{units[unit]}"


def seconds(value: float | None) -> str:
    """Seconds with the digits that matter: 0.18s, 1.4s, 38s, 4m, 2h; - for None."""
    if value is None or not math.isfinite(value):
        return "-"
    if value < 0.995:
        return f"{value:.2f}s"
    if value < 9.95:
        return f"{value:.1f}s"
    return duration(value)


def duration(value_s: float) -> str:
    """A span of time, at most two units: 38s, 4m, 2h14m, 3d4h."""
    whole = int(value_s)
    if whole < 60:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes}m"
    if hours < 24:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{days}d{hours % 24}h"


def percent(ratio: float | None) -> str:
    """A ratio as whole percent; 100% only when it is whole; - for None."""
    if ratio is None:
        return "-"
    return f"{min(99, round(ratio * 100)) if ratio < 1 else 100}%"


def rate(tok_s: float) -> str:
    """Tokens per second: 11.2, 412; - for none."""
    if tok_s <= 0:
        return "-"
    return f"{tok_s:.1f}" if tok_s < 99.95 else f"{tok_s:.0f}"


def clock_time(time_s: float, zone: tzinfo | None) -> str:
    """Wall-clock time of day, in ``zone`` or the machine's own."""
    return datetime.fromtimestamp(time_s, zone).strftime("%H:%M:%S")


def short_ids(text: str) -> str:
    """Text whose UUIDs are cut to their first eight digits, as people do."""
    return _UUID.sub(r"\1", text)


def clean(text: str) -> str:
    """Text from outside, made fit for one line of a screen.

    Control and format characters (escapes, line ends, direction overrides) and unassigned code
    points become a replacement mark; more than two combining marks in a row are dropped.
    """
    cleaned: list[str] = []
    num_marks = 0
    for char in unicodedata.normalize("NFC", text):
        category = unicodedata.category(char)
        is_mark = category in ("Mn", "Me")
        num_marks = num_marks + 1 if is_mark else 0
        if num_marks > MAX_STACKED_MARKS or ord(char) in _VARIATION_SELECTORS:
            continue
        is_unfit = category[0] == "C" or category in ("Zl", "Zp")
        cleaned.append(REPLACEMENT if is_unfit else char)
    return "".join(cleaned)


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """Outside text cleaned and cut or padded to exactly ``width`` cells."""
    text = clean(text)
    if cell_len(text) > width:
        text = set_cell_size(text, max(0, width - 1)).rstrip() + ellipsis
    return set_cell_size(text, width)


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """Outside text cleaned and cut to at most ``width`` cells, not padded."""
    return fit(text, width, ellipsis).rstrip()
