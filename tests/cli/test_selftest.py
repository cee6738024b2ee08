"""``stoker selftest`` with the real model, well and broken in each of its parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from app import selftest
from app.selftest import SelfTest, SelfTestError
from engine.engine import Engine
from tests.api.conftest import serving
from tests.api.word_engine import Script

CHECKS = ["load", "preload", "decode", "metrics", "cancel"]
_BROKEN_DECODE = """
import sys
from app.cli import main
from engine.runtime.runner import ModelRunner
ModelRunner.decode = lambda self, rows: 1 / 0
sys.exit(main(["selftest"]))
"""


@pytest.fixture
def ready_home(stoker_home: Path, bundled_models_dir: Path) -> Path:
    (stoker_home / "models").symlink_to(bundled_models_dir)
    return stoker_home


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=200, check=False
    )


def test_everything_is_tried_on_the_real_model(ready_home: Path) -> None:
    test = run("-m", "app.cli", "selftest", "--json")
    assert (test.returncode, test.stderr) == (0, "")
    checks: dict[str, Any] = {check["name"]: check for check in json.loads(test.stdout)["checks"]}
    assert list(checks) == CHECKS
    assert all(check["is_well"] for check in checks.values())
    assert "SmolLM2" in checks["load"]["text"]
    assert "from the cache" in checks["decode"]["text"]
    # It runs beside a Stoker: nothing of it is kept.
    assert not list(ready_home.rglob("index.db"))


@pytest.mark.slow
@pytest.mark.usefixtures("ready_home")
def test_what_does_not_work_is_named_and_exits_with_2() -> None:
    test = run("-c", _BROKEN_DECODE)
    assert test.returncode == 2
    assert [line.split()[:2] for line in test.stdout.splitlines()] == [
        ["ok", "load"],
        ["ok", "preload"],
        ["bad", "decode"],
    ]
    assert test.stderr.startswith("stoker: decode: ")
    assert "ZeroDivisionError" in test.stderr


def test_counters_that_stand_still_and_turns_that_go_on_are_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selftest, "SETTLE_LIMIT_S", 0.3)
    with serving(Script(words=("x",) * 2000, step_s=0.001)) as served:
        test = SelfTest(cast(Engine, served.engine), served.server)
        with pytest.raises(SelfTestError, match=r"stoker_turns_total': 5\.0.* instead of .*: 0"):
            test._metrics()
        with pytest.raises(SelfTestError, match="of a client that left was not ended"):
            test._cancel()
