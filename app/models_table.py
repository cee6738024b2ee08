"""Models as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from app.agents_table import table
from engine.models.entry import FIT_TOKENS, ModelEntry
from widgets.format import clean, context_limit, short_bytes, shorten

MAX_NAME_CELLS = 56
_HEADINGS = ("model", "from", "architecture", "size", "bits", "context", "cache/1K", "fits", "")
_RIGHT = (False, False, False, True, True, True, True, False, False)
_FITS = {True: "yes", False: "no", None: "-"}


def models_table(entries: Sequence[ModelEntry]) -> str:
    """The catalogue, a line each; what cannot be loaded says why."""
    return table(_HEADINGS, [_cells(entry) for entry in entries], _RIGHT)


def _cells(entry: ModelEntry) -> tuple[str, ...]:
    return (
        shorten(entry.model_id, MAX_NAME_CELLS),
        entry.origin,
        clean(entry.architecture) or "-",
        short_bytes(entry.size_bytes) if entry.size_bytes else "-",
        str(entry.num_bits or "-"),
        context_limit(entry.max_context_tokens) if entry.max_context_tokens else "-",
        _cache_words(entry),
        _FITS[entry.fits],
        clean(f"cannot be loaded: {entry.refusal}") if entry.refusal else clean(entry.verdict),
    )


def _cache_words(entry: ModelEntry) -> str:
    num_bytes = entry.cache_bytes_per_1k_tokens
    return "-" if num_bytes is None else short_bytes(num_bytes)


def model_text(entry: ModelEntry) -> str:
    """One model, a line for each thing that is known of it."""
    fits = f"{_FITS[entry.fits]}, with {FIT_TOKENS} tokens of context"
    lines = (
        ("model", entry.model_id),
        ("from", entry.origin),
        ("folder", entry.path),
        ("architecture", entry.architecture),
        ("size", f"{short_bytes(entry.size_bytes)} on disk" if entry.size_bytes else ""),
        ("in memory", short_bytes(entry.loaded_bytes) if entry.loaded_bytes else ""),
        ("bits", str(entry.num_bits or "")),
        ("context", f"{entry.max_context_tokens:,} tokens" if entry.max_context_tokens else ""),
        ("KV cache", f"{_cache_words(entry)} per 1024 tokens"),
        ("fits", "not known" if entry.fits is None else fits),
        ("tool calls", entry.tool_format),
        ("reasoning", entry.reasoning_format),
        ("verdict", entry.verdict or "never judged"),
        ("can be loaded", f"no: {entry.refusal}" if entry.refusal else "yes"),
        *((("but", entry.warning),) if entry.warning else ()),
    )
    return "\n".join(f"{name:14} {clean(value) or '-'}" for name, value in lines)
