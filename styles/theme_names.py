"""What the themes are called; apart from the themes, which are Textual's to import."""

from __future__ import annotations

DARK = "stoker"
LIGHT = "stoker-light"
COLOUR_BLIND = "stoker-colour-blind"
ANSI = "stoker-ansi"

THEME_WORDS = {
    DARK: "dark",
    LIGHT: "light",
    COLOUR_BLIND: "dark, without red against green",
    ANSI: "the terminal's own sixteen colours",
}
"""What each theme is, in a few words."""
