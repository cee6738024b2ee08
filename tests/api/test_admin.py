from __future__ import annotations

from dataclasses import replace

import pytest

from app.api.admin import StatePage
from engine.agent_commands import EvictAgent, EvictIdle, PinAgent
from engine.commands import AbortAgent, PauseAgent
from engine.snapshot import AgentRow, DiskRow, EngineStatus, from_json
from tests.api.conftest import Served


def test_state_is_exactly_the_snapshot(served: Served) -> None:
    assert from_json(served.http.get("/admin/state").json()) == served.engine.snapshot


def test_an_unchanged_state_is_not_sent_again(served: Served) -> None:
    first = served.http.get("/admin/state")
    known = {"if-none-match": first.headers["etag"]}
    again = served.http.get("/admin/state", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    served.engine.snapshot = replace(served.engine.snapshot, step=2)
    changed = served.http.get("/admin/state", headers=known)
    assert changed.status_code == 200
    assert changed.json()["step"] == 2
    assert served.http.get("/admin/state", headers=known).headers["etag"] != first.headers["etag"]


def test_clocks_are_sent_once_a_second(served: Served) -> None:
    now_s = [0.0]
    page = StatePage(served.engine, lambda: now_s[0])
    known = page.reply(None).headers["etag"]
    served.engine.snapshot = replace(served.engine.snapshot, uptime_s=7.0)
    now_s[0] = 0.9
    assert page.reply(known).status_code == 304
    now_s[0] = 1.0
    reply = page.reply(known)
    assert reply.status_code == 200
    assert b'"uptime_s":7.0' in reply.body


def test_all_idle_agents_are_evicted(served: Served) -> None:
    reply = served.http.post("/admin/evict-idle")
    assert reply.json() == {"freed_bytes": 4096, "num_tokens": 512, "num_disk_tokens": 256}
    assert isinstance(served.engine.commands[-1], EvictIdle)


def test_a_block_tells_what_is_in_it(served: Served) -> None:
    block = served.http.get("/admin/blocks/3").json()
    assert (block["block_id"], block["block_hash"], block["owners"]) == (3, "3fa9", ["repo-a"])
    assert (block["is_on_disk"], block["idle_s"]) == (False, None)


@pytest.mark.parametrize("name", ["4", "-1", "x", "1" * 13, "%D9%A3"])
def test_a_block_that_is_not_there_is_refused(served: Served, name: str) -> None:
    reply = served.http.get(f"/admin/blocks/{name}")
    assert reply.status_code == 400
    assert "block" in reply.json()["error"]["message"]


def test_an_agents_turns_are_aborted(served: Served) -> None:
    reply = served.http.post("/v1/agents/session/sub/abort")
    assert reply.json() == {"agent_id": "session/sub", "num_ended": 1}
    assert isinstance(served.engine.commands[-1], AbortAgent)
    assert served.http.post("/v1/agents/repo-a/abort").json()["num_ended"] == 0


def test_an_agent_is_paused_and_resumed(served: Served) -> None:
    for action, paused in (("pause", True), ("resume", False)):
        reply = served.http.post(f"/v1/agents/session/sub/{action}")
        assert reply.json() == {"agent_id": "session/sub", "paused": paused}
        command = served.engine.commands[-1]
        assert isinstance(command, PauseAgent)
        assert command.paused is paused
    assert served.http.post("/v1/agents/nobody/pause").status_code == 404


def test_an_agents_priority_is_changed(served: Served) -> None:
    reply = served.http.post("/v1/agents/repo-a/priority", json={"priority": -2})
    assert reply.json() == {"agent_id": "repo-a", "priority": -2}
    assert served.http.post("/v1/agents/nobody/priority", json={"priority": 1}).status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "priority: field required"),
        ({"priority": 3}, "priority: must be -2 to 2, not 3"),
        ({"priority": "high"}, "priority: must be an integer"),
        ({"priority": 0.5}, "priority: must be an integer"),
    ],
)
def test_a_priority_that_there_is_not_is_refused(
    served: Served, body: dict[str, object], words: str
) -> None:
    reply = served.http.post("/v1/agents/repo-a/priority", json=body)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


