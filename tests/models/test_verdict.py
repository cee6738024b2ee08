"""Verdicts: what passes, what does not and why, and how they are kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.models.verdict import VERDICT_NAME, Verdict, read_verdict, write_verdict

GOOD = Verdict(
    source="org/model",
    num_bits=8,
    text_sha256="ab" * 32,
    num_tokens=1024,
    source_perplexity=20.0,
    perplexity=20.1,
    max_logit_error=0.5,
    greedy_agreement=0.97,
    source_variety=0.9,
    variety=0.9,
)


def test_what_is_close_to_its_source_passes() -> None:
    assert GOOD.passes
    assert GOOD.words == "perplexity +0.5%, 97% of greedy tokens agree, logits within 0.5"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"perplexity": 23.2}, "perplexity is 16% higher"),
        ({"greedy_agreement": 0.7}, "only 70% of greedy tokens agree"),
        ({"variety": 0.4}, "repeats itself"),
        ({"perplexity": math.inf}, "not finite"),
        ({"num_bits": 3}, "3 bits are below 4"),
    ],
)
def test_what_is_not_does_not_and_says_why(changes: dict[str, Any], said: str) -> None:
    verdict = replace(GOOD, **changes)
    assert not verdict.passes
    assert said in "; ".join(verdict.faults)


def test_three_bits_are_unstable_however_good() -> None:
    assert replace(GOOD, num_bits=3).words.startswith("unstable: ")


@pytest.mark.parametrize("verdict", [GOOD, replace(GOOD, perplexity=math.inf)])
def test_a_verdict_comes_back_as_it_was(verdict: Verdict, tmp_path: Path) -> None:
    write_verdict(tmp_path, verdict)
    json.loads((tmp_path / VERDICT_NAME).read_text(), parse_constant=pytest.fail)
    assert read_verdict(tmp_path) == verdict


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_broken_one_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / VERDICT_NAME).write_text(text)
    assert read_verdict(tmp_path) is None
