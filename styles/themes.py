"""Stoker's own themes."""

from __future__ import annotations

from textual.theme import Theme

from styles import theme_names

DARK = Theme(
    name=theme_names.DARK,
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
    name=theme_names.LIGHT,
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

COLOUR_BLIND = Theme(
    name=theme_names.COLOUR_BLIND,
    primary="#56b4e9",
    secondary="#cc79a7",
    warning="#f0e442",
    error="#f26b21",
    success="#1fc490",
    accent="#e69f00",
    foreground="#dcdfe4",
    background="#101216",
    surface="#14171c",
    panel="#1c2027",
    dark=True,
    variables={
        **DARK.variables,
        "border": "#e69f00",
        "footer-key-foreground": "#e69f00",
        "scrollbar-active": "#e69f00",
    },
)
"""The palette of Okabe and Ito, lightened for a dark ground: its colours differ in lightness and in
blue, so that people who cannot tell red from green can tell them apart."""

ANSI = Theme(
    name=theme_names.ANSI,
    ansi=True,
    primary="ansi_blue",
    secondary="ansi_magenta",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    accent="ansi_cyan",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    variables={
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
        "border": "ansi_cyan",
        "border-blurred": "ansi_bright_black",
        "footer-key-foreground": "ansi_cyan",
        "block-cursor-background": "ansi_bright_black",
        "block-cursor-foreground": "ansi_default",
        "block-cursor-text-style": "reverse",
        "input-cursor-background": "ansi_white",
        "input-cursor-foreground": "ansi_black",
        "input-selection-background": "ansi_blue",
        "input-selection-foreground": "ansi_white",
        "screen-selection-background": "ansi_blue",
        "screen-selection-foreground": "ansi_white",
    },
)
"""The sixteen colours that the terminal itself is set to."""

THEMES = (DARK, LIGHT, COLOUR_BLIND, ANSI)
