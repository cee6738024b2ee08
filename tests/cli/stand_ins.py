"""Programs on the PATH that stand in for coding agents."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PROGRAMS = ("claude", "codex", "opencode")
STAND_IN = f"""#!{sys.executable}
import json, os, signal, sys, urllib.request
if "--end-by-signal" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
if "--wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("waiting", flush=True)
    signal.pause()
seen = {{"arguments": sys.argv[1:], "environment": dict(os.environ)}}
if "--knock" in sys.argv:
    url = os.environ["ANTHROPIC_BASE_URL"] + "/health/ready"
    seen["ready"] = urllib.request.urlopen(url).status
print(json.dumps(seen))
sys.exit(int(os.environ.get("STAND_IN_STATUS", "0")))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with the clients on the PATH, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        program = folder / name
        program.write_text(STAND_IN)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path
