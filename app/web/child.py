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
        arguments: The Stoker's address, and ``--theme=``, ``--plain-glyphs`` or ``--readonly``.

    Returns:
        The exit code.
    """
    url, *flags = arguments
    theme = next((flag.partition("=")[2] for flag in flags if flag.startswith("--theme=")), None)
    # Nothing that this process starts needs it.
    key = os.environ.pop(KEY_VARIABLE, None)
    from app.attach import attached_dashboard
    from engine.errors import StokerError

    try:
        app, _ = attached_dashboard(
            url,
            key,
            theme=theme,
            plain_glyphs="--plain-glyphs" in flags,
            is_readonly="--readonly" in flags,
            is_at_terminal=False,
        )
    except StokerError as error:
        sys.stderr.write(f"stoker: {error}\n")
        return 1
    app.run()
    return app.return_code or 0
