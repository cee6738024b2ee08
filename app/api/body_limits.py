"""What a request's body may be: its type, and its length."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from app.api.errors import BodyTimeoutError, BodyTooLargeError, UnsupportedMediaTypeError
from app.api.head_limits import is_plain
from app.api.telemetry import Message, Receive


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of one kind of routes.

    A type that a web page cannot send without asking first is required of every body, so pages of
    others cannot post.

    Attributes:
        media_type: What the content type must be.
        limit_bytes: The longest body.
        timeout_s: Seconds that a body may take to arrive.
        is_timed_by_piece: Whether that is meant for each piece of it.
    """

    media_type: str
    limit_bytes: int
    timeout_s: float
    is_timed_by_piece: bool = False

    def check(self, headers: Mapping[str, str], method: str) -> None:
        """Refuses a request by what its headers say of its body.

        Raises:
            UnsupportedMediaTypeError: The body is of another type, or compressed.
            BodyTooLargeError: It is too long.
        """
        length = headers.get("content-length", "0")
        has_body = length != "0" or "transfer-encoding" in headers
        content_type = headers.get("content-type", "")
        if method in ("POST", "PUT", "PATCH") and (content_type or has_body):
            self._check_type(content_type)
        if not is_plain(headers):
            raise UnsupportedMediaTypeError("send the body as it is, without a content-encoding")
        if length.isdecimal() and int(length) > self.limit_bytes:
            raise BodyTooLargeError(self.limit_bytes)

    def _check_type(self, content_type: str) -> None:
        if content_type.partition(";")[0].strip().lower() != self.media_type:
            raise UnsupportedMediaTypeError(f"the content type must be {self.media_type}")

    def limited(self, receive: Receive) -> Receive:
        """The same stream of messages, which fails where the body gets too long or too late."""
        num_bytes = 0
        ends_at = time.monotonic() + self.timeout_s
        is_whole = False

        async def receive_limited() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:  # what comes now is news of the connection, and may take any time
                return await receive()
            wait_s = self.timeout_s if self.is_timed_by_piece else ends_at - time.monotonic()
            try:
                # Not wait_for, which makes a task of each piece.
                async with asyncio.timeout(max(0.0, wait_s)):
                    message = await receive()
            except TimeoutError as error:
                raise BodyTimeoutError(self.timeout_s) from error
            if message["type"] == "http.request":
                num_bytes += len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
                if num_bytes > self.limit_bytes:
                    raise BodyTooLargeError(self.limit_bytes)
            return message

        return receive_limited
