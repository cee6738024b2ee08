"""Snapshots in a file, written while an engine runs and played again later."""
