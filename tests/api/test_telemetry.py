from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.logging import LogCaptureHandler
from prometheus_client.parser import text_string_to_metric_families
from structlog.contextvars import bound_contextvars

from app.logs import LogRing, set_up_logging
from engine.telemetry import Telemetry
from tests.api.conftest import Serve, Served
from tests.api.word_engine import MODEL_ID, Script

USER: Any = {"role": "user", "content": "a secret prompt"}


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[LogRing]:
    """Logging as the product sets it up; pytest's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield set_up_logging(tmp_path / "logs", "info")
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    logging.raiseExceptions = True


def request_lines(served: Served, ring: LogRing, num_lines: int) -> list[str]:
    def lines() -> list[str]:
        return [line.text for line in ring.lines if line.source == "stoker.api.request"]

    assert served.engine.wait_for(lambda: len(lines()) >= num_lines)
    return lines()


def test_a_request_leaves_one_line_without_its_prompt(
    serve: Serve, ring: LogRing, tmp_path: Path
) -> None:
    served = serve()
    body = {"model": "gpt\x1b[2J\n9", "max_tokens": 9, "messages": [USER]}
    reply = served.http.post("/v1/messages", json=body, headers={"X-Agent-ID": "repo-a"})
    assert served.http.get("/admin/state").is_success
    assert served.http.post("/v1/messages", json={}).status_code == 400
    first, second = request_lines(served, ring, 2)
    assert reply.headers["request-id"] in first
    assert "POST /v1/messages 200" in first
    assert f"model='{MODEL_ID}'" in first
    assert "agent='repo-a'" in first
    assert "prompt=32 cached=7 generated=5" in first
    assert "hot=4 warm=3 lost=5 new=20 miss='changed text' part='system'" in first
    assert "changed_at=7 lost_s=0.250" in first
    assert "POST /v1/messages 400" in second
    assert "at least one message" in second
    text = (tmp_path / "logs" / "stoker.log").read_text("utf-8")
    assert first in text
    assert "secret" not in text
    assert "\x1b" not in text
    assert "Paris" not in text


def test_a_client_that_left_is_logged_as_such(serve: Serve, ring: LogRing) -> None:
    served = serve(Script(words=("x",) * 1000, step_s=0.01))
    body = {"model": "", "messages": [USER], "stream": True}
    with served.http.stream("POST", "/v1/messages", json=body) as reply:
        next(reply.iter_bytes())
    (line,) = request_lines(served, ring, 1)
    assert "POST /v1/messages 499" in line


def test_log_files_are_private_and_rotate(ring: LogRing, tmp_path: Path) -> None:
    for number in range(1200):
        logging.getLogger("stoker.test").info("%s %s", number, "x" * 5000)
    files = sorted((tmp_path / "logs").iterdir())
    assert [file.name for file in files] == ["stoker.log", "stoker.log.1"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert len(ring.lines) == 1000
    assert ring.lines[-1].text.startswith("1199 ")


def test_control_characters_and_forged_lines_are_neutralised(ring: LogRing, tmp_path: Path) -> None:
    # A surrogate that pytest captures could not be sent from a worker to the process that reports.
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, LogCaptureHandler)]
    log = logging.getLogger("stoker.test")
    log.warning("one\n2026-01-01 two\x1b[31m\x07\u202e\x85\ud800")
    try:
        raise ValueError("three\n2026-01-01 INFO four\x1b")
    except ValueError:
        log.exception("five")
    lines = (tmp_path / "logs" / "stoker.log").read_text("utf-8").splitlines()
    assert r"one\n2026-01-01 two\x1b[31m\x07\u202e\x85\ud800" in lines[0]
    assert lines[1].endswith("ERROR stoker.test five")
    assert all(line.startswith("    ") for line in lines[2:])
    assert all(line.isprintable() for line in lines)
    assert all(line.text.isprintable() for line in ring.lines)


def test_nothing_reaches_the_terminal(ring: LogRing, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("stoker.test").error("five %d", "not a number")
    logging.getLogger("uvicorn.error").error("six")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def metrics_of(served: Served) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    reply = served.http.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_metrics_show_the_snapshot(served: Served) -> None:
    metrics = metrics_of(served)
    assert metrics["stoker_pool_used_ratio", ()] == 0.75
    assert metrics["stoker_pool_blocks", (("state", "free"),)] == 1
    assert metrics["stoker_queue_depth", ()] == 2
    assert metrics["stoker_batch_running", ()] == 3
    assert metrics["stoker_agents", (("status", "decoding"),)] == 1
    assert metrics["stoker_agents_pinned", ()] == 1
    assert metrics["stoker_agent_evictions_total", ()] == 2
    assert metrics["stoker_evicted_blocks_total", (("tier", "hot"),)] == 7
    assert metrics["stoker_evicted_blocks_total", (("tier", "warm"),)] == 3
    assert metrics["stoker_persist_duration_seconds_bucket", (("le", "0.1"),)] == 5
    assert metrics["stoker_persist_duration_seconds_bucket", (("le", "+Inf"),)] == 6
    assert metrics["stoker_persist_duration_seconds_sum", ()] == 0.5
    assert metrics["stoker_model_load_duration_seconds_count", ()] == 2
    assert metrics["stoker_agents", (("status", "warm"),)] == 1
    assert metrics["stoker_disk_on", ()] == 1
    assert metrics["stoker_disk_used_bytes", ()] == 50
    assert metrics["stoker_disk_budget_bytes", ()] == 80
    assert metrics["stoker_disk_blocks", ()] == 5
    assert metrics["stoker_disk_pending_blocks", ()] == 2
    assert metrics["stoker_disk_quarantined_files_total", ()] == 1
    assert metrics["stoker_generated_tokens_total", ()] == 99
    tiers = {"hot": 500, "warm": 200, "recomputed": 60, "new": 240}
    for tier, num_tokens in tiers.items():
        assert metrics["stoker_prompt_tier_tokens_total", (("tier", tier),)] == num_tokens
    assert metrics["stoker_memory_used_bytes", ()] == 123
    assert metrics["stoker_engine_status", (("status", "serving"),)] == 1
    assert metrics["stoker_engine_status", (("status", "failed"),)] == 0


def test_metrics_count_requests_and_times(serve: Serve) -> None:
    served = serve(Script(step_s=0.05, prefill_s=0.12))
    body = {"model": "some-other-name", "max_tokens": 9, "messages": [USER]}
    headers = {"X-Agent-ID": "a-private-name"}
    for _ in range(2):
        assert served.http.post("/v1/messages", json=body, headers=headers).is_success
    assert served.http.post("/v1/messages", json={}).status_code == 400
    assert served.engine.wait_for(
        lambda: metrics_of(served).get(("stoker_turn_duration_seconds_count", ())) == 2
    )
    metrics = metrics_of(served)
    ok = (("model", MODEL_ID), ("status", "200"))
    assert metrics["stoker_http_requests_total", ok] == 2
    assert metrics["stoker_http_requests_total", (("model", ""), ("status", "400"))] == 1
    assert metrics["stoker_time_to_first_token_seconds_count", ()] == 2
    assert metrics["stoker_queue_wait_seconds_count", ()] == 2
    assert 0.2 < metrics["stoker_time_to_first_token_seconds_sum", ()] < 1.0
    assert 1 <= metrics["stoker_inter_token_seconds_count", ()] <= 8
    text = served.http.get("/metrics").text
    assert "a-private-name" not in text
    assert "some-other-name" not in text


def test_a_model_name_cannot_break_the_metrics_or_the_headers(serve: Serve) -> None:
    served = serve()
    odd = 'mod"el\nü\r\nx: y'
    served.engine.snapshot = served.engine.snapshot.__class__(
        status=served.engine.snapshot.status, model=odd
    )
    reply = served.http.post("/v1/messages", json={"model": "", "messages": [USER]})
    assert reply.status_code == 200
    assert reply.json()["model"] == odd
    assert reply.headers["x-stoker-model"] == 'mod"el????x: y'
    assert served.engine.wait_for(
        lambda: any(("model", odd) in labels for _, labels in metrics_of(served))
    )


@pytest.fixture
def json_log(ring: LogRing, tmp_path: Path) -> Path:
    """The log file, one JSON object a line."""
    assert ring.lines == ()
    set_up_logging(tmp_path / "json", "info", "json")
    return tmp_path / "json" / "stoker.log"


def objects(path: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [entry for entry in entries if entry["logger"].startswith("stoker.")]


def test_a_log_for_programs_has_an_object_for_each_request(serve: Serve, json_log: Path) -> None:
    served = serve()
    body = {"model": "", "max_tokens": 9, "messages": [USER]}
    reply = served.http.post("/v1/messages", json=body, headers={"X-Agent-ID": "repo-a"})
    assert served.engine.wait_for(lambda: len(objects(json_log)) == 1)
    (entry,) = objects(json_log)
    assert entry["request_id"] == reply.headers["request-id"]
    assert entry["logger"] == "stoker.api.request"
    assert entry["level"] == "info"
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/v1/messages", 200)
    assert (entry["agent"], entry["model"]) == ("repo-a", MODEL_ID)
    assert (entry["prompt"], entry["cached"], entry["generated"]) == (32, 7, 5)
    assert (entry["miss"], entry["changed_at"], entry["lost_s"]) == ("changed text", 7, 0.25)
    assert 0 < entry["duration_s"] < 10
    assert entry["time"].endswith("+00:00")
    assert "secret" not in json_log.read_text("utf-8")


def test_a_log_for_programs_keeps_errors_on_one_line(json_log: Path) -> None:
    log = logging.getLogger("stoker.test")
    with bound_contextvars(request_id="req_1"):
        try:
            raise ValueError("three\nfour")
        except ValueError:
            log.exception("five\n%s", "\x1b[31m")
    log.info("plain", extra={"fields": {"kind": "evict", "num_tokens": 7}})
    failure, plain = objects(json_log)
    assert (failure["event"], failure["request_id"]) == ("five\n\x1b[31m", "req_1")
    assert "ValueError: three" in failure["exception"]
    assert "\x1b" not in json_log.read_text("utf-8")
    assert (plain["event"], plain["kind"], plain["num_tokens"]) == ("plain", "evict", 7)


def test_what_is_logged_while_a_request_is_served_has_its_id(ring: LogRing, tmp_path: Path) -> None:
    with bound_contextvars(request_id="req_7"):
        logging.getLogger("stoker.test").warning("half way")
    logging.getLogger("stoker.test").warning("no request")
    logging.getLogger("stoker.test").warning("told", extra={"fields": {"request_id": "req_8"}})
    lines = (tmp_path / "logs" / "stoker.log").read_text("utf-8").splitlines()
    assert [line.partition("stoker.test ")[2] for line in lines] == [
        "half way req_7",
        "no request",
        "told req_8",
    ]


def test_an_event_of_the_engine_is_in_the_log(ring: LogRing) -> None:
    Telemetry(lambda: 0.0).note("evict", "repo-a: 7 tokens", "warning", request_id="req_9")
    assert [(line.level, line.source, line.text) for line in ring.lines] == [
        ("warning", "stoker.engine", "evict: repo-a: 7 tokens")
    ]
