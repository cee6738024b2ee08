"""What was measured of KV formats is kept per model and text, and believed only when whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cache.quantisation import KVQuantisation
from engine.kv_quality import (
    FOLDER_NAME,
    KVQualities,
    KVQuality,
    known_change,
    quality_words,
    save_qualities,
)

FOUR_BIT = KVQuantisation(4, 64)


def qualities(text: str = "a", **perplexities: float) -> KVQualities:
    return KVQualities(
        text, {key: KVQuality(value, 100, 2.5) for key, value in perplexities.items()}
    )


def test_a_format_is_compared_with_the_lossless_one(tmp_path: Path) -> None:
    save_qualities(tmp_path, "model", qualities(lossless=20.0, q4g64=21.0))

    assert known_change(tmp_path, "model", FOUR_BIT) == pytest.approx(0.05)
    assert known_change(tmp_path, "model", KVQuantisation(4, 32)) is None
    assert known_change(tmp_path, "another", FOUR_BIT) is None


def test_a_later_measurement_adds_to_an_earlier_one(tmp_path: Path) -> None:
    save_qualities(tmp_path, "model", qualities(lossless=20.0, q4g64=21.0))
    save_qualities(tmp_path, "model", qualities(lossless=20.0, q8g64=20.1))

    assert known_change(tmp_path, "model", FOUR_BIT) == pytest.approx(0.05)
    assert known_change(tmp_path, "model", KVQuantisation(8, 64)) == pytest.approx(0.005)


def test_another_text_is_no_comparison(tmp_path: Path) -> None:
    save_qualities(tmp_path, "model", qualities("a", lossless=20.0, q4g64=21.0))
    save_qualities(tmp_path, "model", qualities("b", lossless=30.0))

    assert known_change(tmp_path, "model", FOUR_BIT) is None


@pytest.mark.parametrize(
    "content", ["", "[]", '{"version": 2}', '{"version": 1, "formats": {"x": 1}}']
)
def test_a_damaged_file_is_the_same_as_none(tmp_path: Path, content: str) -> None:
    save_qualities(tmp_path, "model", qualities(lossless=20.0, q4g64=21.0))
    [path] = (tmp_path / FOLDER_NAME).iterdir()
    path.write_text(content)

    assert known_change(tmp_path, "model", FOUR_BIT) is None
    save_qualities(tmp_path, "model", qualities(lossless=20.0, q4g64=20.0))
    assert known_change(tmp_path, "model", FOUR_BIT) == 0.0


def test_words() -> None:
    assert quality_words(FOUR_BIT, 0.0123) == "4 bit, group 64, +1.2 % perplexity"
    assert quality_words(FOUR_BIT, None).endswith("not measured: run `stoker bench kv`")
    assert quality_words(None, None) == "lossless"
