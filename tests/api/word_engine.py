"""A double of the engine for the API's tests: it says scripted words, at a pace a test sets."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
from engine.commands import (
    Abort,
    AbortAgent,
    Command,
    DescribeBlock,
    Generate,
    Note,
    PauseAgent,
    SetBatchWindow,
    SetPriority,
    Shutdown,
    ToolsCalled,
)
from engine.errors import (
    AgentBusyError,
    AgentNotFoundError,
    ArchiveError,
    InvalidRequestError,
    NotOnDiskError,
    StokerError,
)
from engine.messages import ChatFormat
from engine.model_commands import ListModels, SwapModel
from engine.request import Delta, FinishReason, Request, TokenLogprob, Usage
from engine.snapshot import (
    AgentImpact,
    AgentRow,
    AgentStatus,
    BatchRow,
    BlockRow,
    DeviceRow,
    EngineEvent,
    EngineSnapshot,
    EngineStatus,
    MissCause,
    MissRow,
    ModelChoice,
    ModelRow,
    PoolRow,
    SwapParts,
    SwapReport,
    SwapRow,
)
from tests.api.byte_chat_format import MAX_CONTEXT_TOKENS, ByteChatFormat
from tests.api.rows import DISK, THROUGHPUT

MODEL_ID = "tiny-words"
OTHER_ID = "other-words"
CHOICES = (
    ModelChoice(model_id=MODEL_ID, is_active=True),
    ModelChoice(
        model_id=OTHER_ID,
        num_bits=4,
        agents=(AgentImpact(agent_id="repo-a", num_tokens=10, num_warm_tokens=4, prefill_s=0.5),),
    ),
)
SWAPPED = SwapReport(
    from_model=MODEL_ID, to_model=OTHER_ID, parts=SwapParts(load_s=1.25, total_s=2.0)
)
NUM_CACHED_TOKENS = 7
NUM_STORED_TOKENS = 3
Steering = AbortAgent | PauseAgent | SetPriority | EvictIdle | SetBatchWindow | DescribeBlock
EVICTION = Eviction(freed_bytes=4096, num_tokens=512, num_disk_tokens=256)
MISS = MissRow(
    num_hot_tokens=5, num_lost_tokens=4, num_new_tokens=1, cause=MissCause.EVICTED, lost_s=0.5
)

SERVING_SNAPSHOT = EngineSnapshot(
    step=1,
    status=EngineStatus.SERVING,
    model=MODEL_ID,
    device="cpu",
    model_detail=ModelRow(model_id=MODEL_ID, max_context_tokens=MAX_CONTEXT_TOKENS),
    device_detail=DeviceRow(name="cpu", memory_used_bytes=123),
    pool=PoolRow(
        num_total_blocks=4,
        num_free_blocks=1,
        bytes_used=30,
        bytes_budget=40,
        num_evictions=2,
        num_evicted_blocks=7,
        block_states=b"\0\1\2\3",
        block_owners=b"\xff\0\0\0",
    ),
    disk=DISK,
    batch=BatchRow(num_running=3, num_waiting=2),
    throughput=THROUGHPUT,
    agents=(
        AgentRow(agent_id="repo-a", num_prompt_tokens=10, num_cached_tokens=5, miss=MISS),
        AgentRow(agent_id="session/sub", status=AgentStatus.DECODING, pinned=True),
        AgentRow(agent_id="nightly", status=AgentStatus.WARM, num_context_tokens=7420),
    ),
    events=(EngineEvent(number=1, time=0.0, kind="load", text="loaded"),),
)


def prompt_text(request: Request) -> str:
    return bytes(request.prompt_token_ids).decode()


def _logprobs(text: str, token_ids: tuple[int, ...], num: int | None) -> tuple[TokenLogprob, ...]:
    """The word itself is likeliest, the word in capitals second."""
    if num is None or not token_ids:
        return ()
    word = TokenLogprob(token_ids[0], text.encode(), -0.25)
    other = TokenLogprob(0, text.upper().encode(), -2.0)
    return (replace(word, top=(word, other)[:num]),)


@dataclass(kw_only=True)
class Script:
    """What the engine does with the turns it gets."""

    words: tuple[str, ...] = ("Paris", " is", " the", " capital", ".")
    step_s: float = 0.0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    refuse: StokerError | None = None
    fail_at: int | None = None
    error: StokerError | None = None
    abort_at: int | None = None


@dataclass
class _Running:
    command: Generate
    script: Script
    arrived: float = field(default_factory=time.monotonic)
    num_words: int = 0
    is_prefilling: bool = False
    next_at: float = 0.0


class WordEngine:
    """Has the ``EngineFace``; one thread steps through all turns, as the real one does."""

    def __init__(self, script: Script | None = None) -> None:
        self._commands: queue.Queue[Command] = queue.Queue()
        self.running: list[_Running] = []
        self._thread = threading.Thread(target=self._run, name="word-engine", daemon=True)
        self._is_stopping = threading.Event()
        self.reset(script)

    def reset(self, script: Script | None = None) -> None:
        """Forgets what was asked and told; the state is that of an engine that serves."""
        self.script = script or Script()
        self.chat_format: ChatFormat | None = ByteChatFormat()
        self.requests: list[Request] = []
        self.aborted: list[tuple[str, str]] = []
        self.at_end: Callable[[str], object] = str
        self.commands: list[Command] = []
        self.archives: list[bytes] = []
        self.archive_lines = 1
        self.refuse_after = 0
        self.refuse_swap: StokerError | None = None
        self.answers_swaps = True
        self.shows_removals = True
        self.refuse_once: list[StokerError] = []
        self.snapshot = SERVING_SNAPSHOT
        self._num_turns: Counter[str] = Counter()

    @property
    def notes(self) -> list[Note]:
        return [command for command in self.commands if isinstance(command, Note)]

    def start(self) -> None:
        self._thread.start()

    def send(self, command: Command) -> None:
        self._commands.put(command)

    def join(self, timeout_s: float | None = None) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def set_status(self, status: EngineStatus, text: str = "", progress: float = 0.0) -> None:
        self.snapshot = replace(
            self.snapshot, status=status, status_text=text, progress=progress, uptime_s=8.0
        )

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        """Whether a condition comes true in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.005)
        return condition()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                self._handle(self._commands.get(timeout=0.001 if self.running else 0.02))
                continue
            except queue.Empty:
                pass
            now = time.monotonic()
            for turn in tuple(self.running):
                self._step(turn, now)

    def _handle(self, command: Command) -> None:
        self.commands.append(command)
        match command:
            case Generate():
                self._admit(command)
            case Abort():
                self._abort(command.request_id)
            case Note() | ToolsCalled():
                pass
            case Shutdown():
                self._is_stopping.set()
            case EvictAgent() | PinAgent() | WarmAgent() | ForkAgent():
                self._act(command)
            case (
                PauseAgent()
                | SetPriority()
                | AbortAgent()
                | EvictIdle()
                | SetBatchWindow()
                | DescribeBlock()
            ):
                self._steer(command)
            case RemoveAgent() | ExportAgent() | ReadAgent():
                self._let_go(command)
            case _:
                self._handle_other(command)

    def _handle_other(self, command: Command) -> None:
        match command:
            case ImportAgent():
                self._take_in(command)
            case ListModels() | SwapModel():
                self._about_models(command)
            case _:
                raise AssertionError(command)

    def _about_models(self, command: ListModels | SwapModel) -> None:
        if isinstance(command, ListModels):
            command.done.set_result(CHOICES)
        elif self.refuse_swap is not None:
            command.done.set_exception(self.refuse_swap)
        elif self.answers_swaps:
            command.done.set_result(replace(SWAPPED, to_model=command.model))

    def begin_swap(self, eta_s: float | None = None) -> None:
        """Shows a change of model under way."""
        row = SwapRow(from_model=MODEL_ID, to_model=OTHER_ID, progress=0.5, eta_s=eta_s)
        self.snapshot = replace(self.snapshot, status=EngineStatus.SWAPPING, swap=row)

    def end_swap(self) -> None:
        """Shows the other model, with a chat format of its own."""
        self.chat_format = ByteChatFormat()
        detail = ModelRow(model_id=OTHER_ID, max_context_tokens=MAX_CONTEXT_TOKENS)
        self.snapshot = replace(
            self.snapshot,
            status=EngineStatus.SERVING,
            swap=None,
            model=OTHER_ID,
            model_detail=detail,
        )

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

    def _admit(self, command: Generate) -> None:
        self.requests.append(command.request)
        if self.refuse_once:
            command.admitted.set_exception(self.refuse_once.pop())
            return
        if self.script.refuse is not None and len(self.requests) > self.refuse_after:
            command.admitted.set_exception(self.script.refuse)
            return
        command.admitted.set_result(command.request.agent_id or f"{command.request.agent_hint}-1")
        self.running.append(_Running(command, self.script))

    def _abort(self, request_id: str) -> None:
        for turn in self.running:
            if turn.command.request.request_id == request_id:
                state = "queued"
                if turn.is_prefilling:
                    state = "decoding" if turn.num_words else "prefilling"
                self.aborted.append((request_id, state))
                self._end(turn, FinishReason.ABORTED)
                return

    def _step(self, turn: _Running, now: float) -> None:
        script, request = turn.script, turn.command.request
        if not turn.is_prefilling:
            if now - turn.arrived >= script.queue_s:
                turn.is_prefilling = True
                turn.next_at = now + script.prefill_s
                self._send(turn)
            return
        if now < turn.next_at:
            return
        turn.next_at = now + script.step_s
        if turn.num_words == script.fail_at:
            self._end(turn, FinishReason.ERROR, error=script.error)
        elif turn.num_words == script.abort_at:
            self._end(turn, FinishReason.ABORTED)
        elif request.sampling.max_tokens == 0:
            self._end(turn, FinishReason.MAX_TOKENS)
        else:
            self._say(turn)

    def _say(self, turn: _Running) -> None:
        script, request = turn.script, turn.command.request
        if turn.num_words >= len(script.words):
            self._end(turn, FinishReason.END_TURN)
        elif script.words[turn.num_words].strip() in request.sampling.stop:
            self._end(
                turn,
                FinishReason.STOP_STRING,
                stop_string=script.words[turn.num_words].strip(),
            )
        else:
            turn.num_words += 1
            self._send(turn, text=script.words[turn.num_words - 1], token_ids=(turn.num_words,))
            if turn.num_words >= request.sampling.max_tokens:
                self._end(turn, FinishReason.MAX_TOKENS)

    def _send(
        self,
        turn: _Running,
        *,
        text: str = "",
        token_ids: tuple[int, ...] = (),
        finish_reason: FinishReason | None = None,
        stop_string: str | None = None,
        error: StokerError | None = None,
    ) -> None:
        request = turn.command.request
        agent_id = turn.command.admitted.result()
        self._num_turns[agent_id] += finish_reason is not None
        turn.command.sink(
            Delta(
                request_id=request.request_id,
                agent_id=agent_id,
                text=text,
                token_ids=token_ids,
                logprobs=_logprobs(text, token_ids, request.sampling.num_logprobs),
                usage=Usage(
                    num_prompt_tokens=len(request.prompt_token_ids),
                    num_cached_tokens=NUM_CACHED_TOKENS,
                    num_stored_tokens=NUM_STORED_TOKENS,
                    num_generated_tokens=turn.num_words,
                    turn_number=self._num_turns[agent_id] if finish_reason is not None else 0,
                    miss=MissRow(
                        num_hot_tokens=4,
                        num_warm_tokens=3,
                        num_lost_tokens=5,
                        num_new_tokens=len(request.prompt_token_ids) - 12,
                        cause=MissCause.CHANGED_TEXT,
                        changed_token=7,
                        part="system",
                        lost_s=0.25,
                    ),
                ),
                finish_reason=finish_reason,
                stop_string=stop_string,
                error=error,
            )
        )

    def _end(
        self,
        turn: _Running,
        reason: FinishReason,
        *,
        stop_string: str | None = None,
        error: StokerError | None = None,
    ) -> None:
        self.running.remove(turn)
        self._send(turn, finish_reason=reason, stop_string=stop_string, error=error)
        self.at_end(turn.command.request.request_id)
