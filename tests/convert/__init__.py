"""Conversions, from a tiny model of the bundled one's family."""
