"""Panes of the dashboard: a snapshot slice in, a message out."""
