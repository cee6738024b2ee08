"""How often an address may send a wrong key."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address

from app.api.bucket import Bucket
from app.api.errors import WrongKeysError
from app.api.telemetry import Scope

PER_MINUTE = 60
MAX_ADDRESSES = 1024
"""Addresses that are remembered: those that sent a wrong key last."""


class WrongKeys:
    """A bucket for each address that has sent a wrong key.

    Where it is empty, another machine's keys are not looked at any more, so that nobody guesses
    faster than this. On this machine all programs have one address: there a right key is always
    taken, or one program with an old key would lock out all others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody has sent one yet.

        Args:
            clock: Seconds that never go back.
        """
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def check(self, address: str) -> None:
        """Refuses an address of another machine that has sent too many.

        Raises:
            WrongKeysError: It has; says when its next key is looked at.
        """
        bucket = self._buckets.get(address)
        if bucket is not None and not _is_here(address):
            _raise_if(bucket.wait_s(self._clock()))

    def take(self, address: str) -> None:
        """Counts a wrong key.

        Raises:
            WrongKeysError: It was one too many.
        """
        now = self._clock()
        bucket = self._buckets.setdefault(address, Bucket(PER_MINUTE, now))
        self._buckets.move_to_end(address)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        _raise_if(bucket.take(now))


def address_of(scope: Scope) -> str:
    """The address that a request came from; empty where there is none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _raise_if(wait_s: float) -> None:
    if wait_s:
        raise WrongKeysError(wait_s)


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:  # no address: a socket of this machine
        return True
