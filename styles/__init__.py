"""How Stoker looks: visual tokens, themes and style sheets."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""Where the style sheets lie, in a checkout and in an installed package."""
