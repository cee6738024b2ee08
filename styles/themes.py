"""Stoker's own themes, dark and light."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="stoker",
    primary="#6cb2f7",
    secondary="#b494f0",
    warning="#eac566",
    error="#ff6b6b",
    success="#7cd992",
    accent="#ff9f52",
    foreground="#dcdfe4",
    background="#101216",
    surface="#14171c",
    panel="#1c2027",
    dark=True,
    variables={
        "border": "#ff9f52",
        "border-blurred": "#2b313b",
        "footer-key-foreground": "#ff9f52",
        "input-selection-background": "#6cb2f7 35%",
        "block-cursor-background": "#262c36",
        "block-cursor-foreground": "#dcdfe4",
        "block-cursor-text-style": "none",
        "scrollbar": "#2b313b",
        "scrollbar-hover": "#3a424f",
        "scrollbar-active": "#ff9f52",
        "scrollbar-background": "#101216",
        "scrollbar-background-hover": "#101216",
        "scrollbar-background-active": "#101216",
        "scrollbar-corner-color": "#101216",
    },
)

LIGHT = Theme(
    name="stoker-light",
    primary="#1a66b8",
    secondary="#6f42c1",
    warning="#8a6100",
    error="#c62828",
    success="#1f7a38",
    accent="#b9540a",
    foreground="#1f2328",
    background="#fbfaf8",
    surface="#f5f3ef",
    panel="#eae7e1",
    dark=False,
    variables={
        "border": "#b9540a",
        "border-blurred": "#d3cec5",
        "footer-key-foreground": "#b9540a",
        "block-cursor-background": "#e4dfd6",
        "block-cursor-foreground": "#1f2328",
        "block-cursor-text-style": "none",
        "scrollbar": "#d3cec5",
        "scrollbar-background": "#fbfaf8",
        "scrollbar-corner-color": "#fbfaf8",
    },
)

THEMES = (DARK, LIGHT)
