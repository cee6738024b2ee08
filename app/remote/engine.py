"""An engine elsewhere, with the same face as one in this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from app.agents_client import AgentsClient, RefusedError
from app.remote.lanes import Lanes
from app.remote.orders import Order, carry_out
from app.remote.state_feed import NotStokerError, StateFeed
from engine.agent_commands import EvictIdle, ReadAgent
from engine.commands import (
    Abort,
    Command,
    DescribeBlock,
    Generate,
    Note,
    SetBatchWindow,
    Shutdown,
    ToolsCalled,
)
from engine.errors import StokerError, UnavailableError
from engine.messages import ChatFormat
from engine.model_commands import ListModels, SwapModel
from engine.snapshot import EMPTY_SNAPSHOT, EngineSnapshot
from widgets.source import SourceSlice

POLL_S = 0.25
MAX_BACK_OFF_S = 5.0
STALE_AFTER_S = 2.0
log = logging.getLogger("stoker.remote")


class RemoteEngine:
    """Follows a Stoker that runs elsewhere. Ending it leaves that one alone.

    The last picture stays while nothing is heard, and the Stoker is looked for until it is back.
    """

    def __init__(
        self, client: AgentsClient, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Names the Stoker; nothing is connected yet.

        Args:
            client: The Stoker.
            clock: Seconds, rising.
        """
        self._client = client
        self._feed = StateFeed(client)
        self._clock = clock
        self._snapshot = EMPTY_SNAPSHOT
        self._heard_s = clock()
        self._problem = ""
        self._back_off_s = POLL_S
        self._looking = threading.Lock()
        self._lanes = Lanes("stoker-order")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="stoker-feed", daemon=True)

    def connect(self) -> None:
        """Fetches the first snapshot.

        Raises:
            StokerError: It cannot be had; the message says what to do.
        """
        self._take(self._feed.fetch())

    @property
    def snapshot(self) -> EngineSnapshot:
        """The newest snapshot that was heard of."""
        return self._snapshot

    @property
    def chat_format(self) -> ChatFormat | None:
        """Always None: the model is elsewhere."""
        return None

    @property
    def state(self) -> SourceSlice:
        """How the connection is."""
        silent_s = self._clock() - self._heard_s
        return SourceSlice(
            label="attached",
            stale_s=int(silent_s) if silent_s >= STALE_AFTER_S else 0,
            problem=self._problem,
            notice=self._feed.gap_words,
        )

    def start(self) -> None:
        """Starts to follow; returns at once."""
        self._thread.start()

    def send(self, command: Command) -> None:
        """Has a command carried out there; never blocks. Its future answers."""
        match command:
            case Shutdown():
                self._is_over.set()
            case Generate():
                reason = "an attached dashboard generates nothing; ask the Stoker itself"
                command.admitted.set_exception(UnavailableError(reason))
            case Abort() | ToolsCalled() | Note():
                pass  # these are the business of the edge there
            case _:
                self._lanes.add(_lane_of(command), lambda: self._obey(command))

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits until it is left alone; False on time-out. A question under way is not awaited."""
        return self._is_over.wait(timeout_s)

    def _obey(self, command: Order) -> None:
        done: Future[Any] = command.done
        try:
            answer = carry_out(self._client, command)
            if not isinstance(command, DescribeBlock | ReadAgent | ListModels):
                # Whoever hears the answer looks at the picture next.
                self._look()
            done.set_result(answer)
        except StokerError as error:
            done.set_exception(error)
        except Exception as error:
            log.exception("a command failed: %r", error)
            done.set_exception(StokerError(f"the command failed: {error}"))

    def _follow(self) -> None:
        wait_s = POLL_S
        while not self._is_over.wait(wait_s):
            wait_s = self._look()
        with self._looking:
            self._feed.close()

    def _look(self) -> float:
        """Asks once; returns the seconds until the next time."""
        with self._looking:
            return self._ask()

    def _ask(self) -> float:
        try:
            self._take(self._feed.fetch())
        except StokerError as error:
            log.info("nothing heard: %s", error)
            needs_person = isinstance(error, RefusedError | NotStokerError)
            self._problem = f"Nothing new is shown: {error}" if needs_person else ""
        except Exception as error:
            log.exception("the feed failed: %r", error)
        else:
            self._back_off_s = POLL_S
            return POLL_S
        self._back_off_s = min(MAX_BACK_OFF_S, self._back_off_s * 2)
        return self._back_off_s

    def _take(self, snapshot: EngineSnapshot | None) -> None:
        if snapshot is not None:
            self._snapshot = snapshot
        self._heard_s = self._clock()
        self._problem = ""


def _lane_of(command: Order) -> object:
    """Commands about one agent keep their order; a slow one holds up nobody else's."""
    if isinstance(command, DescribeBlock | ListModels | SwapModel):
        return type(command)
    if isinstance(command, EvictIdle | SetBatchWindow):
        return None
    if isinstance(command, ReadAgent):
        return "read", command.namespace, command.agent_id
    return command.namespace, command.agent_id
