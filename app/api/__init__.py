"""The HTTP API: one router per protocol, in its own thread."""
