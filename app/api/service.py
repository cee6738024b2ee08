"""Starting turns: is there a model, does the prompt fit, who asks, and under which name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from app.api.bridge import DeltaBridge
from app.api.draft import TurnDraft
from app.api.fields import Fields, parse_object
from app.api.identity import Headers, agent_id_of
from app.api.model_wait import swap_in_progress, with_model
from app.api.prepared import DraftT, Prepared
from app.api.settings import ApiSettings
from app.api.telemetry import RequestRecord
from app.api.turns import Receive, Turn
from app.logs import printable
from app.model_aliases import ModelAliases
from engine.commands import Note
from engine.constraint import Constraint
from engine.errors import (
    DrainingError,
    ModelLoadingError,
    ModelNotFoundError,
    UnavailableError,
)
from engine.face import EngineFace
from engine.messages import ChatFormat
from engine.snapshot import EngineSnapshot, EngineStatus

Parse = Callable[[Fields], TurnDraft]
T = TypeVar("T")
QUICK_CHARS = 2048
"""So much is read on the loop itself: waking another thread takes as long, half a millisecond."""
MAX_ALIASES = 256
MAX_NAME_CHARS = 100
MAX_NOTED_GAPS = 256
MAX_GAP_CHARS = 200
_LOADING = (EngineStatus.STARTING, EngineStatus.LOADING)
_STOPPING = (EngineStatus.DRAINING, EngineStatus.STOPPED)


class TurnService:
    """What the routers share: the engine, the settings, and the turns in progress."""

    def __init__(self, engine: EngineFace, settings: ApiSettings, bridge: DeltaBridge) -> None:
        """Makes a service for one loop."""
        self.engine = engine
        self.settings = settings
        self.aliases = ModelAliases(settings.aliases)
        self._bridge = bridge
        self._turns: set[Turn] = set()
        self._noted_aliases: set[tuple[str, str]] = set()
        self._noted_gaps: set[str] = set()

    def chat_format(self) -> ChatFormat:
        """The text side of the active model.

        Raises:
            UnavailableError: There is none now; says why and when to try again.
        """
        snapshot = self.engine.snapshot
        if snapshot.status in _STOPPING:
            raise DrainingError("the server is shutting down", retry_after_s=10.0)
        if snapshot.status is EngineStatus.FAILED:
            raise UnavailableError(
                f"the engine failed: {snapshot.status_text or 'see the log'}", retry_after_s=30.0
            )
        chat_format = self.engine.chat_format
        if snapshot.status is EngineStatus.SWAPPING:
            raise swap_in_progress(snapshot)
        if chat_format is None or snapshot.status in _LOADING:
            eta_s = loading_eta_s(snapshot)
            raise ModelLoadingError(
                f"the model is loading ({snapshot.progress:.0%}), try again in {eta_s:.0f} s",
                retry_after_s=eta_s,
            )
        return chat_format

    async def count_tokens(self, body: bytes, parse: Parse, record: RequestRecord) -> int:
        """The length of a rendered prompt in tokens.

        Raises:
            StokerError: The request is wrong, or there is no model.
        """
        return await self.with_model(lambda: self._count(body, parse, record))

    async def _count(self, body: bytes, parse: Parse, record: RequestRecord) -> int:
        chat_format = self.chat_format()

        def count() -> tuple[TurnDraft, int]:
            draft = parse(parse_object(body))
            (prompt,) = draft.render(chat_format, record.namespace)
            return draft, len(prompt.token_ids)

        draft, num_tokens = await asyncio.to_thread(count)
        self._serve_as(draft.model, record)
        return num_tokens

    async def prepare(
        self,
        body: bytes,
        parse: Callable[[Fields], DraftT],
        headers: Headers,
        record: RequestRecord,
    ) -> Prepared[DraftT]:
        """Parses and tokenises a request.

        Raises:
            StokerError: The request is wrong, or there is no model.
        """
        chat_format = self.chat_format()

        def read() -> DraftT:
            fields = parse_object(body).filled(chat_format.sampling_defaults)
            return replace(parse(fields), agent_id=agent_id_of(headers, fields))

        def render(draft: DraftT) -> Prepared[DraftT]:
            prompts = draft.render(chat_format, record.namespace)
            return Prepared(
                draft=draft,
                prompts=prompts,
                chat_format=chat_format,
                constraint=draft.constraint(chat_format, prompts[0]),
            )

        if len(body) > QUICK_CHARS:
            prepared = await asyncio.to_thread(lambda: render(read()))
        elif (draft := read()).num_chars_to_read > QUICK_CHARS or draft.is_held_to_a_form:
            prepared = await asyncio.to_thread(render, draft)
        else:
            prepared = render(draft)
        self._tell_gaps(prepared.constraint, record)
        return replace(prepared, model_id=self._serve_as(prepared.draft.model, record))

    async def start(
        self,
        prepared: Prepared[DraftT],
        receive: Receive,
        record: RequestRecord,
        protocol: str,
    ) -> Turn:
        """Queues the turn that answers the first prompt of a request.

        The caller has to ``forget`` the turn.

        Raises:
            StokerError: It is not as it has to be, or there is no room for it.
        """
        request = prepared.request(record, protocol)
        turn = Turn(
            self.engine,
            self._bridge,
            prepared.draft,
            prepared.model_id,
            record,
            prepared.reader(),
        )
        limit_s = self.settings.request_timeout_s
        if limit_s:
            left_s = record.started + limit_s - time.perf_counter()
            request = replace(request, time_limit_s=max(0.0, left_s))
            turn.end_in(limit_s)
        await self._follow(turn, turn.submit(request, receive))
        return turn

    async def begin(
        self,
        body: bytes,
        parse: Parse,
        headers: Headers,
        receive: Receive,
        record: RequestRecord,
        protocol: str,
    ) -> Turn:
        """Parses and tokenises a request and queues its turn.

        The caller has to ``forget`` the turn.

        Raises:
            StokerError: The request is wrong, there is no model, or no room for it.
        """

        async def attempt() -> Turn:
            prepared = await self.prepare(body, parse, headers, record)
            return await self.start(prepared, receive, record, protocol)

        return await self.with_model(attempt)

    async def with_model(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Does what needs one model from prompt to queue; anew where that one goes meanwhile.

        Raises:
            StokerError: What the attempt raises, or the model changes for too long.
        """
        return await with_model(self.engine, self.settings.swap_wait_s, attempt)

    def forget(self, turn: Turn) -> None:
        """Closes a turn that was answered, or whose client is gone."""
        turn.close()
        self._turns.discard(turn)

    def close(self) -> None:
        """Ends all turns in progress with an error to their clients."""
        for turn in tuple(self._turns):
            turn.fail(DrainingError("the server is shutting down"))

    async def _follow(self, turn: Turn, submission: Awaitable[None]) -> None:
        self._turns.add(turn)
        try:
            await submission
        except BaseException:
            self.forget(turn)
            raise

    def _tell_gaps(self, constraint: Constraint | None, record: RequestRecord) -> None:
        """Says what of the tools' schemas calls are not held to: in the log, and once on screen."""
        if constraint is None:
            return
        record.gaps = constraint.gaps
        for gap in constraint.gaps:
            text = printable(gap)[:MAX_GAP_CHARS]
            if text not in self._noted_gaps and len(self._noted_gaps) < MAX_NOTED_GAPS:
                self._noted_gaps.add(text)
                self.engine.send(Note(kind="schema", text=text, level="warning"))

    def _serve_as(self, asked: str, record: RequestRecord) -> str:
        """The model that answers to a name; says so where it is another one."""
        active = self.engine.snapshot.model
        record.model_id = active
        if asked in ("", active):
            return active
        name = asked[:MAX_NAME_CHARS]
        record.asked_model = name
        is_alias = self.aliases.meant(asked, active) == active
        if not is_alias and self.settings.unknown_model == "reject":
            raise ModelNotFoundError(name, (active,))
        if (name, active) not in self._noted_aliases and len(self._noted_aliases) < MAX_ALIASES:
            self._noted_aliases.add((name, active))
            why = "is an alias" if is_alias else "is not here"
            self.engine.send(
                Note(kind="alias", text=f"{printable(name)} {why}: served by {active}")
            )
        return active


def loading_eta_s(snapshot: EngineSnapshot) -> float:
    """Seconds until a load is done, from the pace so far; between 1 and 60."""
    if snapshot.progress < 0.05:
        return 5.0
    remaining_s = snapshot.uptime_s * (1 - snapshot.progress) / snapshot.progress
    return min(60.0, max(1.0, remaining_s))
