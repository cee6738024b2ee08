"""``stoker launch`` as a person types it: programs on the PATH stand in for the clients."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.api.settings import ApiSettings
from benchmarks.servers import free_port
from engine.snapshot import EngineStatus, ModelRow
from tests.api.conftest import Served, serving
from tests.cli.stand_ins import PROGRAMS
from tests.cli.stand_ins import home as home
from tests.cli.test_cli import loaded_by, stoker


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(shared: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A running Stoker whose port is in the settings."""
    shared.engine.reset()
    monkeypatch.setenv("STOKER_PORT", str(shared.server.port))
    return shared


def with_context(served: Served, num_tokens: int) -> None:
    model = ModelRow(model_id="tiny-words", max_context_tokens=num_tokens)
    served.engine.snapshot = replace(served.engine.snapshot, model_detail=model)


def seen_by(client: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """What a client was started with, and that nothing was said about it."""
    run = stoker("launch", client, *arguments, **variables)
    assert (run.returncode, run.stderr) == (0, "")
    seen: dict[str, Any] = json.loads(run.stdout)
    return seen


def overrides_of(arguments: list[str]) -> dict[str, str]:
    """The ``-c`` flags in front of Codex's own arguments."""
    pairs = {}
    while arguments[:1] == ["-c"]:
        name, _, value = arguments[1].partition("=")
        pairs[name] = value
        arguments = arguments[2:]
    return pairs


def test_claude_code_is_told_where_what_and_how_long(served: Served) -> None:
    seen = seen_by("claude", "--", "-p", "two words", "--", "-x")

    told = seen["environment"]
    assert seen["arguments"] == ["-p", "two words", "--", "-x"]
    assert told["ANTHROPIC_BASE_URL"] == served.url
    assert told["ANTHROPIC_API_KEY"] == "local"
    for name in ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"):
        assert told[name] == "tiny-words"
    assert told["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "400000"
    assert told["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "32000"
    assert told["CLAUDE_CODE_ATTRIBUTION_HEADER"] == "0"
    assert told["MAX_THINKING_TOKENS"] == "0"
    assert told["API_TIMEOUT_MS"] == "3000000"
    assert told["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"


def test_what_would_send_claude_code_elsewhere_is_taken_away(served: Served) -> None:
    seen = seen_by("claude", ANTHROPIC_AUTH_TOKEN="mine", CLAUDE_CODE_USE_BEDROCK="1", EDITOR="ed")

    assert "ANTHROPIC_AUTH_TOKEN" not in seen["environment"]
    assert "CLAUDE_CODE_USE_BEDROCK" not in seen["environment"]
    assert seen["environment"]["EDITOR"] == "ed"


def test_codex_is_told_by_flags_in_front_of_its_own(served: Served) -> None:
    seen = seen_by("codex", "--", "exec", "hi")

    told = overrides_of(seen["arguments"])
    assert seen["arguments"][-2:] == ["exec", "hi"]
    assert told["model_provider"] == '"stoker"'
    assert told["model_providers.stoker.base_url"] == f'"{served.url}/v1"'
    assert told["model_providers.stoker.wire_api"] == '"responses"'
    assert told["model"] == '"tiny-words"'
    assert told["model_context_window"] == "400000"
    key_variable = told["model_providers.stoker.env_key"].strip('"')
    assert seen["environment"][key_variable] == "local"


def test_opencode_is_told_by_one_variable(served: Served) -> None:
    seen = seen_by("opencode", "--", "run", "hi")

    told = json.loads(seen["environment"]["OPENCODE_CONFIG_CONTENT"])
    provider = told["provider"]["stoker"]
    assert seen["arguments"] == ["run", "hi"]
    assert told["model"] == told["small_model"] == "stoker/tiny-words"
    assert provider["npm"] == "@ai-sdk/openai-compatible"
    assert provider["options"]["baseURL"] == f"{served.url}/v1"
    assert provider["models"]["tiny-words"]["limit"] == {"context": 400_000, "output": 32_000}


@pytest.mark.parametrize("client", PROGRAMS)
def test_a_home_is_left_as_it_was(client: str, served: Served, home: Path) -> None:
    before = sorted(home.rglob("*"))

    seen_by(client)

    assert sorted(home.rglob("*")) == before


def test_a_small_context_starts_claude_code_bare_and_says_so(served: Served) -> None:
    with_context(served, 8192)

    run = stoker("launch", "claude", "--", "-p", "hi")

    seen = json.loads(run.stdout)
    assert seen["arguments"] == ["--bare", "-p", "hi"]
    assert seen["environment"]["DISABLE_AUTO_COMPACT"] == "1"
    assert "8,192 tokens" in run.stderr
    assert "--bare" in run.stderr


def test_a_client_that_is_bare_already_is_not_made_so_twice(served: Served) -> None:
    with_context(served, 8192)

    assert seen_by("claude", "--", "--bare")["arguments"] == ["--bare"]


def test_a_small_context_is_told_to_users_of_the_others(served: Served) -> None:
    with_context(served, 8192)

    run = stoker("launch", "opencode")

    told = json.loads(json.loads(run.stdout)["environment"]["OPENCODE_CONFIG_CONTENT"])
    assert "may not fit" in run.stderr
    assert told["compaction"] == {"auto": False}
    assert "may not fit" in stoker("launch", "codex").stderr


def test_a_proxy_is_kept_out_of_the_way(served: Served) -> None:
    plain = seen_by("claude", NO_PROXY="intranet")
    proxied = seen_by("claude", HTTPS_PROXY="http://proxy:1", NO_PROXY="intranet")

    assert plain["environment"]["NO_PROXY"] == "intranet"
    assert proxied["environment"]["NO_PROXY"] == "intranet,127.0.0.1"


def test_the_status_of_the_client_is_that_of_the_command(served: Served) -> None:
    assert stoker("launch", "codex", STAND_IN_STATUS="43").returncode == 43
    assert stoker("launch", "codex", "--", "--end-by-signal").returncode == 128 + signal.SIGKILL


def test_a_signal_is_passed_on(served: Served) -> None:
    command = [sys.executable, "-m", "app.cli", "launch", "claude", "--", "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.terminate()
        assert process.wait(20) == 7


def test_an_overriding_settings_file_is_named(served: Served, home: Path) -> None:
    folder = home / ".claude"
    folder.mkdir()
    settings = {"env": {"ANTHROPIC_BASE_URL": "https://elsewhere", "ANTHROPIC_MODEL": "tiny-words"}}
    (folder / "settings.json").write_text(json.dumps(settings))

    run = stoker("launch", "claude")

    assert f"{folder / 'settings.json'} sets ANTHROPIC_BASE_URL in its `env`" in run.stderr
    assert "ANTHROPIC_MODEL" not in run.stderr
    assert stoker("launch", "codex").stderr == ""


def test_a_client_that_is_not_there_is_one_line_with_the_way_to_it(home: Path) -> None:
    (home / "bin" / "codex").unlink()

    run = stoker("launch", "codex")

    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.count("\n") == 1
    assert "npm install -g @openai/codex" in run.stderr


def test_lines_to_paste_start_what_the_command_would_have(served: Served) -> None:
    run = stoker("launch", "claude", "--print-env", "--", "-p", "it's")
    pasted = subprocess.run(
        ["/bin/sh", "-c", run.stdout], capture_output=True, text=True, check=True
    )

    seen, wanted = json.loads(pasted.stdout), seen_by("claude", "--", "-p", "it's")
    assert seen["arguments"] == wanted["arguments"]
    for name, value in wanted["environment"].items():
        if name.startswith(("ANTHROPIC", "CLAUDE", "API", "MAX")):
            assert seen["environment"][name] == value


def test_lines_to_paste_as_json(served: Served, home: Path) -> None:
    (home / "bin" / "codex").unlink()

    shown = json.loads(stoker("launch", "codex", "--print-env", "--json").stdout)

    assert shown["url"] == served.url
    assert shown["model"] == "tiny-words"
    assert shown["max_context_tokens"] == 400_000
    assert shown["command"][0] == "codex"


def test_a_key_is_asked_for_and_sent() -> None:
    with serving(settings=ApiSettings(port=0, api_key="s3cret")) as served:
        refused = stoker("launch", "claude", "--url", served.url)
        told = seen_by("claude", "--url", served.url, "--key", "s3cret")["environment"]
        set_up = seen_by("claude", "--url", f"{served.url}/", STOKER_API_KEY="s3cret")

    assert refused.returncode == 1
    assert "--key" in refused.stderr
    assert told["ANTHROPIC_API_KEY"] == set_up["environment"]["ANTHROPIC_API_KEY"] == "s3cret"
    assert set_up["environment"]["ANTHROPIC_BASE_URL"] == served.url


def test_a_stoker_that_loads_is_waited_for(served: Served) -> None:
    served.engine.set_status(EngineStatus.LOADING, "reading weights", 0.5)
    command = [sys.executable, "-m", "app.cli", "launch", "claude"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "stoker: reading weights\n"
        assert process.poll() is None
        served.engine.set_status(EngineStatus.SERVING)
        assert process.wait(20) == 0


def test_a_stoker_that_failed_is_not_talked_to(served: Served) -> None:
    served.engine.set_status(EngineStatus.FAILED, "no weights")

    run = stoker("launch", "claude")

    assert run.returncode == 2
    assert "no weights" in run.stderr


def test_what_is_no_stoker_is_not_talked_to() -> None:
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port := free_port())]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as other:
        try:
            await_listening(port)
            run = stoker("launch", "claude", "--port", str(port))
        finally:
            other.terminate()

    assert run.returncode == 1
    assert f"127.0.0.1:{port} is no Stoker" in run.stderr


def await_listening(port: int) -> None:
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("nobody listens")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["claude", "--json"], "--json goes with --print-env"),
        (["emacs"], "invalid choice: 'emacs'"),
        (["claude", "-p", "hi"], "unrecognized arguments"),
        (["claude", "--url", "ftp://x"], "is no address"),
        (["claude", "--url", "http://127.0.0.1:9"], "no Stoker answers at http://127.0.0.1:9"),
        (["claude", "--port", "9", "--print-env"], "no Stoker runs at http://127.0.0.1:9"),
    ],
)
def test_mistakes_are_one_line_and_exit_1(arguments: list[str], words: str) -> None:
    run = stoker("launch", *arguments)

    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.count("\n") == 1
    assert words in run.stderr


def test_help_loads_nothing_heavy() -> None:
    run = "with contextlib.suppress(SystemExit): app.cli.main(['launch', '--help'])"

    assert loaded_by(f"import contextlib, app.cli\n{run}") == set()