def test_the_batch_window_is_changed(served: Served) -> None:
    reply = served.http.post("/admin/batch-window", json={"window_ms": 2.5})
    assert reply.json() == {"window_ms": 2.5}
    for body in ({}, {"window_ms": -1}, {"window_ms": 10_001}, {"window_ms": "long"}):
        refused = served.http.post("/admin/batch-window", json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]["message"].startswith("window_ms: ")


def test_agents_are_listed_and_shown(served: Served) -> None:
    rows = served.http.get("/v1/agents").json()["data"]
    assert [row["agent_id"] for row in rows] == ["repo-a", "session/sub", "nightly"]
    assert rows[0]["hit_ratio"] == 0.5
    assert rows[0]["miss"] == {
        "num_hot_tokens": 5,
        "num_warm_tokens": 0,
        "num_lost_tokens": 4,
        "num_new_tokens": 1,
        "cause": "evicted",
        "changed_token": None,
        "part": "",
        "lost_s": 0.5,
        "words": "evicted: 4 tokens, 0.5 s",
    }
    assert served.http.get("/v1/agents/repo-a").json() == rows[0]
    assert served.http.get("/v1/agents/session/sub").json()["status"] == "decoding"
    assert served.http.get("/v1/agents/session%2Fsub").json()["pinned"] is True
    assert served.http.get("/v1/agents/nobody").status_code == 404


def test_an_agent_is_evicted(served: Served) -> None:
    reply = served.http.post("/v1/agents/repo-a/evict")
    assert reply.json() == {
        "agent_id": "repo-a",
        "freed_bytes": 4096,
        "num_tokens": 512,
        "num_disk_tokens": 256,
    }
    assert isinstance(served.engine.commands[-1], EvictAgent)


def test_a_busy_agent_is_not_evicted(served: Served) -> None:
    reply = served.http.post("/v1/agents/session/sub/evict", json={})
    assert reply.status_code == 409
    assert "turn in progress" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("action", "pinned"), [("pin", True), ("unpin", False)])
def test_an_agent_is_pinned_and_unpinned(served: Served, action: str, pinned: bool) -> None:
    reply = served.http.post(f"/v1/agents/session/sub/{action}")
    assert reply.json() == {"agent_id": "session/sub", "pinned": pinned}
    command = served.engine.commands[-1]
    assert isinstance(command, PinAgent)
    assert command.pinned is pinned


def test_an_agent_is_warmed(served: Served) -> None:
    reply = served.http.post("/v1/agents/nightly/warm")
    assert reply.status_code == 200
    assert reply.json() == {"agent_id": "nightly", "num_tokens": 7420}


@pytest.mark.parametrize("headers", [{}, {"anthropic-version": "2026-10-21"}])
def test_an_agent_that_is_not_on_disk_is_not_warmed(
    served: Served, headers: dict[str, str]
) -> None:
    reply = served.http.post("/v1/agents/repo-a/warm", headers=headers)
    assert reply.status_code == 409
    error = reply.json()["error"]
    assert "nothing of 'repo-a' is on disk" in error["message"]
    assert error["type"] == "invalid_request_error"
    if not headers:
        assert error["code"] == "not_on_disk"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"", "session/a-fork-1"),
        (b"{}", "session/a-fork-1"),
        (b'{"id": null}', "session/a-fork-1"),
        ('{"id": "try/\u00fc"}'.encode(), "try/\u00fc"),
    ],
)
def test_an_agent_is_forked(served: Served, body: bytes, name: str) -> None:
    served.engine.snapshot = replace(
        served.engine.snapshot, agents=(AgentRow(agent_id="session/a"),)
    )
    headers = {"content-type": "application/json"} if body else {}
    reply = served.http.post("/v1/agents/session/a/fork", content=body, headers=headers)
    assert reply.status_code == 201
    assert reply.json() == {"agent_id": name, "forked_from": "session/a"}


