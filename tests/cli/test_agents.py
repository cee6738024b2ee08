"""``stoker agents`` as a person types it, against an API on a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.api.settings import ApiSettings
from engine.agent_commands import EvictAgent, ForkAgent, PinAgent
from engine.snapshot import AgentRow, AgentStatus, DiskRow, MissCause, MissRow, TurnRow
from tests.api.conftest import Served, serving
from tests.cli.test_cli import loaded_by, stoker

REVIEW_BOT = AgentRow(
    agent_id="review/bot",
    protocol="openai",
    status=AgentStatus.IDLE,
    pinned=True,
    num_context_tokens=6800,
    max_context_tokens=8192,
    num_prompt_tokens=6790,
    num_cached_tokens=5000,
    num_turns=31,
    hot_bytes=319_000_000,
    warm_bytes=200_000_000,
    shared_bytes=189_000_000,
    ttft_s=0.22,
    idle_s=251.0,
    miss=MissRow(
        num_hot_tokens=4000,
        num_warm_tokens=1000,
        num_lost_tokens=1700,
        num_new_tokens=90,
        cause=MissCause.CHANGED_TEXT,
        part="system",
        changed_token=1012,
    ),
    turns=(
        TurnRow(number=30, num_prompt_tokens=6400, num_context_tokens=6410),
        TurnRow(
            number=31,
            num_prompt_tokens=6790,
            num_context_tokens=6800,
            num_cached_tokens=5000,
            ttft_s=0.22,
            resumable=True,
        ),
    ),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("data")
    with serving(settings=ApiSettings(port=0, transfer_folder=folder)) as served:
        yield served


@pytest.fixture
def served(shared: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A running Stoker whose port is in the settings."""
    shared.engine.reset()
    agents = (REVIEW_BOT, *shared.engine.snapshot.agents)
    shared.engine.snapshot = replace(shared.engine.snapshot, agents=agents)
    monkeypatch.setenv("STOKER_PORT", str(shared.server.port))
    return shared


def said(*arguments: str) -> str:
    run = stoker("agents", *arguments)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def complaint(*arguments: str, status: int = 1, **variables: str) -> str:
    run = stoker("agents", *arguments, **variables)
    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.startswith("stoker: ")
    assert run.stderr.count("\n") == 1
    return run.stderr


def test_list_shows_each_agent_in_a_line(served: Served) -> None:
    lines = said("list").splitlines()
    assert lines[0].split() == [
        "agent",
        "state",
        "context",
        "hot",
        "disk",
        "hit",
        "turns",
        "last",
        "miss",
    ]
    cells = lines[1].split()
    assert cells[:4] == ["review/bot", "idle", "4m,", "pinned"]
    assert cells[4:] == ["6.8K/8K", "319M", "200M", "74%", "31", "system"]
    names = [line.split()[0] for line in lines[1:]]
    assert names == ["review/bot", "repo-a", "session/sub", "nightly"]
    assert "on disk" in lines[4]


def test_list_as_json_is_what_the_api_says(served: Served) -> None:
    assert json.loads(said("list", "--json")) == served.http.get("/v1/agents").json()


def test_an_empty_list_says_what_makes_agents_appear(served: Served) -> None:
    served.engine.snapshot = replace(served.engine.snapshot, agents=())
    assert "when clients send their first turn" in said("list")


def test_show_explains_the_last_turn_and_lists_the_history(served: Served) -> None:
    text = said("show", "review/bot")
    for words in (
        "idle 4m, pinned",
        "6,800 of 8,192 tokens",
        "319M, 189M of it shared",
        "6,790 prompt tokens: 4,000 from memory, 1,000 from disk, 1,790 computed",
        "system changed at token 1012: 1700 tokens",
    ):
        assert words in text
    turns = [line.split() for line in text.splitlines()[-2:]]
    assert [turn[0] for turn in turns] == ["30", "31"]
    assert [turn[-2] for turn in turns] == ["-", "yes"]
    assert json.loads(said("show", "review/bot", "--json"))["miss"]["part"] == "system"


def test_actions_say_what_came_of_them(served: Served) -> None:
    assert said("evict", "repo-a") == (
        "repo-a evicted, 4.1K freed; 256 of 512 tokens stay on disk\n"
    )
    assert isinstance(served.engine.commands[-1], EvictAgent)
    assert said("warm", "nightly") == "nightly is in memory, 7,420 tokens\n"
    assert said("pin", "review/bot") == "review/bot pinned\n"
    assert said("unpin", "review/bot") == "review/bot unpinned\n"
    command = served.engine.commands[-1]
    assert isinstance(command, PinAgent)
    assert command.agent_id == "review/bot"
    assert said("pause", "review/bot") == "review/bot paused\n"
    assert said("resume", "review/bot") == "review/bot goes on\n"
    assert said("priority", "review/bot", "-1") == "review/bot has priority -1\n"
    assert said("abort", "review/bot") == "0 turns of review/bot aborted\n"
    assert said("rm", "review/bot") == "review/bot removed, 2.0K freed\n"
    assert json.loads(said("rm", "nightly", "--json"))["freed_bytes"] == 2048


