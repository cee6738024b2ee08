"""What was measured of a model's KV formats, kept where things lie that can be made again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.cache.quantisation import LOSSLESS_KEY, KVQuantisation, format_key, format_words
from engine.models.folder import write_whole

FOLDER_NAME = "kv-quality"
_VERSION = 1
HOW_TO_MEASURE = "perplexity not measured: run `stoker bench kv`"


@dataclass(frozen=True, slots=True)
class KVQuality:
    """One format of one model, measured.

    Attributes:
        perplexity: Of the text that every format is measured with.
        bytes_per_token: Rows of one token over all full layers.
        agents_per_gib: Agents of 4096 tokens that fit 2**30 bytes, without sharing.
    """

    perplexity: float
    bytes_per_token: int
    agents_per_gib: float


@dataclass(frozen=True, slots=True)
class KVQualities:
    """A model's formats that were measured with one text.

    Attributes:
        text_sha256: The text, in hex.
        formats: By the format's key; ``lossless`` is what the others are compared with.
    """

    text_sha256: str
    formats: Mapping[str, KVQuality]

    def change(self, key: str) -> float | None:
        """How much higher a format's perplexity is than the lossless one, as a share of it."""
        lossless, other = self.formats.get(LOSSLESS_KEY), self.formats.get(key)
        return other.perplexity / lossless.perplexity - 1 if lossless and other else None


def save_qualities(cache_dir: Path, fingerprint: str, measured: KVQualities) -> None:
    """Keeps what was measured of a model, with what was measured before with the same text.

    Args:
        cache_dir: Where things that can be made again are kept.
        fingerprint: The model's.
        measured: Formats; those of the same key take the place of older ones.
    """
    known = load_qualities(cache_dir, fingerprint)
    older = known.formats if known and known.text_sha256 == measured.text_sha256 else {}
    formats = {**older, **measured.formats}
    fields = {
        "version": _VERSION,
        "text_sha256": measured.text_sha256,
        "formats": {key: asdict(quality) for key, quality in formats.items()},
    }
    path = _path(cache_dir, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, json.dumps(fields, indent=1) + "\n")


def load_qualities(cache_dir: Path, fingerprint: str) -> KVQualities | None:
    """What was measured of a model; None if nothing was, or it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        fields = json.loads(_path(cache_dir, fingerprint).read_text("utf-8"))
        formats = {
            str(key): KVQuality(
                float(quality["perplexity"]),
                int(quality["bytes_per_token"]),
                float(quality["agents_per_gib"]),
            )
            for key, quality in fields["formats"].items()
        }
        if fields["version"] == _VERSION:
            return KVQualities(str(fields["text_sha256"]), formats)
    return None


def known_change(
    cache_dir: Path, fingerprint: str, quantisation: KVQuantisation | None
) -> float | None:
    """A format's loss of perplexity as measured here; None where it was not."""
    qualities = load_qualities(cache_dir, fingerprint)
    return qualities.change(format_key(quantisation)) if qualities else None


def quality_words(quantisation: KVQuantisation | None, change: float | None) -> str:
    """A format and what it loses, for people."""
    words = format_words(quantisation)
    if quantisation is None:
        return words
    return f"{words}, {HOW_TO_MEASURE if change is None else change_words(change)}"


def change_words(change: float) -> str:
    """A change of perplexity for people: ``+1.2 % perplexity``."""
    return f"{100 * change:+.1f} % perplexity"


def _path(cache_dir: Path, fingerprint: str) -> Path:
    return cache_dir / FOLDER_NAME / f"{fingerprint}.json"
