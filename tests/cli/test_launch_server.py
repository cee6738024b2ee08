"""The Stoker that ``stoker launch`` starts where none runs, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.servers import free_port
from tests.cli.stand_ins import home as home
from tests.cli.test_cli import stoker


@pytest.mark.parametrize("port", ["", "0"])
def test_a_server_is_started_where_none_runs_and_ends_with_the_client(
    port: str, stoker_home: Path, bundled_models_dir: Path, tmp_path: Path
) -> None:
    (stoker_home / "models").symlink_to(bundled_models_dir)
    # What lies in the folder of the client is none of the server's business.
    for name in ("app", "argparse"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')")
    port = port or str(free_port())
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from app.cli import main"

    run = subprocess.run(
        [
            *(sys.executable, "-P", "-c", f"{program}; sys.exit(main())", str(Path.cwd())),
            *("launch", "claude", "--port", port, "--log-level=debug", "--", "--knock"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["ready"] == 200
    assert seen["environment"]["ANTHROPIC_MODEL"] == "SmolLM2-135M-Instruct"
    assert "stoker: reading weights" in run.stderr
    _, _, bound = seen["environment"]["ANTHROPIC_BASE_URL"].rpartition(":")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(bound))) != 0
    log = (stoker_home / "logs" / "stoker.log").read_text()
    assert "DEBUG" in log


def test_a_killed_launcher_takes_its_server_along(
    stoker_home: Path, bundled_models_dir: Path
) -> None:
    (stoker_home / "models").symlink_to(bundled_models_dir)
    port = free_port()
    command = [sys.executable, "-m", "app.cli", "launch", "claude", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--", "--wait"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"waiting\n"
        children = psutil.Process(launcher.pid).children()
        (server,) = [each for each in children if "serve" in each.cmdline()]
        (client,) = [each for each in children if each != server]
        launcher.kill()
        try:
            server.wait(30)
            assert client.is_running()
        finally:
            for each in (client, server):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
    assert "Traceback" not in (stoker_home / "logs" / "stoker.log").read_text()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    run = stoker("launch", "claude", "--port", str(free_port()), "--model", str(tmp_path))

    assert (run.returncode, run.stdout) == (1, "")
    assert "is not a folder with a config.json" in run.stderr
