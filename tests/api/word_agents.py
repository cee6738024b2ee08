"""What the scripted engine answers to commands about agents and their caches."""

from __future__ import annotations

from dataclasses import replace

from engine.agent_commands import (
    AgentText,
    EvictAgent,
    EvictIdle,
    Eviction,
    ExportAgent,
    ExportedAgent,
    ForkAgent,
    ImportAgent,
    ImportedAgent,
    PinAgent,
    ReadAgent,
    RemoveAgent,
    WarmAgent,
)
from engine.commands import AbortAgent, DescribeBlock, PauseAgent, SetBatchWindow, SetPriority
from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    ArchiveError,
    InvalidRequestError,
    NotOnDiskError,
)
from engine.snapshot import AgentRow, AgentStatus, BlockRow, EngineSnapshot
from tests.api.word_snapshot import SERVING_SNAPSHOT

Steering = AbortAgent | PauseAgent | SetPriority | EvictIdle | SetBatchWindow | DescribeBlock
EVICTION = Eviction(freed_bytes=4096, num_tokens=512, num_disk_tokens=256)


class WordAgents:
    """Has a state, and changes of it what can be asked for."""

    snapshot: EngineSnapshot

    def reset_agents(self) -> None:
        """The state is that of an engine that serves."""
        self.archives: list[bytes] = []
        self.archive_lines = 1
        self.shows_removals = True
        self.snapshot = SERVING_SNAPSHOT

    def _act(self, command: EvictAgent | PinAgent | WarmAgent | ForkAgent) -> None:
        row = self.snapshot.agent(command.agent_id, command.namespace)
        if row is None:
            command.done.set_exception(AgentNotFoundError(command.agent_id))
        elif isinstance(command, PinAgent):
            command.done.set_result(command.pinned)
        elif row.status is AgentStatus.DECODING:
            command.done.set_exception(AgentBusyError(command.agent_id, "change"))
        elif isinstance(command, EvictAgent):
            command.done.set_result(EVICTION)
        elif isinstance(command, WarmAgent):
            self._warm(command, row)
        elif command.fork_id is not None and self.snapshot.agent(command.fork_id):
            command.done.set_exception(InvalidRequestError(f"{command.fork_id} is taken"))
        else:
            command.done.set_result(command.fork_id or f"{command.agent_id}-fork-1")

    def _describe(self, command: DescribeBlock) -> None:
        if command.block_id < self.snapshot.pool.num_total_blocks:
            block = BlockRow(
                block_id=command.block_id, block_hash="3fa9", num_tokens=256, owners=("repo-a",)
            )
            command.done.set_result(block)
        else:
            command.done.set_exception(InvalidRequestError("there is no such block"))

    def _steer(self, command: Steering) -> None:
        if isinstance(command, DescribeBlock):
            return self._describe(command)
        if isinstance(command, EvictIdle):
            return command.done.set_result(EVICTION)
        if isinstance(command, SetBatchWindow):
            return command.done.set_result(command.window_ms)
        row = self.snapshot.agent(command.agent_id, command.namespace)
        if row is None:
            return command.done.set_exception(AgentNotFoundError(command.agent_id))
        if isinstance(command, PauseAgent):
            return command.done.set_result(command.paused)
        if isinstance(command, SetPriority):
            return command.done.set_result(command.priority)
        return command.done.set_result(int(row.status is AgentStatus.DECODING))

    def _read(self, command: ReadAgent) -> None:
        if self.snapshot.agent(command.agent_id, command.namespace) is None:
            command.done.set_exception(AgentNotFoundError(command.agent_id))
        else:
            command.done.set_result(AgentText(reply="so far" if command.with_reply else None))

    def _let_go(self, command: RemoveAgent | ExportAgent | ReadAgent) -> None:
        if isinstance(command, ReadAgent):
            self._read(command)
            return
        row = self.snapshot.agent(command.agent_id, command.namespace)
        if row is None:
            command.done.set_exception(AgentNotFoundError(command.agent_id))
        elif row.status is AgentStatus.DECODING:
            command.done.set_exception(AgentBusyError(command.agent_id, "change"))
        elif isinstance(command, RemoveAgent):
            rest = tuple(each for each in self.snapshot.agents if each is not row)
            if self.shows_removals:
                self.snapshot = replace(self.snapshot, agents=rest)
            command.done.set_result(2048)
        else:
            content = f"archive of {command.agent_id}\n".encode() * self.archive_lines
            command.path.parent.mkdir(parents=True, exist_ok=True)
            command.path.write_bytes(content)
            command.done.set_result(
                ExportedAgent(path=command.path, num_bytes=len(content), num_tokens=512)
            )

    def _take_in(self, command: ImportAgent) -> None:
        self.archives.append(command.path.read_bytes())
        first, _, _ = self.archives[-1].decode(errors="replace").partition("\n")
        name = command.agent_id or first.removeprefix("archive of ")
        if not first.startswith("archive of "):
            command.done.set_exception(ArchiveError("the file is no archive of an agent"))
        elif self.snapshot.agent(name, command.namespace):
            command.done.set_exception(InvalidRequestError(f"{name} is taken"))
        else:
            row = AgentRow(agent_id=name, namespace=command.namespace, status=AgentStatus.WARM)
            self.snapshot = replace(self.snapshot, agents=(*self.snapshot.agents, row))
            command.done.set_result(ImportedAgent(agent_id=name, num_tokens=512))

    def _warm(self, command: WarmAgent, row: AgentRow) -> None:
        if row.status is AgentStatus.WARM:
            command.done.set_result(row.num_context_tokens)
        else:
            command.done.set_exception(NotOnDiskError(command.agent_id))
