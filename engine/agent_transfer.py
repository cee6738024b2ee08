"""Agents leave as files and come back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from engine.agent_commands import ExportAgent, ExportedAgent, ImportAgent, ImportedAgent
from engine.cache.agent import Agent
from engine.cache.agents import AgentStore
from engine.cache_flush import CacheFlush
from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    ArchiveError,
    DrainingError,
    EngineFailedError,
    InvalidRequestError,
    NoCacheError,
    NoDiskTierError,
    StokerError,
)
from engine.persistence import Persistence
from engine.read_ahead import Post
from engine.request import check_agent_id

THREAD_NAME = "stoker-archive"
T = TypeVar("T")

Note = Callable[[str, str], None]
"""Takes an event: kind and text."""


class AgentTransfer:
    """Exports and imports agents. Its methods belong to the engine's thread.

    Files are read and written on a thread of their own, one after the other, so at most one block
    is in memory for them; what that thread finds out comes back through ``post``.
    """

    def __init__(
        self,
        agents: AgentStore,
        persistence: Persistence,
        flush: CacheFlush,
        post: Post,
        note: Note,
    ) -> None:
        """Wires the parts.

        Args:
            agents: Who leaves and comes.
            persistence: Knows what is on disk.
            flush: Waits for the disk.
            post: Has something done on the engine's thread.
            note: Takes events.
        """
        self._agents = agents
        self._persistence = persistence
        self._flush = flush
        self._post = post
        self._note = note
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD_NAME)
        self._pending: set[Future[Any]] = set()

    def export(self, command: ExportAgent) -> None:
        """Writes an agent into a file, once all of its cache is on disk.

        Raises:
            AgentNotFoundError: There is no such agent.
            AgentBusyError: A turn of it is in progress.
            NoCacheError: It has no cache.
        """
        agent = self._agents.get(command.agent_id, command.namespace)
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "export")
        if not agent.token_ids and agent.saving is None:
            raise NoCacheError(agent.agent_id, "export")
        self._pending.add(command.done)
        self._flush.begin(
            agent, lambda: self._do(command.done, lambda: self._write(command, agent))
        )

    def _write(self, command: ExportAgent, agent: Agent) -> None:
        if agent.num_active:
            raise AgentBusyError(agent.agent_id, "export")
        table = agent.saved
        if table is None or table != agent.saving:
            reason_off = self._persistence.tier.stats.reason_off
            if reason_off:
                raise NoDiskTierError(f"export {agent.agent_id!r}", reason_off)
            raise ArchiveError(f"the disk budget has no room for all of {agent.agent_id!r}")
        num_tokens = table.num_tokens
        if not num_tokens:
            raise NoCacheError(agent.agent_id, "export")
        record = self._persistence.record(agent, table)
        archives = self._persistence.tier.archives

        def written(num_bytes: int) -> ExportedAgent:
            text = f"{agent.agent_id}: {num_tokens} tokens, {num_bytes / 1e6:.0f} MB to a file"
            self._note("export", text)
            return ExportedAgent(path=command.path, num_bytes=num_bytes, num_tokens=num_tokens)

        self._start(
            lambda: archives.write(record, command.path),
            lambda num_bytes: self._answer(command.done, written(num_bytes)),
            command.done,
        )

    def take_in(self, command: ImportAgent) -> None:
        """Verifies a file and makes the agent in it known here.

        Raises:
            InvalidRequestError: The name that it is to have is taken or not allowed.
        """
        if command.agent_id is not None:
            self._check_free(command.agent_id, command.namespace)
        self._pending.add(command.done)
        archives = self._persistence.tier.archives
        self._start(
            lambda: archives.take_in(command.path, namespace=command.namespace),
            lambda record: self._adopt(command, self._persistence.agent(record)),
            command.done,
        )

    def _check_free(self, agent_id: str, namespace: str) -> None:
        check_agent_id(agent_id)
        try:
            self._agents.get(agent_id, namespace)
        except AgentNotFoundError:
            return
        raise InvalidRequestError(f"there is an agent {agent_id!r} already; choose another name")

    def _adopt(self, command: ImportAgent, agent: Agent) -> None:
        if command.agent_id is not None:
            agent.agent_id, agent.named_here = command.agent_id, False
        self._check_free(agent.agent_id, command.namespace)
        table, agent.saved = agent.saving, None
        self._agents.adopt(agent)
        self._persistence.keep_facts(agent)

        def saved() -> None:
            if agent.saved != table or table is None:
                self._agents.remove(agent)
                raise ArchiveError("the disk budget has no room for the archive's blocks")
            self._note("import", f"{agent.agent_id}: {table.num_tokens} tokens from a file")
            answer = ImportedAgent(agent_id=agent.agent_id, num_tokens=table.num_tokens)
            self._answer(command.done, answer)

        self._flush.begin(agent, lambda: self._do(command.done, saved))

    def close(self) -> None:
        """Answers everybody who still waits; what is being written or read comes to nothing."""
        for future in tuple(self._pending):
            self._fail(future, DrainingError("Stoker is shutting down"))
        self._thread.shutdown(wait=True, cancel_futures=True)

    # Between the threads

    def _start(self, work: Callable[[], T], then: Callable[[T], None], done: Future[Any]) -> None:
        """Does something on the archive's thread, and then something with its result on ours."""

        def finished(future: Future[T]) -> None:
            if not future.cancelled():
                self._post(lambda: self._do(done, lambda: then(_result_of(future))))

        self._thread.submit(work).add_done_callback(finished)

    def _do(self, done: Future[Any], action: Callable[[], None]) -> None:
        if done not in self._pending:
            return
        try:
            action()
        except StokerError as error:
            self._fail(done, error)

    def _answer(self, done: Future[Any], result: object) -> None:
        self._pending.discard(done)
        done.set_result(result)

    def _fail(self, done: Future[Any], error: StokerError) -> None:
        self._pending.discard(done)
        done.set_exception(error)


def _result_of(work: Future[T]) -> T:
    """What came of work on a file; whatever is in a file, it must not end the engine.

    Raises:
        StokerError: The work's own, or one that names what it did not expect.
    """
    error = work.exception()
    if error is not None and not isinstance(error, StokerError):
        raise EngineFailedError(f"the file could not be dealt with: {error!r}") from error
    return work.result()
