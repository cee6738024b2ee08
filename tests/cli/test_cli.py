from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from app.version import __version__

HEAVY = (
    "mlx",
    "mlx_lm",
    "fastapi",
    "starlette",
    "uvicorn",
    "textual",
    "numpy",
    "tokenizers",
    "llguidance",
)


def stoker(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs the command with nothing connected that is a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )


def loaded_by(program: str) -> set[str]:
    """The heavy packages that a program has loaded at its end."""
    report = f"\nimport sys; print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", program + report], capture_output=True, text=True, check=True
    )
    return set(run.stdout.rpartition("LOADED")[2].split())


def test_help_shows_every_command_and_an_example() -> None:
    text = stoker("--help").stdout

    for word in ("serve", "demo", "generate", "doctor", "config", "examples:", "--port"):
        assert word in text


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    run = f"with contextlib.suppress(SystemExit): app.cli.main({arguments!r})"
    program = f"import contextlib, app.cli\n{run}"

    assert loaded_by(program) == set()


def test_config_show_loads_nothing_heavy() -> None:
    assert loaded_by("import app.cli; app.cli.main(['config', 'show'])") == set()


def test_dashboard_loads_no_engine_before_it_paints() -> None:
    assert loaded_by("import app.dashboard.app") <= {"textual"}


def test_version() -> None:
    assert stoker("--version").stdout == f"stoker {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--port", "9000"], ["demo"]])
def test_without_a_terminal_one_line_names_the_way_out(arguments: list[str]) -> None:
    run = stoker(*arguments)

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "`stoker serve`" in run.stderr


def test_dashboard_that_nobody_could_see_is_refused(tmp_path: Path) -> None:
    """A terminal for input and output, but not where the dashboard draws."""
    outer, inner = pty.openpty()
    with (tmp_path / "log").open("w+") as log:
        run = subprocess.run(
            [sys.executable, "-m", "app.cli"], stdin=inner, stdout=inner, stderr=log, timeout=60
        )
        log.seek(0)
        text = log.read()
    os.close(inner)
    os.close(outer)

    assert run.returncode == 1
    assert "needs a terminal" in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "x", "config", "show"], "--port must be a number"),
        (["config", "show", "--port", "x"], "--port must be a number"),
        (["config", "show", "--no-such-flag"], "--no-such-flag"),
        (["config"], "command"),
        (["fly"], "fly"),
        (["generate"], "prompt"),
        (["generate", "  "], "the prompt is empty"),
        (["generate", "hi", "--max-tokens", "0"], "max_tokens must be between 1"),
        (["generate", "hi", "--temperature", "-1"], "temperature must be between"),
        (["serve", "--allow-remote"], "needs a key"),
        (["serve", "--model", "/no/such"], "--model: '/no/such' is not a folder"),
        (["generate", "hi", "--model", "/no/such"], "use 'bundled'"),
    ],
)
def test_users_error_is_one_line_and_exit_1(arguments: list[str], complaint: str) -> None:
    run = stoker(*arguments)

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("stoker: ")
    assert run.stderr.count("\n") == 1
    assert complaint in run.stderr


def test_bad_settings_file_is_one_line_and_exit_1(stoker_home: Path) -> None:
    (stoker_home / "stoker.toml").write_text("prot = 1")

    run = stoker("config", "show")

    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "did you mean 'port'?" in run.stderr


def test_config_show_says_where_values_come_from(stoker_home: Path) -> None:
    (stoker_home / "stoker.toml").write_text("theme = 'stoker-light'")

    lines = stoker("config", "show", "--port", "9000", STOKER_MAX_WAITING="5").stdout.splitlines()

    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["port"][1:] == ["9000", "--port"]
    assert rows["max_waiting"][1:] == ["5", "STOKER_MAX_WAITING"]
    assert rows["theme"][1:] == ["stoker-light", str(stoker_home / "stoker.toml")]
    assert rows["host"][1:] == ["127.0.0.1", "default"]
    assert rows["data_dir"][1] == str(stoker_home)


def test_config_show_as_json_hides_the_key() -> None:
    run = stoker("--port", "9000", "config", "show", "--json", STOKER_API_KEY="hunter2")

    settings = json.loads(run.stdout)["settings"]
    assert settings["port"] == {"value": 9000, "origin": "--port"}
    assert settings["api_key"]["origin"] == "STOKER_API_KEY"
    assert "hunter2" not in run.stdout


def test_flag_after_the_command_outranks_the_same_before_it() -> None:
    run = stoker("--port", "1", "config", "show", "--port", "2", "--json")

    assert json.loads(run.stdout)["settings"]["port"]["value"] == 2


def test_reader_that_stops_reading_is_no_error() -> None:
    program = f"{sys.executable} -m app.cli config show | head -n 1"
    run = subprocess.run(["sh", "-c", program], capture_output=True, text=True, timeout=60)

    assert run.stderr == ""
    assert run.stdout.startswith("setting")
