"""No key, token or private file is in the tree."""

from __future__ import annotations

import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = {
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "cloud key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "code host token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|glpat-[\w-]{20})\b"),
    "model hub token": re.compile(r"\bhf_[A-Za-z0-9]{34}\b"),
    "API key": re.compile(r"\bsk-(?:ant-|proj-)?[\w-]{32,}\b"),
    "chat token": re.compile(r"\bxox[abprs]-[\w-]{10,}\b"),
    "signed token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}\b"),
}
ASSIGNED = re.compile(
    r"(?:api_?key|secret|token|passw(?:or)?d)[\"']?\s*[:=]\s*[\"']([\w+/=.-]{20,})[\"']",
    re.IGNORECASE,
)
MIN_BITS = 3.8
"""A character's surprise, above which an assigned value looks drawn and not written."""
HOME = re.compile(r"(?:/home|/Users)/(?!me\b|you\b|user\b|name\b|dev\b)[a-z][\w.-]+/")


def texts() -> Iterator[tuple[str, str]]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    for name in listing.stdout.decode().split("\0"):
        file = ROOT / name
        if name and file.is_file() and not name.endswith((".lock", ".png", ".gif")):
            yield name, file.read_text("utf-8", errors="replace")


def bits_per_character(text: str) -> float:
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def findings(text: str) -> list[str]:
    found = [kind for kind, pattern in KINDS.items() if pattern.search(text)]
    values = (match[1] for match in ASSIGNED.finditer(text))
    return found + ["assigned secret" for value in values if bits_per_character(value) > MIN_BITS]


def test_nothing_in_the_tree_looks_like_a_secret() -> None:
    found = {name: kinds for name, text in texts() if (kinds := findings(text))}
    assert found == {}


def test_no_file_names_somebodys_home() -> None:
    found = {name: match[0] for name, text in texts() if (match := HOME.search(text))}
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a1B2" * 9,
        "hf_" + "a1" * 17,
        "sk-ant-" + "a1B2" * 10,
        "api_key = " + '"9fK2mQ7xZp4LrT8vWc3Yn6"',
    ],
)
def test_secrets_are_found_out(text: str) -> None:
    assert findings(text)


def test_words_are_no_secrets() -> None:
    assert findings('api_key = "test-key-for-the-operator-only"') == []
