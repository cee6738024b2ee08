"""Draws the dashboard into files: vectors, pixels and a recording, the same from the same code."""