@pytest.mark.parametrize(
    ("fork_id", "words"),
    [
        ("nightly", "nightly is taken"),
        ("", "id: an agent id must be"),
        ("\x1b[2J", "id: an agent id must be"),
        ("x" * 201, "id: an agent id must be"),
        (7, "id: must be a string"),
    ],
)
def test_a_fork_needs_a_free_and_printable_name(
    served: Served, fork_id: object, words: str
) -> None:
    reply = served.http.post("/v1/agents/repo-a/fork", json={"id": fork_id})
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


@pytest.mark.parametrize("action", ["warm", "fork"])
def test_a_busy_agent_is_neither_warmed_nor_forked(served: Served, action: str) -> None:
    reply = served.http.post(f"/v1/agents/session/sub/{action}")
    assert reply.status_code == 409
    assert reply.json()["error"]["code"] == "agent_busy"


@pytest.mark.parametrize("action", ["evict", "pin", "unpin", "warm", "fork", "abort"])
def test_an_unknown_agent_is_a_404(served: Served, action: str) -> None:
    reply = served.http.post(f"/v1/agents/nobody/{action}")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "agent_not_found"


@pytest.mark.parametrize(
    ("status", "live", "ready", "startup"),
    [
        (EngineStatus.STARTING, 200, 503, 503),
        (EngineStatus.LOADING, 200, 503, 503),
        (EngineStatus.SERVING, 200, 200, 200),
        (EngineStatus.DRAINING, 200, 503, 200),
        (EngineStatus.FAILED, 503, 503, 503),
    ],
)
def test_health(served: Served, status: EngineStatus, live: int, ready: int, startup: int) -> None:
    served.engine.set_status(status, "words")
    assert served.http.get("/health/live").status_code == live
    reply = served.http.get("/health/ready")
    assert reply.status_code == ready
    assert reply.json()["status"] == status.value
    assert served.http.get("/health/startup").status_code == startup


def test_health_tells_a_disk_that_takes_nothing_and_goes_on(served: Served) -> None:
    assert served.http.get("/health/ready").json()["disk"] == "on"
    snapshot = served.engine.snapshot
    served.engine.snapshot = replace(snapshot, disk=DiskRow(reason_off="the disk is full"))
    reply = served.http.get("/health/ready")
    assert (reply.status_code, reply.json()["disk"]) == (200, "off")
    served.engine.snapshot = replace(snapshot, disk=DiskRow())
    assert served.http.get("/health/ready").json()["disk"] == "not wanted"


def test_an_engine_that_failed_answers_turns_with_503_and_the_reason(served: Served) -> None:
    served.engine.set_status(EngineStatus.FAILED, "the device is gone")
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    for path in ("/v1/messages", "/v1/chat/completions"):
        reply = served.http.post(path, json=body)
        assert reply.status_code == 503
        assert "the device is gone" in reply.text
        assert int(reply.headers["retry-after"]) >= 1
    assert served.http.get("/health/live").json()["text"] == "the device is gone"
    assert 'stoker_engine_status{status="failed"} 1.0' in served.http.get("/metrics").text


def test_knocking_is_answered(served: Served) -> None:
    for path in ("/", "/api/hello"):
        assert served.http.head(path).status_code == 200
        assert served.http.get(path).json()["name"] == "stoker"


def test_the_interface_is_described_without_a_page(served: Served) -> None:
    assert "/v1/messages" in served.http.get("/openapi.json").json()["paths"]
    assert served.http.get("/docs").status_code == 404
    assert served.http.get("/redoc").status_code == 404


def test_what_an_agent_says_is_told_on_request_and_kept_by_nobody(served: Served) -> None:
    reply = served.http.get("/v1/agents/session/sub/text")
    assert reply.json()["reply"] is None
    assert reply.headers["cache-control"] == "no-store"
    with_reply = served.http.get("/v1/agents/session/sub/text?reply=true").json()
    assert with_reply == {
        "agent_id": "session/sub",
        "reply": "so far",
        "is_cut": False,
        "lead": "",
        "was": "",
        "now": "",
    }
    assert served.http.get("/v1/agents/nobody/text").status_code == 404
