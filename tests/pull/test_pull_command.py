from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.cli import main
from app.pull.progress import Meter, PullProgress
from app.pull_command import progress_words
from tests.pull.hub_stand_in import COMMIT, HubStandIn, falls_silent

FIRST = "model-00001-of-00002.safetensors"


@pytest.fixture(autouse=True)
def _endpoint(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")


def test_model_is_pulled_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "org/name"]) == 0
    told = capsys.readouterr()
    assert f"org/name is here, at commit {COMMIT} (2" in told.out
    assert "stoker --model org/name" in told.out
    assert "100%" not in told.out
    assert FIRST in told.err

    assert main(["models", "list"]) == 0
    assert "org/name" in capsys.readouterr().out


def test_second_pull_says_that_it_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "pull", "org/name", "--quiet"])
    told = capsys.readouterr()
    assert told.err == ""

    assert main(["models", "pull", f"org/name@{COMMIT}", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["model_id"], data["commit"], data["new_bytes"]) == ("org/name", COMMIT, 0)
    assert Path(data["path"], FIRST).is_file()


@pytest.mark.parametrize(
    "name",
    ["name", "a/b/c", "../x", "org/..", "/org/name", "org/name@", "org/name@../x", "org/a b", "",
     "org/name@a//b", "org--x/name", "org/name@\x1b[2J", "-org/name"],
)  # fmt: skip
def test_what_names_no_model_is_the_users_error(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", "--", name]) == 1
    assert "name it as ORG/NAME or ORG/NAME@REVISION" in capsys.readouterr().err


def test_unknown_model_is_the_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "org/other"]) == 1
    assert "has no 'org/other'" in capsys.readouterr().err
    assert main(["models", "pull", "org/name@v9"]) == 1
    assert "no such revision of 'org/name' at 'v9'" in capsys.readouterr().err


def test_hub_that_fails_is_the_systems_error(
    hub: HubStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fail("config.json", lambda handler: handler.send(b"x" * len(hub.files["config.json"])))

    assert main(["models", "pull", "org/name"]) == 2
    assert "config.json came damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set"),
        ("HF_ENDPOINT", "hub.example.org", "is not an address like"),
        ("HF_ENDPOINT", "ftp://hub.example.org", "is not an address like"),
        ("HF_ENDPOINT", "http://me:pw@hub.example.org", "plain address"),
        ("HF_ENDPOINT", "http://[", "is not an address like"),
        ("HF_TOKEN", "a\nb", "characters that no token has"),
    ],
)
def test_environment_that_cannot_be_used_is_refused(
    variable: str,
    value: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)

    assert main(["models", "pull", "org/name"]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "pw" not in said


def test_token_does_not_cross_the_network_unencrypted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example.org")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert main(["models", "pull", "org/name"]) == 1
    said = capsys.readouterr().err
    assert "unencrypted" in said
    assert "hf_secret" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_pull_goes_on_with_the_same_command(
    hub: HubStandIn, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()
    hub.fail(FIRST, falls_silent(release))
    blobs = Path(os.environ["HF_HUB_CACHE"]) / "models--org--name" / "blobs"
    checksum = hashlib.sha256(hub.files[FIRST]).hexdigest()
    partial = blobs / f"{checksum}.stoker-partial"
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "models", "pull", "org/name"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not partial.exists() or partial.stat().st_size < 10:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    release.set()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on with it" in said
    assert not (blobs.parent / "snapshots").exists()

    assert main(["models", "pull", "org/name"]) == 0
    assert [span for path, span, _ in hub.seen if path.endswith(FIRST)] == ["", "bytes=10-"]


def test_progress_tells_share_rate_and_time_left() -> None:
    progress = PullProgress(
        file="model.safetensors",
        num_done_bytes=1_200_000_000,
        num_total_bytes=4_000_000_000,
        bytes_per_s=40e6,
    )

    assert progress_words(progress) == " 30% 1.2G of 4.0G  40M/s  1m left  model.safetensors"


def test_rate_is_of_late_and_leaves_out_what_was_here() -> None:
    told: list[PullProgress] = []
    now = [0.0]
    meter = Meter(told.append, lambda: now[0])
    meter.expect(10_000)
    meter.begin("a", 5000)
    for _ in range(40):
        now[0] += 1
        meter.add(100)

    assert told[-1].num_done_bytes == 9000
    assert told[-1].bytes_per_s == pytest.approx(100)
    assert told[-1].eta_s == pytest.approx(10)
    assert told[0].eta_s is None
