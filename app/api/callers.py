"""Who calls: the key that was sent, and what it opens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from app.api.errors import UnauthorizedError
from app.api.settings import ApiSettings


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request.

    Attributes:
        namespace: Whose agents and caches exist for it; see ``engine.request.Request``.
        is_operator: Whether it may see the engine as a whole, and so everybody's agents.
    """

    namespace: str = ""
    is_operator: bool = False


OPERATOR = Caller(is_operator=True)


class Callers:
    """Everybody who may call, by key."""

    def __init__(self, settings: ApiSettings) -> None:
        """Takes the keys; without any, everybody is the operator.

        Only digests are kept, all of one length: comparing tells nothing about a key's length.
        """
        named = [(key.secret, Caller(key.name)) for key in settings.api_keys]
        simple = [(settings.api_key, OPERATOR)] if settings.api_key else []
        self._callers = [(_digest(secret.encode()), caller) for secret, caller in [*simple, *named]]

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """Whoever sent these headers.

        Raises:
            UnauthorizedError: The key is missing or wrong.
        """
        if not self._callers:
            return OPERATOR
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        # Header values were decoded as latin-1; this gives the bytes back as they were sent.
        sent = [_digest(key.encode("latin-1")) for key in (headers.get("x-api-key", ""), bearer)]
        # All are compared in full, so that the time tells nothing about any of them.
        found = [
            caller
            for key in sent
            for secret, caller in self._callers
            if hmac.compare_digest(key, secret)
        ]
        if not found:
            raise UnauthorizedError("send the API key as x-api-key or as Authorization: Bearer")
        return found[0]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
