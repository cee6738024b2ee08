"""What can go wrong when a model is pulled."""

from __future__ import annotations

from engine.errors import InvalidRequestError, StokerError


class PullRefusedError(InvalidRequestError):
    """The model cannot be had as things are; the message says what to change."""


class HubError(StokerError):
    """The hub, or the network on the way to it, fails; pulling again may help."""


class PassingHubError(HubError):
    """A failure that is worth another try.

    Attributes:
        retry_after_s: Seconds that the hub asks to wait; None where it does not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PullStoppedError(StokerError):
    """Somebody stopped it; what came is kept."""
