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
_CLASSIFIER = "License :: "


def licence_of(name: str) -> str:
    """A package's licence, in its own words.

    Raises:
        PackageNotFoundError: It is not installed here.
    """
    metadata = importlib.metadata.metadata(name)
    if expressions := metadata.get_all("License-Expression"):
        return str(expressions[0])
    classifiers = [
        value.rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or ()
        if value.startswith(_CLASSIFIER) and value != "License :: OSI Approved"
    ]
    if classifiers:
        return " AND ".join(classifiers)
    texts = metadata.get_all("License") or [""]
    lines = str(texts[0]).strip().splitlines()
    return lines[0] if lines else ""


def is_permissive(licence: str) -> bool:
    """Whether one may do with the package what Stoker does, without giving anything back."""
    offers = re.split(r"\s+OR\s+", licence)
    return any(PERMISSIVE.search(offer) and not COPYLEFT.search(offer) for offer in offers)
