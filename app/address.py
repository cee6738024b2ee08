"""Where a Stoker with these settings is reached from this machine."""

from __future__ import annotations

from app.config import Settings

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def api_url(settings: Settings) -> str:
    """The API's address, without a path; that of the loopback where it listens everywhere."""
    host = _WILDCARDS.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
