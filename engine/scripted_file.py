"""Scripted agents in files. They have no cache, so a few facts stand for it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.agent_commands import ExportedAgent
from engine.errors import ArchiveError

MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedAgent:
    """What a scripted agent takes along.

    Attributes:
        agent_id: Its name.
        protocol: The dialect it speaks.
        num_tokens: Tokens of its context.
        num_turns: Turns so far.
    """

    agent_id: str
    protocol: str
    num_tokens: int
    num_turns: int


def write_agent(agent: ScriptedAgent, path: Path) -> ExportedAgent:
    """Writes an agent into a file.

    Raises:
        ArchiveError: The file cannot be written.
    """
    content = json.dumps({"scripted": asdict(agent)}).encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ArchiveError(f"cannot write {path.name}: {error.strerror}") from error
    return ExportedAgent(path=path, num_bytes=len(content), num_tokens=agent.num_tokens)


def read_agent(path: Path) -> ScriptedAgent:
    """The agent in a file.

    Raises:
        ArchiveError: It is none that a script has written.
    """
    try:
        with path.open("rb") as file:
            facts = json.loads(file.read(MAX_FILE_BYTES))["scripted"]
        agent = ScriptedAgent(**facts)
        if {type(value) for value in facts.values()} != {str, int}:
            raise TypeError("facts are text and counts")
    except OSError as error:
        raise ArchiveError(f"cannot read {path.name}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ArchiveError(f"{path.name} holds no scripted agent") from error
    return agent
