"""The one thread that touches the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from engine.cache.disk.block_files import DiskRefusedError
from engine.cache.disk.outage import Outage
from engine.cache.disk.records import AgentRecord
from engine.cache.disk.store import BlockStore
from engine.cache.disk.work_queue import (
    ForgetAgent,
    ForgetBlocks,
    SaveAgent,
    TouchBlocks,
    WorkQueue,
    Write,
    WriteBlock,
)
from engine.durations import WRITE_BOUNDS_S, Durations
from engine.errors import DataFolderInUseError
from engine.snapshot import DurationsRow

THREAD_NAME = "stoker-disk"

_MAX_UNSAVED_BLOCKS = 64
"""So many block rows may wait for a commit: their files are durable and found again without it."""

Recovered = Callable[[tuple[AgentRecord, ...]], None]
"""Told that an outage is over, with the agents that were found if only now the folder opened."""

_IDLE_SAVE_S = 0.5
_LAST_WRITE_S = 10.0


class DiskThread:
    """Takes work from the queue until it is closed and empty, or its time is up."""

    def __init__(
        self, make_store: Callable[[], BlockStore], queue: WorkQueue, outage: Outage
    ) -> None:
        """Prepares the thread.

        Args:
            make_store: Makes the store; again after each attempt to open one that failed.
            queue: Its work.
            outage: Keeps count of refusals.
        """
        self.store = make_store()
        self.on_recovered: Recovered = nobody
        self.opened: Future[tuple[AgentRecord, ...]] = Future()
        self._make_store = make_store
        self._queue = queue
        self._outage = outage
        self._writes = Durations(WRITE_BOUNDS_S)
        self._is_open = False
        self._has_ended = False
        self._quit_at_s = float("inf")
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    @property
    def reason_off(self) -> str:
        """Why nothing is written now; empty when it is."""
        if self._has_ended or not self._thread.is_alive():
            return self._outage.reason or "closed"
        return self._outage.reason

    @property
    def write_durations(self) -> DurationsRow:
        """How long blocks took to be durable."""
        return self._writes.row

    def start(self) -> None:
        """Starts the thread; ``opened`` tells how opening went."""
        self._thread.start()

    def finish(self, flush_s: float) -> bool:
        """Lets the thread do what is queued, for a limited time, and waits for its end.

        Args:
            flush_s: The limit in seconds.

        Returns:
            Whether everything that was queued was done.
        """
        self._quit_at_s = time.monotonic() + flush_s
        self._queue.close()
        if self._thread.ident is not None:
            self._thread.join(flush_s + _LAST_WRITE_S)
        return not self._thread.is_alive() and not self._queue.has_work

    def _run(self) -> None:
        try:
            self._open_first()
            while not self._is_finished:
                self._work()
            self._attempt(self._save_last)
        except Exception as error:
            # A defect: say so and let it be seen; nobody may wait for this thread any more.
            self._outage.begin(f"the disk thread failed: {error!r}")
            raise
        finally:
            self._end()

    def _end(self) -> None:
        self._has_ended = True
        self._queue.close()
        if not self.opened.done():
            self.opened.set_result(())
        while (read := self._queue.take_read()) is not None:
            read.done(())
        self.store.close()

    def _open_first(self) -> None:
        try:
            agents = self.store.open()
        except DataFolderInUseError as error:
            self._queue.close()
            self._has_ended = True
            self.opened.set_exception(error)
        except DiskRefusedError as error:
            self._outage.begin(str(error))
            self.opened.set_result(())
        else:
            self._is_open = True
            self.opened.set_result(agents)

    @property
    def _is_finished(self) -> bool:
        if not self._queue.is_closing:
            return False
        is_late = time.monotonic() >= self._quit_at_s
        return is_late or bool(self._outage.reason) or not self._queue.has_work

    def _work(self) -> None:
        read = self._queue.take_read()
        if read is not None:
            read.done(self.store.read_blocks(read.block_hashes, self._queue.block))
        elif self._outage.wait_s > 0:
            self._queue.wait(self._outage.wait_s, for_writes=False)
        else:
            self._attempt(self._advance)

    def _end_outage(self, found: tuple[AgentRecord, ...] = ()) -> None:
        """The disk has taken something; an outage, if there was one, is over."""
        if self._outage.reason:
            self._outage.end()
            self.on_recovered(found)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except DiskRefusedError as error:
            self._outage.begin(str(error))
        except MemoryError:
            self._outage.begin("no memory to write")

    def _advance(self) -> None:
        """Does the next thing that changes the disk, or waits for one."""
        if not self._is_open:
            self._reopen()
        writes = self._queue.first_writes()
        if writes:
            self._write(writes)
        elif not self.store.has_unsaved:
            # Nothing is left that could fail, so an outage is over.
            self._end_outage()
            self._queue.wait(None, for_writes=True)
        else:
            self._save_when_idle()

    def _reopen(self) -> None:
        self.store = self._make_store()
        try:
            found = self.store.open()
        except DataFolderInUseError as error:
            raise DiskRefusedError(str(error)) from error
        self._is_open = True
        self._end_outage(found)

    def _save_when_idle(self) -> None:
        if not self._outage.reason:
            self._queue.wait(_IDLE_SAVE_S, for_writes=True)
        if not self._queue.has_work:
            self.store.save()
            self._end_outage()

    def _save_last(self) -> None:
        if self._is_open:
            self.store.save()

    def _write(self, writes: tuple[Write, ...]) -> None:
        if isinstance(writes[0], WriteBlock):
            self._write_block(writes[0])
        else:
            self._write_agents(writes)

    def _write_block(self, write: WriteBlock) -> None:
        began_s = time.monotonic()
        self.store.write_block(write.record)
        self._writes.add(time.monotonic() - began_s)
        self._queue.finish(write)
        if self._outage.reason or len(self.store.index.unsaved_blocks) >= _MAX_UNSAVED_BLOCKS:
            # The index too must take something before an outage is over.
            self.store.save()
            self._end_outage()

    def _write_agents(self, writes: tuple[Write, ...]) -> None:
        saved: list[tuple[SaveAgent, AgentRecord]] = []
        for write in writes:
            if isinstance(write, SaveAgent):
                saved.append((write, self.store.save_agent(write.record)))
            else:
                self._change_index(write)
        if saved or any(isinstance(write, ForgetBlocks) for write in writes):
            self.store.save()
            self._end_outage()
        for write in writes:
            self._queue.finish(write)
        for save, record in saved:
            if save.saved is not None:
                save.saved(record)

    def _change_index(self, write: Write) -> None:
        match write:
            case ForgetAgent(agent_id, unwanted, namespace):
                self.store.forget_agent(agent_id, unwanted, namespace)
            case ForgetBlocks(block_hashes, distrust=reason) if reason:
                self.store.set_aside(block_hashes, reason)
            case ForgetBlocks(block_hashes, with_followers):
                self.store.forget_blocks(block_hashes, with_followers=with_followers)
            case TouchBlocks(block_hashes):
                self.store.touch(block_hashes)


def nobody(_found: tuple[AgentRecord, ...]) -> None:
    """Nobody is told."""
