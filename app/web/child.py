"""The dashboard of one tab: draws for a browser what the Stoker elsewhere shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

KEY_VARIABLE = "STOKER_WEB_KEY"
"""Carries the API key to a tab's process."""


def main(arguments: Sequence[str]) -> int:
    """Runs until the tab is closed or the person quits.

    Args:
        arguments: Address, theme, and ``--readonly`` where nothing may be changed.

    Returns:
        The exit code.
    """
    url, theme, *flags = arguments
    # Nothing that this process starts needs it.
    key = os.environ.pop(KEY_VARIABLE, None)
    from app.attach import attached_dashboard
    from engine.errors import StokerError

    try:
        app, _ = attached_dashboard(url, key, theme=theme, is_readonly="--readonly" in flags)
    except StokerError as error:
        sys.stderr.write(f"stoker: {error}\n")
        return 1
    app.run()
    return app.return_code or 0
