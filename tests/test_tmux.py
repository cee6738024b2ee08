"""A real terminal: the dashboard as a person sees it in tmux, and what it leaves behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.servers import free_port
from tests.reliability.faulty import FAULTY, LONG_PROMPT
from tests.tmux import CLEAN, Tmux

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
HELP = "Keys, marks and colours"
STOKER = [sys.executable, "-m", "app.cli"]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    terminal = Tmux(tmp_path)
    yield terminal
    terminal.close()


@pytest.fixture
def home(tmp_path: Path, bundled_models_dir: Path) -> Path:
    """A data folder with the bundled model in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "models").symlink_to(bundled_models_dir)
    return folder


def leave(tmux: Tmux, way: str) -> None:
    if way == "q":
        tmux.type("q")
    else:
        tmux.program().terminate()


def ask(port: int, agent: str, text: str) -> str:
    """One turn over HTTP: the reply, or the words of its end."""
    body = {"max_tokens": 8, "stream": True, "messages": [{"role": "user", "content": text}]}
    reply = httpx.post(
        f"http://127.0.0.1:{port}/v1/messages",
        json=body,
        headers={"x-agent-id": agent},
        timeout=120,
        trust_env=False,
    )
    return reply.text


@pytest.mark.parametrize("way", ["q", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_the_demo_is_used_by_keys_and_leaves_the_terminal_as_it_was(tmux: Tmux, way: str) -> None:
    tmux.start([*STOKER, "demo"])
    tmux.until_shows("sort:", "claude repo-a")
    assert tmux.modes != CLEAN
    tmux.type("?")
    tmux.until_shows(HELP)
    tmux.type("Escape")
    tmux.until(lambda screen: HELP not in screen)
    leave(tmux, way)
    tmux.assert_left(0)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["q", "SIGTERM"])
def test_a_real_model_is_used_by_keys_and_leaves_the_terminal_as_it_was(
    tmux: Tmux, way: str, home: Path
) -> None:
    port = free_port()
    tmux.start([*STOKER, "--port", str(port)], {"STOKER_HOME": str(home)})
    tmux.until_shows("● serving", "No agent has called yet", f"127.0.0.1:{port}")
    assert "message_stop" in ask(port, "visitor", "What is the capital of France?")
    tmux.until_shows("agents 1", "visitor", "○ idle")
    tmux.type("e")
    tmux.until_shows("Evict the cache of visitor?")
    tmux.type("y")
    tmux.until_shows("◇ on disk", "evicted")
    tmux.type("u")
    tmux.until_shows("○ idle", "back in memory")
    leave(tmux, way)
    tmux.assert_left(0)


@pytest.mark.slow
def test_an_engine_that_dies_is_told_and_leaves_the_terminal_as_it_was(
    tmux: Tmux, home: Path, tmp_path: Path
) -> None:
    program = tmp_path / "faulty.py"
    program.write_text(FAULTY, encoding="utf-8")
    port = free_port()
    # The program lies elsewhere: Stoker is found from where the terminal was opened.
    environment = {"STOKER_HOME": str(home), "PYTHONPATH": "."}
    tmux.start([sys.executable, str(program), "--port", str(port)], environment)
    tmux.until_shows("● serving")
    assert "the device is gone" in ask(port, "unlucky", LONG_PROMPT)
    tmux.until_shows("✖ failed", "The engine failed and serves nothing", "the device is gone")
    assert "Traceback" not in tmux.screen
    tmux.type("?")
    tmux.until_shows(HELP)
    tmux.type("Escape")
    tmux.until(lambda screen: HELP not in screen)
    tmux.type("q")
    tmux.assert_left(2)
    assert "Traceback" not in tmux.screen
