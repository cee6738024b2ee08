"""Commands to an engine elsewhere: each as a request, and its reply as the engine's answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from app.agents_client import SWAP_TIMEOUT_S, AgentsClient, ServerError, agent_path
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
    AbortAgent,
    AgentCommand,
    DescribeBlock,
    PauseAgent,
    SetBatchWindow,
    SetPriority,
)
from engine.errors import ArchiveError
from engine.model_commands import ListModels, ModelCommand, SwapModel
from engine.snapshot import BlockRow, ModelChoice, RowReader, SwapReport

Order = AgentCommand | ModelCommand | DescribeBlock
"""What can be asked of an engine elsewhere."""


def carry_out(client: AgentsClient, command: Order) -> object:
    """Has a command carried out; returns what its future resolves to.

    Raises:
        StokerError: It was refused, in the server's words, or the server could not be asked.
    """
    try:
        match command:
            case EvictIdle() | SetBatchWindow() | DescribeBlock():
                return _about_engine(client, command)
            case ListModels() | SwapModel():
                return _about_models(client, command)
            case ExportAgent():
                return _export(client, command)
            case ImportAgent():
                return _import(client, command)
            case ForkAgent():
                return _fork(client, command)
            case ReadAgent():
                return _read(client, command)
            case RemoveAgent():
                return int(client.delete(_path(command, ""))["freed_bytes"])
            case _:
                return _act(client, command)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError("that Stoker is of another version, and answers otherwise") from error


def _about_engine(
    client: AgentsClient, command: EvictIdle | SetBatchWindow | DescribeBlock
) -> Eviction | float | BlockRow:
    match command:
        case DescribeBlock():
            body = client.get(f"/admin/blocks/{command.block_id}")
            return RowReader().row(BlockRow, body)
        case EvictIdle():
            return _eviction(client.post("/admin/evict-idle"))
        case SetBatchWindow():
            body = client.post("/admin/batch-window", {"window_ms": command.window_ms})
            return float(body["window_ms"])


def _about_models(
    client: AgentsClient, command: ModelCommand
) -> tuple[ModelChoice, ...] | SwapReport:
    if isinstance(command, ListModels):
        body = client.get("/admin/models" + _query(_format(command)))
        return tuple(RowReader().row(ModelChoice, row) for row in body["data"])
    wanted = {"model": command.model, "drain_s": command.drain_s, **_format(command)}
    report = client.post("/admin/models/swap", wanted, timeout_s=SWAP_TIMEOUT_S)
    return RowReader().row(SwapReport, report)


def _act(
    client: AgentsClient,
    command: EvictAgent | WarmAgent | PinAgent | AbortAgent | PauseAgent | SetPriority,
) -> Eviction | int | bool:
    match command:
        case EvictAgent():
            return _eviction(client.post(_path(command, "evict")))
        case WarmAgent():
            return int(client.post(_path(command, "warm"))["num_tokens"])
        case PinAgent():
            action = "pin" if command.pinned else "unpin"
            return bool(client.post(_path(command, action))["pinned"])
        case AbortAgent():
            return int(client.post(_path(command, "abort"))["num_ended"])
        case PauseAgent():
            action = "pause" if command.paused else "resume"
            return bool(client.post(_path(command, action))["paused"])
        case SetPriority():
            body = {"priority": command.priority}
            return int(client.post(_path(command, "priority"), body)["priority"])


def _fork(client: AgentsClient, command: ForkAgent) -> str:
    wanted = {"id": command.fork_id, "turn": command.turn}
    body = {name: value for name, value in wanted.items() if value is not None}
    return str(client.post(_path(command, "fork"), body)["agent_id"])


def _export(client: AgentsClient, command: ExportAgent) -> ExportedAgent:
    try:
        command.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = client.download(_path(command, "export"), command.path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArchiveError(f"cannot write {command.path}: {reason}") from error
    return ExportedAgent(path=command.path, num_bytes=file.num_bytes, num_tokens=file.num_tokens)


def _import(client: AgentsClient, command: ImportAgent) -> ImportedAgent:
    named = {"id": command.agent_id} if command.agent_id is not None else {}
    query = _query({**named, **_whose(command.namespace)})
    try:
        with command.path.open("rb") as file:
            body = client.upload(f"/v1/agents/import{query}", file)
    except OSError as error:
        raise ArchiveError(f"cannot read {command.path}: {error.strerror or error}") from error
    return ImportedAgent(agent_id=str(body["agent_id"]), num_tokens=int(body["num_tokens"]))


def _eviction(body: Mapping[str, Any]) -> Eviction:
    return Eviction(
        freed_bytes=int(body["freed_bytes"]),
        num_tokens=int(body["num_tokens"]),
        num_disk_tokens=int(body["num_disk_tokens"]),
    )


def _read(client: AgentsClient, command: ReadAgent) -> AgentText:
    wanted = {"reply": "true"} if command.with_reply else {}
    path = agent_path(command.agent_id, "text")
    body = client.get(path + _query({**wanted, **_whose(command.namespace)}))
    reply = body["reply"]
    lead, was, now = (str(body[name]) for name in ("lead", "was", "now"))
    return AgentText(
        reply=None if reply is None else str(reply),
        is_cut=bool(body["is_cut"]),
        lead=lead,
        was=was,
        now=now,
    )


def _path(
    command: EvictAgent
    | WarmAgent
    | PinAgent
    | AbortAgent
    | PauseAgent
    | SetPriority
    | ForkAgent
    | RemoveAgent
    | ExportAgent,
    action: str,
) -> str:
    return agent_path(command.agent_id, action) + _query(_whose(command.namespace))


def _format(command: ModelCommand) -> dict[str, int]:
    """Names the bits of keys and values, where they are not to be as they are set."""
    return {} if command.kv_bits is None else {"kv_bits": command.kv_bits}


def _whose(namespace: str) -> dict[str, str]:
    """Names the key whose agent it is, where that is not the operator's own."""
    return {"namespace": namespace} if namespace else {}


def _query(fields: Mapping[str, str | int]) -> str:
    return f"?{urlencode(fields)}" if fields else ""
