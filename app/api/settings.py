"""What the HTTP API is told when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.api_keys import ApiKey
from app.model_aliases import ModelAlias

DEFAULT_PORT = 8000
DEFAULT_BODY_LIMIT_BYTES = 32 * 1024 * 1024
DEFAULT_TRANSFER_LIMIT_BYTES = 20_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Settings of the HTTP API.

    Attributes:
        host: Address to bind.
        port: Port to bind; 0 lets the system choose one.
        api_key: Key that clients must send, the operator's; None lets everybody in where there
            are no named keys either.
        api_keys: Keys of others, each with caches of its own.
        allowed_hosts: Host names accepted in the ``Host`` header beside the loopback names and
            ``host``; ``*`` accepts any.
        aliases: Other names for models.
        models_dir: The folder of converted models; with it, clients are told of every model that
            is here.
        unknown_model: What to do with a model name that is not here: ``active`` serves it with
            the active model and says so, ``reject`` answers 404.
        body_limit_bytes: Longest request body.
        body_timeout_s: Seconds that a request body may take to arrive; of an agent's file, each
            piece of it.
        head_timeout_s: Seconds that the head of a request may take to arrive.
        rate_limit_per_minute: Requests that each key may send in a minute; 0 for any number.
        request_timeout_s: Seconds after which a turn is ended; 0 for never.
        max_connections: Connections that may be open at once.
        max_requests: Requests that may be in progress at once.
        transfer_folder: Where agents' files lie while they go out or come in; None lets none.
        transfer_limit_bytes: Longest file of an agent that is taken in.
        max_stored_responses: Responses that later requests may go on from.
        max_stored_response_bytes: Bytes of their texts.
        max_conversations: Agents whose conversations are kept here.
        max_conversation_bytes: Bytes of all of them.
        ping_s: Seconds of silence after which a stream sends a ping.
        swap_wait_s: Seconds that a request waits while the model changes.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_key: str | None = None
    api_keys: tuple[ApiKey, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    aliases: tuple[ModelAlias, ...] = ()
    models_dir: Path | None = None
    unknown_model: Literal["active", "reject"] = "active"
    body_limit_bytes: int = DEFAULT_BODY_LIMIT_BYTES
    body_timeout_s: float = 60.0
    head_timeout_s: float = 20.0
    rate_limit_per_minute: int = 0
    request_timeout_s: float = 0.0
    max_connections: int = 1000
    max_requests: int = 512
    transfer_folder: Path | None = None
    transfer_limit_bytes: int = DEFAULT_TRANSFER_LIMIT_BYTES
    max_stored_responses: int = 1000
    max_stored_response_bytes: int = 64 * 1024 * 1024
    max_conversations: int = 1000
    max_conversation_bytes: int = 64 * 1024 * 1024
    ping_s: float = 10.0
    swap_wait_s: float = 60.0
