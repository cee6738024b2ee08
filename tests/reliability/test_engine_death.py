"""The engine dies: clients and supervisors are told, and a headless process exits with 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

from benchmarks.servers import await_ready, free_port
from tests.reliability.faulty import FAULTY, LONG_PROMPT


def test_a_headless_process_ends_with_its_engine(tmp_path: Path, bundled_models_dir: Path) -> None:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", FAULTY, "serve", "--quiet", "--port", str(port)],
        env={**os.environ, "STOKER_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        await_ready(port)
        body = {
            "stream": True,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": LONG_PROMPT}],
        }
        url = f"http://127.0.0.1:{port}/v1/messages"
        with httpx.stream("POST", url, json=body, timeout=120, trust_env=False) as reply:
            assert reply.status_code == 200
            text = "".join(reply.iter_text())
        last = json.loads(text.strip().split("\n\n")[-1].split("data: ")[1])
        assert last["type"] == "error"
        assert "the device is gone" in last["error"]["message"]
        assert process.wait(60) == 2
        assert process.stderr is not None
        words = process.stderr.read()
        assert "the engine failed: RuntimeError: the device is gone" in words
        assert "Traceback" not in words
    finally:
        process.kill()
        process.wait(10)