def test_fork_at_a_turn_under_a_name(served: Served) -> None:
    assert said("fork", "review/bot", "--turn", "31", "--id", "again") == (
        "review/bot forked after turn 31 as again\n"
    )
    command = served.engine.commands[-1]
    assert isinstance(command, ForkAgent)
    assert (command.agent_id, command.fork_id, command.turn) == ("review/bot", "again", 31)


def test_an_agent_goes_into_a_file_and_comes_back(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert said("export", "review/bot") == "review/bot exported, 22B in review-bot.stoker-agent\n"
    path = tmp_path / "review-bot.stoker-agent"
    assert path.read_bytes() == b"archive of review/bot\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "add --force" in complaint("export", "review/bot")
    said("export", "review/bot", str(path), "--force")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]

    assert "taken" in complaint("import", str(path))
    assert said("import", str(path), "--id", "copy/2") == "copy/2 imported, 512 tokens on disk\n"
    assert served.engine.snapshot.agent("copy/2") is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nobody"], "no agent 'nobody'"),
        (["evict", "session/sub"], "turn in progress"),
        (["warm", "repo-a"], "nothing of 'repo-a' is on disk"),
        (["fork", "repo-a", "--id", "nightly"], "taken"),
        (["fork", "repo-a", "--turn", "0"], "must be 1 or more"),
        (["fork", "repo-a", "--turn", "x"], "--turn"),
        (["priority", "repo-a", "3"], "must be -2 to 2, not 3"),
        (["priority", "repo-a"], "priority"),
        (["pause", "nobody"], "no agent 'nobody'"),
        (["export", "nobody", "x.stoker-agent"], "no agent 'nobody'"),
        (["import", "/no/such/file"], "cannot read /no/such/file"),
        (["import", "pyproject.toml"], "no archive of an agent"),
        (["rm"], "id"),
        ([], "command"),
        (["list", "--url", "ftp://x"], "it is like http://127.0.0.1:8000"),
        (["list", "--url", "http://127.0.0.1:99999"], "is no address"),
    ],
)
def test_a_users_error_is_one_line_and_exit_1(
    served: Served, arguments: list[str], words: str
) -> None:
    assert words in complaint(*arguments)
    assert not Path("x.stoker-agent").exists()


def test_without_a_disk_tier_it_is_said_what_to_do(served: Served, tmp_path: Path) -> None:
    served.engine.snapshot = replace(served.engine.snapshot, disk=DiskRow())
    assert "set kv_disk_bytes" in complaint("export", "repo-a", str(tmp_path / "a"))


def test_nobody_at_the_address_is_said_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = complaint("list", "--port", str(port))
    assert f"no Stoker answers at http://127.0.0.1:{port}" in text
    assert "start one with `stoker`" in text


def test_somebody_else_at_the_address_is_a_system_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        url = f"127.0.0.1:{server.getsockname()[1]}"
        assert "is no Stoker" in complaint("list", "--url", url, status=2)
        thread.join(5)


def test_the_key_comes_from_the_flag_or_the_environment(tmp_path: Path) -> None:
    with serving(settings=ApiSettings(port=0, api_key="hunter2")) as served:
        assert "STOKER_API_KEY" in complaint("list", "--url", served.url)
        assert "STOKER_API_KEY" in complaint("list", "--url", served.url, "--key", "wrong")
        assert "repo-a" in said("list", "--url", served.url, "--key", "hunter2")
        run = stoker("agents", "list", "--url", served.url, STOKER_API_KEY="hunter2")
        assert "repo-a" in run.stdout


def test_help_shows_every_action_and_loads_nothing_heavy() -> None:
    text = stoker("agents", "--help").stdout
    for word in ("list", "show", "evict", "warm", "pin", "fork", "export", "import", "rm"):
        assert f"\n    {word} " in text
    assert "stoker agents fork review-bot --turn 12" in text
    program = "import contextlib, app.cli\nwith contextlib.suppress(SystemExit): app.cli.main"
    assert loaded_by(f"{program}(['agents', '--help'])") == set()


def test_an_action_loads_nothing_heavy(served: Served) -> None:
    assert loaded_by("import app.cli; app.cli.main(['agents', 'list'])") == set()
