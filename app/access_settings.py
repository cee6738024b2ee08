"""Settings of who may talk to the API, from where, and how much."""

from __future__ import annotations

from dataclasses import dataclass

from app.api_keys import ApiKey, parse_api_keys
from app.setting_values import (
    parse_host_names,
    parse_number,
    parse_switch,
    parse_text,
    setting,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Who may talk to the API.

    Attributes:
        host: Address that the API listens on.
        port: Port that the API listens on; 0 lets the system choose.
        api_key: Key that clients must send, the operator's; None lets everybody in where there
            are no named keys either.
        api_key_file: File that holds ``api_key``; empty where it is given otherwise.
        api_keys: Keys of others, each with agents and caches of its own.
        allow_remote: Whether other machines may reach the API.
        allowed_hosts: Names that clients may call this machine by, beside its own.
        rate_limit_per_minute: Requests that each key may send in a minute; 0 for any number.
        request_timeout_s: Seconds after which a turn is ended; 0 for never.
        max_connections: Connections that may be open at once.
        max_requests: Requests that may be in progress at once.
    """

    host: str = setting("127.0.0.1", parse_text, "ADDRESS", "where the API listens")
    port: int = setting(
        8000,
        parse_number(int, 0, 65535),
        "N",
        "port of the API; 0 lets the system choose",
    )
    api_key: str | None = setting(
        None, parse_text, "KEY", "key that clients must send; the operator's", is_secret=True
    )
    api_key_file: str = setting(
        "", parse_text, "PATH", "file that holds api_key; only its owner may be able to read it"
    )
    api_keys: tuple[ApiKey, ...] = setting(
        (),
        parse_api_keys,
        "NAME=KEY,...",
        "keys of others by name, each with agents and caches of its own",
        is_secret=True,
    )
    allow_remote: bool = setting(
        False, parse_switch, "BOOL", "let other machines reach the API; needs an api_key"
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        parse_host_names,
        "NAME,...",
        "names that clients may call this machine by, beside its own; * for any",
    )
    rate_limit_per_minute: int = setting(
        0,
        parse_number(int, 0, 1_000_000),
        "N",
        "requests that each key may send in a minute; 0 for any number",
    )
    request_timeout_s: float = setting(
        0.0,
        parse_number(float, 0, 1_000_000),
        "SECONDS",
        "when a turn is ended, from the arrival of its request; 0 for never",
    )
    max_connections: int = setting(
        1000, parse_number(int, 1, 100_000), "N", "connections that may be open at once"
    )
    max_requests: int = setting(
        512, parse_number(int, 1, 100_000), "N", "requests that may be in progress at once"
    )
