"""Reads files of folders that others made: plain files only, so much and no more."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import ModelLoadError

MAX_JSON_BYTES = 8 * 2**20


def open_plain(path: Path, root: Path | None) -> BinaryIO:
    """Opens a file that is no device, pipe or folder.

    Args:
        path: The file; may be a link.
        root: Where links must stay, itself resolved; None where they may lead anywhere.

    Raises:
        FileNotFoundError: There is none.
        ModelLoadError: It is something else, or lies elsewhere.
        OSError: It cannot be read.
    """
    target = path.resolve()
    if root is not None and not target.is_relative_to(root):
        raise ModelLoadError(f"{path.name} is a link that leads out of {root}")
    # A pipe would wait for a writer; a link may have changed since it was resolved.
    descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelLoadError(f"{path.name} is not a plain file")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, root: Path | None) -> bytes:
    """The bytes of a small plain file.

    Args:
        path: The file.
        root: As for ``open_plain``.

    Raises:
        FileNotFoundError: There is none.
        ModelLoadError: It is no plain file, lies elsewhere, or is too big for what it should be.
        OSError: It cannot be read.
    """
    with open_plain(path, root) as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ModelLoadError(f"{path.name} is larger than {MAX_JSON_BYTES} bytes")
    return data


def read_object(path: Path, root: Path | None) -> dict[str, Any]:
    """The JSON object in a small plain file.

    Args:
        path: The file.
        root: As for ``open_plain``.

    Raises:
        FileNotFoundError: There is none.
        ModelLoadError: It holds no JSON object, or is not to be read; the message names it.
        OSError: It cannot be read.
    """
    try:
        fields = json.loads(read_bounded(path, root))
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path.name} is damaged: not JSON") from error
    if not isinstance(fields, dict):
        raise ModelLoadError(f"{path.name} is damaged: not an object")
    return fields
