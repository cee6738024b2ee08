"""What the commands say on a terminal. Text from outside cannot steer it."""

from __future__ import annotations

import sys

from app.logs import printable


def complain(message: str) -> None:
    """Says what went wrong, in one line on standard error."""
    sys.stderr.write(f"stoker: {printable(' '.join(message.split()))}\n")
    sys.stderr.flush()


def tell(text: str) -> None:
    """Says one line on standard output."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def printable_lines(text: str) -> str:
    """Text of several lines whose other control characters are replaced by escapes.

    A model may have been told to write what moves the cursor, or answers in the user's name.
    """
    return "".join(c if c in "\n\t" else printable(c) for c in text)
