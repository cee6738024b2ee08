"""What packages say of their licences."""

from __future__ import annotations

import importlib.metadata
import re

PERMISSIVE = re.compile(
    r"\b(MIT|MIT-0|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|CC0|Zlib|"
    r"MPL-2\.0|Mozilla Public License 2\.0)",
    re.IGNORECASE,
)
"""MPL-2.0 binds files and not what uses them: fine for a library that is installed unchanged."""
COPYLEFT = re.compile(
    r"\b(A?GPL|General Public|SSPL|BUSL|Commons Clause|Proprietary)", re.IGNORECASE
)
KNOWN: dict[str, str] = {}
"""Packages whose metadata says nothing, with what their licence file says."""
_CLASSIFIER = "License :: "


def licence_of(name: str) -> str:
    """A package's licence, in its own words.

    Raises:
        PackageNotFoundError: It is not installed here.
    """
    if name in KNOWN:
        return KNOWN[name]
    metadata = importlib.metadata.metadata(name)
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or ()
        if value.startswith(_CLASSIFIER) and value != "License :: OSI Approved"
    ]
    if classifiers:
        return " AND ".join(classifiers)
    lines = (metadata.get("License") or "").strip().splitlines()
    return lines[0] if lines else ""


def is_permissive(licence: str) -> bool:
    """Whether one may do with the package what Stoker does, without giving anything back."""
    offers = re.split(r"\s+OR\s+", licence)
    return any(PERMISSIVE.search(offer) and not COPYLEFT.search(offer) for offer in offers)
