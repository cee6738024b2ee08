"""What a request's body may be: its type, and its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.api.errors import BodyTooLargeError, UnsupportedMediaTypeError
from app.api.telemetry import Message, Receive


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of one kind of routes.

    A type that a web page cannot send without asking first is required of every body, so pages of
    others cannot post.

    Attributes:
        media_type: What the content type must be.
        limit_bytes: The longest body.
    """

    media_type: str
    limit_bytes: int

    def check(self, headers: Mapping[str, str], method: str) -> None:
        """Refuses a request by what its headers say of its body.

        Raises:
            UnsupportedMediaTypeError: The body is of another type.
            BodyTooLargeError: It is too long.
        """
        length = headers.get("content-length", "0")
        has_body = length != "0" or "transfer-encoding" in headers
        content_type = headers.get("content-type", "")
        if method in ("POST", "PUT", "PATCH") and (content_type or has_body):
            self._check_type(content_type)
        if length.isdecimal() and int(length) > self.limit_bytes:
            raise BodyTooLargeError(self.limit_bytes)

    def _check_type(self, content_type: str) -> None:
        if content_type.partition(";")[0].strip().lower() != self.media_type:
            raise UnsupportedMediaTypeError(f"the content type must be {self.media_type}")

    def limited(self, receive: Receive) -> Receive:
        """The same stream of messages, which fails where the body gets too long."""
        num_bytes = 0

        async def receive_limited() -> Message:
            nonlocal num_bytes
            message = await receive()
            if message["type"] == "http.request":
                num_bytes += len(message.get("body", b""))
                if num_bytes > self.limit_bytes:
                    raise BodyTooLargeError(self.limit_bytes)
            return message

        return receive_limited
