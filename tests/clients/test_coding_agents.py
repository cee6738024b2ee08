"""Claude Code, Codex and opencode as they are installed, against a Stoker that really serves.

Their words are those of a model of 135M parameters and may be silly; the protocol may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.calling_engine import CallingEngine, serving_calls
from tests.clients.coding_agents import ClaudeCode, Codex, CodingAgent, OpenCode, Workplace
from tests.real_server import RealServer, real_server

pytestmark = pytest.mark.clients

AGENTS = pytest.mark.parametrize("agent", [ClaudeCode, Codex, OpenCode])
QUESTIONS = ("What is the capital of France?", "And of Italy?", "And of Spain?")
COMMAND = "echo stoker-$((40 + 2))"
RESULT = "stoker-42"
"""What only a shell that has run the command can know."""


@pytest.fixture(scope="module")
def server(
    bundled_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(bundled_models_dir)
    with real_server(home) as server:
        yield server


class Newcomer:
    """The agent that a client becomes at a server where it has not been before."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._others = {row["agent_id"] for row in server.state()["agents"]}

    def row(self, num_turns: int) -> dict[str, Any]:
        """It, once so many of its turns have ended, or more."""
        found: list[dict[str, Any]] = []

        def has_ended(state: dict[str, Any]) -> bool:
            found[:] = [row for row in state["agents"] if self._is_meant(row["agent_id"])]
            assert len(found) <= 1, found
            return bool(found and found[0]["num_turns"] >= num_turns)

        self._server.await_state(has_ended)
        return found[0]

    def _is_meant(self, agent_id: str) -> bool:
        return agent_id not in self._others and not agent_id.endswith("/side")


@AGENTS
def test_each_turn_of_a_conversation_starts_from_the_one_before(
    agent: Callable[[Workplace], CodingAgent], server: RealServer, tmp_path: Path
) -> None:
    newcomer = Newcomer(server)
    talk = agent(Workplace(tmp_path, str(server.http.base_url)))

    for number, question in enumerate(QUESTIONS, start=1):
        assert talk.ask(question)

        # There are more turns than questions where the model has used a tool in between.
        row = newcomer.row(num_turns=number)
        assert row["miss"]["num_lost_tokens"] == 0
        assert (row["num_cached_tokens"] > 0) == (row["num_turns"] > 1)


@pytest.mark.parametrize(
    ("agent", "tool", "arguments"),
    [
        (ClaudeCode, "Bash", {"command": COMMAND, "description": "Says a word"}),
        (Codex, "exec_command", {"cmd": COMMAND}),
        (OpenCode, "bash", {"command": COMMAND, "description": "Says a word"}),
    ],
)
def test_a_tool_is_run_and_its_result_used(
    agent: Callable[[Workplace], CodingAgent],
    tool: str,
    arguments: dict[str, str],
    tmp_path: Path,
) -> None:
    """The engine is a double that writes the call; the bundled model does not call by itself.

    Everything else is real: the server, the client, its shell.
    """
    engine = CallingEngine(tool, arguments, RESULT)
    with serving_calls(engine) as url:
        answer = agent(Workplace(tmp_path, url)).ask("What does the tool say?")

    assert answer == f"The tool said {RESULT}."
