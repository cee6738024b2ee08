"""Several replies to one request, generated side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic

from app.api.prepared import DraftT, Prepared
from app.api.reply import Reply
from app.api.service import TurnService
from app.api.telemetry import RequestRecord
from app.api.turns import Receive, Turn
from engine.agent_commands import RemoveAgent
from engine.errors import StokerError
from engine.request import MAX_AGENT_ID_CHARS, Delta, Usage

_NAME_ROOM = 40
"""Characters of an agent's id that are kept for what is put behind it."""


class Choices(Generic[DraftT]):
    """The turns of one request. They are numbered prompt by prompt.

    An agent has one turn at a time, so only the first reply is the agent's own. Each other one is
    generated under an agent of its own, which is forgotten with the request. All are queued at
    once: the engine computes what their prompts have in common once.

    Attributes:
        turns: One for each reply.
        record: The request's log line.
    """

    def __init__(
        self, service: TurnService, prepared: Prepared[DraftT], record: RequestRecord
    ) -> None:
        """Prepares the choices; nothing is queued yet."""
        self.turns: list[Turn] = []
        self.record = record
        self._service = service
        self._prepared = prepared
        self._news: asyncio.Queue[tuple[int, list[Delta]] | StokerError] = asyncio.Queue()
        self._pumps: list[asyncio.Task[None]] = []
        self._usages: dict[int, Usage] = {}
        self._short_lived: list[str] = []

    @property
    def ping_s(self) -> float:
        """Seconds of silence after which a stream sends a sign of life."""
        return self._service.settings.ping_s

    async def begin(self, num_each: int, receive: Receive, protocol: str) -> None:
        """Queues every turn. Once they are queued, the caller has to ``close`` the choices.

        Args:
            num_each: Replies to each prompt.
            receive: The client's connection.
            protocol: For display.

        Raises:
            StokerError: One of them was refused, or the client went away.
        """
        try:
            for index in range(len(self._prepared.prompts)):
                for copy in range(num_each):
                    await self._add(self._place(index, copy), receive, protocol)
        except BaseException:
            await self.close()
            raise

    async def _add(self, prepared: Prepared[DraftT], receive: Receive, protocol: str) -> None:
        record = self._record_of(len(self.turns))
        self.turns.append(await self._service.start(prepared, receive, record, protocol))

    def _place(self, index: int, copy: int) -> Prepared[DraftT]:
        draft = self._prepared.draft
        seed = draft.sampling.seed
        if seed is not None and copy:
            draft = replace(draft, sampling=replace(draft.sampling, seed=(seed + copy) % 2**63))
        if self.turns:
            draft = replace(draft, agent_id=self._name_of(len(self.turns)), is_copy=True)
        return self._prepared.alone(index, draft)

    def _name_of(self, number: int) -> str:
        owner = self.turns[0].record.agent_id[: MAX_AGENT_ID_CHARS - _NAME_ROOM]
        self._short_lived.append(f"{owner}/choice-{number + 1}-{self.record.request_id[-8:]}")
        return self._short_lived[-1]

    def _record_of(self, number: int) -> RequestRecord:
        if number == 0:
            return self.record
        return replace(self.record, request_id=f"{self.record.request_id}-{number + 1}")

    async def next(self, timeout_s: float) -> list[tuple[int, list[Delta]]]:
        """Deltas since the last call, each with the number of its choice.

        Args:
            timeout_s: How long to wait for one.

        Returns:
            Deltas; empty when time ran out.

        Raises:
            StokerError: The client went away, or the server or the engine stopped.
        """
        if len(self.turns) == 1:
            deltas = await self.turns[0].next(timeout_s)
            return [(0, deltas)] if deltas else []
        if not self._pumps:
            self._pumps = [
                asyncio.create_task(self._pump(number)) for number in range(len(self.turns))
            ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout_s)):
                news = await self._news.get()
                if isinstance(news, StokerError):
                    raise news
                return [news]
        return []

    async def whole_replies(self) -> list[Reply]:
        """Waits for the end of every turn.

        Raises:
            StokerError: One did not end by itself, or the client went away.
        """
        tasks = [asyncio.create_task(turn.whole_reply()) for turn in self.turns]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            replies = [task.result() for task in tasks if task.done()]
        finally:
            await _cancel(tasks)
        for number, reply in enumerate(replies):
            self.end(number, reply.last)
        return replies

    def end(self, number: int, last: Delta) -> None:
        """Takes note that a turn has ended.

        Args:
            number: The turn.
            last: What it ended with.
        """
        self._usages[number] = last.usage
        self.record.usage = self.usage

    @property
    def is_over(self) -> bool:
        """Whether every turn has ended."""
        return len(self._usages) == len(self.turns)

    @property
    def usage(self) -> Usage:
        """Counts of the turns that have ended; a prompt that got several replies counts once."""
        num_each = max(1, len(self.turns) // len(self._prepared.prompts))
        ended = sorted(self._usages)
        firsts = {number // num_each: number for number in reversed(ended)}
        return total_usage(
            [self._usages[number] for number in firsts.values()],
            [self._usages[number] for number in ended],
        )

    async def close(self) -> None:
        """Lets go of all turns, aborts those that still run, and forgets their agents."""
        await _cancel(self._pumps)
        for turn in self.turns:
            self._service.forget(turn)
        for agent_id in self._short_lived:
            # The abort was sent before, so the agent is idle when the engine reads this.
            self._service.engine.send(
                RemoveAgent(agent_id=agent_id, namespace=self.record.namespace)
            )

    async def _pump(self, number: int) -> None:
        try:
            while True:
                deltas = await self.turns[number].next(timeout_s=1.0)
                if deltas:
                    self._news.put_nowait((number, deltas))
                if deltas and deltas[-1].finish_reason is not None:
                    return
        except StokerError as error:
            self._news.put_nowait(error)


def total_usage(prompts: Sequence[Usage], replies: Sequence[Usage]) -> Usage:
    """The counts of several turns as those of one.

    Args:
        prompts: The turns whose prompts count; at least one.
        replies: All turns.
    """
    return replace(
        prompts[-1],
        num_prompt_tokens=sum(usage.num_prompt_tokens for usage in prompts),
        num_cached_tokens=sum(usage.num_cached_tokens for usage in prompts),
        num_stored_tokens=sum(usage.num_stored_tokens for usage in prompts),
        num_generated_tokens=sum(usage.num_generated_tokens for usage in replies),
    )


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
