"""One turn on the API's side: handed to the engine, awaited piece by piece, aborted when unread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from app.api.bridge import DeltaBridge
from app.api.draft import TurnDraft
from app.api.errors import ClientGoneError, RequestTimeoutError, TurnAbortedError
from app.api.reply import Reply, blocks_of
from app.api.telemetry import RequestRecord
from app.api.text_logprobs import TextLogprobs
from engine.commands import Abort, Generate, ToolsCalled
from engine.errors import DrainingError, EngineFailedError, StokerError
from engine.face import EngineFace
from engine.pieces import CallEnd, Piece, ReplyReader
from engine.request import Delta, FinishReason, Request, TokenLogprob
from engine.snapshot import EngineStatus

Receive = Callable[[], Awaitable[Any]]
_ENDED = (EngineStatus.STOPPED, EngineStatus.FAILED)


class Turn:
    """A turn in progress. Everything but the engine's callbacks runs on the API's loop.

    Attributes:
        draft: What the client asked for.
        model_id: The model that answers.
        record: The request's log line, filled as the turn goes.
    """

    def __init__(
        self,
        engine: EngineFace,
        bridge: DeltaBridge,
        draft: TurnDraft,
        model_id: str,
        record: RequestRecord,
        reader: ReplyReader,
    ) -> None:
        """Prepares a turn; nothing is sent to the engine yet."""
        self.draft = draft
        self.model_id = model_id
        self.record = record
        self._engine = engine
        self._bridge = bridge
        self._reader = reader
        self._logprobs = TextLogprobs() if draft.sampling.num_logprobs is not None else None
        self._pending: list[Delta] = []
        self._waiter: asyncio.Future[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._failure: StokerError | None = None
        self._num_news = 0
        self._is_sent = False
        self._is_finished = False
        self._has_calls = False

    @property
    def request_id(self) -> str:
        """The request's id, also the engine's id of the turn."""
        return self.record.request_id

    async def submit(self, request: Request, receive: Receive) -> None:
        """Hands the turn to the engine, and waits until it is queued there.

        Raises:
            StokerError: The engine refused it, or the client went away.
        """
        self._watcher = asyncio.create_task(self._watch(receive))
        command = Generate(request=request, sink=self._sink)
        command.admitted.add_done_callback(lambda _: self._bridge.post(self, None))
        self._is_sent = True
        self._engine.send(command)
        while not command.admitted.done():
            await self._wait(timeout_s=1.0)
            if self._failure is not None:
                raise self._failure
        error = command.admitted.exception()
        if error is not None:
            self._is_finished = True
            raise error
        self.record.agent_id = command.admitted.result()

    async def next(self, timeout_s: float) -> list[Delta]:
        """The deltas since the last call; waits for one, at most ``timeout_s`` seconds.

        Returns:
            Deltas in order; empty when time ran out.

        Raises:
            ClientGoneError: The client went away.
            StokerError: The server or the engine stopped.
        """
        if not self._pending and self._failure is None:
            await self._wait(timeout_s)
        if self._failure is not None:
            raise self._failure
        deltas, self._pending = self._pending, []
        if deltas:
            self.record.note_deltas(deltas)
        return deltas

    def read(self, deltas: Sequence[Delta]) -> list[Piece]:
        """The pieces that deltas complete; to be called once for each delta, in order.

        Of a reply that failed, what is held back is not told: it may look like a whole call.
        """
        pieces = self._feed(deltas)
        last = deltas[-1] if deltas else None
        if last is not None and last.finish_reason is not None and not self.ending_error(last):
            rest = self._reader.finish()
            pieces += self._logprobs.told(rest, ()) if self._logprobs else rest
        self._note_calls(pieces, last)
        return pieces

    def _note_calls(self, pieces: Sequence[Piece], last: Delta | None) -> None:
        """Tells the engine of a reply that ends with tool calls; the reader alone finds them."""
        self._has_calls = self._has_calls or any(isinstance(each, CallEnd) for each in pieces)
        # A client is not asked to use the tools of a reply that was cut off.
        if self._has_calls and last is not None and last.finish_reason is FinishReason.END_TURN:
            called = ToolsCalled(
                agent_id=last.agent_id,
                turn_number=last.usage.turn_number,
                namespace=self.record.namespace,
            )
            self._engine.send(called)

    def _feed(self, deltas: Sequence[Delta]) -> list[Piece]:
        if self._logprobs is None:
            text = "".join([delta.text for delta in deltas])
            return self._reader.feed(text) if text else []
        # One by one, so that the tokens of a text are found whatever the reader's pace.
        pieces: list[Piece] = []
        for delta in deltas:
            pieces += self._logprobs.told(self._reader.feed(delta.text), delta.logprobs)
        return pieces

    async def whole_reply(self) -> Reply:
        """Waits for the end of the turn.

        Raises:
            StokerError: It did not end by itself, or the client went away.
        """
        pieces: list[Piece] = []
        logprobs: list[TokenLogprob] = []
        while True:
            deltas = await self.next(timeout_s=1.0)
            pieces += self.read(deltas)
            logprobs += [row for delta in deltas for row in delta.logprobs]
            if deltas and deltas[-1].finish_reason is not None:
                error = self.ending_error(deltas[-1])
                if error is not None:
                    raise error
                return Reply(blocks_of(pieces), deltas[-1], tuple(logprobs))

    def ending_error(self, last: Delta) -> StokerError | None:
        """Why the turn did not end by itself; None when it did."""
        if last.finish_reason is FinishReason.ERROR:
            return last.error or EngineFailedError("the engine failed during this turn")
        if last.finish_reason is FinishReason.ABORTED:
            if self._engine.snapshot.status in (EngineStatus.DRAINING, *_ENDED):
                return DrainingError("the server is shutting down")
            return TurnAbortedError("this turn was aborted at the server")
        return None

    def fail(self, error: StokerError) -> None:
        """Ends the turn from the server's side, unless it ended: its reader gets the error."""
        if self._is_finished:
            return
        self._failure = error
        self._abort(str(error))
        self._wake()

    def end_in(self, timeout_s: float) -> None:
        """Ends the turn with an error, so many seconds after its request arrived."""
        left_s = self.record.started + timeout_s - time.perf_counter()
        error = RequestTimeoutError(timeout_s)
        self._deadline = asyncio.get_running_loop().call_later(left_s, self.fail, error)

    def close(self) -> None:
        """Lets go of the turn, and aborts it if it still runs."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        self._abort("client went away")

    def receive(self, news: Delta | None) -> None:
        """Takes news from the bridge."""
        self._num_news += 1
        if news is not None:
            self._pending.append(news)
            self._is_finished = self._is_finished or news.finish_reason is not None
        self._wake()

    def _sink(self, delta: Delta) -> None:
        self._bridge.post(self, delta)

    async def _wait(self, timeout_s: float) -> None:
        """Sleeps until there is news, or for so long; raises where waiting would never end.

        A bare future and timer: ``asyncio.wait_for`` costs several times as much, per token.
        """
        if self._engine.snapshot.status in _ENDED:
            await self._last_news()
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(max(0.0, timeout_s), self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def _last_news(self) -> None:
        """Lets arrive what the engine sent before it ended: it is on the loop's list already."""
        num_news = self._num_news
        await asyncio.sleep(0)
        if self._num_news == num_news and self._failure is None:
            reason = self._engine.snapshot.status_text or "shut down"
            raise EngineFailedError(f"the engine stopped: {reason}")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.record.is_client_gone = True
        self.fail(ClientGoneError("the client closed its connection"))

    def _abort(self, reason: str) -> None:
        if self._is_sent and not self._is_finished:
            self._is_finished = True
            self._engine.send(Abort(request_id=self.request_id, reason=reason))
