"""Bounds of time, rate and number: what is over them is told so, and ends."""

from __future__ import annotations

import socket
import threading
import time
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.api.callers import OPERATOR, Caller
from app.api.errors import WrongKeysError
from app.api.rate_limits import RateLimits
from app.api.refused_connections import RefusedConnections
from app.api.settings import ApiSettings
from app.api.wrong_keys import MAX_ADDRESSES, PER_MINUTE, WrongKeys
from app.api_keys import ApiKey
from app.metrics import Metrics
from tests.api.conftest import Serve
from tests.api.raw_http import exchange, head, post, read_reply
from tests.api.word_engine import Script, WordEngine

BODY: Any = {"model": "", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
ROUTES = ("/v1/messages", "/v1/chat/completions")
SLOW = Script(words=("a",) * 1000, step_s=0.05)


def test_a_bucket_holds_a_minute_and_refills() -> None:
    now = 100.0
    limits = RateLimits(6, lambda: now)

    def num_left(caller: Caller) -> int:
        allowance = limits.take(caller)
        assert allowance is not None
        assert allowance.wait_s == 0
        return allowance.num_left

    assert [num_left(OPERATOR) for _ in range(6)] == [5, 4, 3, 2, 1, 0]
    over = limits.take(OPERATOR)
    assert over is not None
    assert over.wait_s == pytest.approx(10.0)
    assert over.full_s == pytest.approx(60.0)
    assert num_left(Caller("alice")) == 5
    now += 10.1
    assert num_left(OPERATOR) == 0
    now += 3600.0
    assert num_left(OPERATOR) == 5
    assert RateLimits(0).take(OPERATOR) is None


def test_each_key_has_a_rate_of_its_own(serve: Serve) -> None:
    keys = (ApiKey("alice", "key-a"), ApiKey("bob", "key-b"))
    served = serve(None, ApiSettings(port=0, api_keys=keys, rate_limit_per_minute=2))
    alice, bob = {"x-api-key": "key-a"}, {"x-api-key": "key-b"}
    left = []
    for _ in range(2):
        reply = served.http.post("/v1/messages", json=BODY, headers=alice)
        assert reply.status_code == 200
        assert reply.headers["anthropic-ratelimit-requests-limit"] == "2"
        left.append(reply.headers["anthropic-ratelimit-requests-remaining"])
        reset = datetime.fromisoformat(reply.headers["anthropic-ratelimit-requests-reset"])
        assert 0 < reset.timestamp() - time.time() < 61
    assert left == ["1", "0"]
    for path, kind in zip(ROUTES, ("rate_limit_error", "rate_limit_exceeded"), strict=True):
        reply = served.http.post(path, json=BODY, headers=alice)
        told = {name: value for name, value in reply.headers.items() if "ratelimit" in name}
        if path == "/v1/messages":
            assert told["anthropic-ratelimit-requests-remaining"] == "0"
            assert len(told) == 3
        else:
            reset_s = told.pop("x-ratelimit-reset-requests").removesuffix("s")
            assert 30 <= int(reset_s) <= 60
            assert told == {
                "x-ratelimit-limit-requests": "2",
                "x-ratelimit-remaining-requests": "0",
            }
        assert reply.status_code == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 30
        assert reply.json()["error"]["type"] == kind
    assert served.http.post("/v1/messages", json=BODY, headers=bob).status_code == 200
    assert served.http.get("/health/live").status_code == 200
    assert len(served.engine.requests) == 3


def test_wrong_keys_are_told_so_a_number_of_times(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, api_key="s3cret"))
    wrong, right = {"x-api-key": "s3cre"}, {"x-api-key": "s3cret"}
    replies = [served.http.get("/v1/models", headers=wrong) for _ in range(PER_MINUTE + 5)]
    assert [reply.status_code for reply in replies[:PER_MINUTE]] == [401] * PER_MINUTE
    assert replies[-1].status_code == 429
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 2
    assert "wrong API keys" in replies[-1].json()["error"]["message"]
    # Other programs of this machine have the same address.
    assert served.http.get("/v1/models", headers=right).status_code == 200


def test_another_machine_does_not_guess_on() -> None:
    now = 100.0
    keys = WrongKeys(lambda: now)
    for address in ("192.0.2.7", "127.0.0.1", "::1"):
        keys.check(address)
        for _ in range(PER_MINUTE):
            keys.take(address)
        with pytest.raises(WrongKeysError):
            keys.take(address)
    with pytest.raises(WrongKeysError):
        keys.check("192.0.2.7")
    for address in ("127.0.0.1", "::1", "192.0.2.8", ""):
        keys.check(address)
    now += 1.1
    keys.check("192.0.2.7")


def test_what_is_kept_of_addresses_is_bounded() -> None:
    keys = WrongKeys(lambda: 100.0)
    for number in range(MAX_ADDRESSES):
        for _ in range(PER_MINUTE if number == 0 else 1):
            keys.take(f"10.0.{number // 256}.{number % 256}")
    with pytest.raises(WrongKeysError):
        keys.check("10.0.0.0")
    keys.take("192.0.2.7")
    keys.check("10.0.0.0")


def test_a_turn_that_takes_too_long_ends_before_its_first_byte(serve: Serve) -> None:
    served = serve(SLOW, ApiSettings(port=0, request_timeout_s=0.3))
    for path, kind in zip(ROUTES, ("timeout_error", "timeout_error"), strict=True):
        reply = served.http.post(path, json=BODY | {"max_tokens": 900})
        assert reply.status_code == 408
        assert reply.json()["error"]["type"] == kind
        assert "request_timeout_s" in reply.json()["error"]["message"]
    assert served.engine.wait_for(lambda: served.engine.running == [])


@pytest.mark.parametrize("path", ROUTES)
def test_a_stream_that_takes_too_long_ends_in_an_error(serve: Serve, path: str) -> None:
    served = serve(SLOW, ApiSettings(port=0, request_timeout_s=1.0))
    reply = served.http.post(path, json=BODY | {"max_tokens": 900, "stream": True})
    assert reply.status_code == 200
    assert '"a"' in reply.text
    assert "took longer than 1 seconds" in reply.text
    assert "message_stop" not in reply.text
    assert served.engine.wait_for(lambda: served.engine.running == [])
    assert len(served.engine.aborted) == 1


def test_a_turn_in_time_is_not_disturbed(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, request_timeout_s=0.2))
    assert served.http.post("/v1/messages", json=BODY).status_code == 200
    assert 0 < (served.engine.requests[-1].time_limit_s or 0) <= 0.2
    time.sleep(0.3)
    assert served.engine.aborted == []


def test_requests_beyond_the_bound_are_turned_away(serve: Serve) -> None:
    served = serve(SLOW, ApiSettings(port=0, max_requests=2))
    body = BODY | {"max_tokens": 900, "stream": True}
    with (
        httpx.Client(base_url=served.url, trust_env=False) as http,
        http.stream("POST", ROUTES[0], json=body) as first,
        http.stream("POST", ROUTES[1], json=body) as second,
    ):
        assert (first.status_code, second.status_code) == (200, 200)
        for path in ROUTES:
            reply = served.http.post(path, json=BODY)
            assert reply.status_code == 503
            assert reply.headers["retry-after"] == "1"
            assert "2 requests are in progress" in reply.json()["error"]["message"]
        assert served.http.get("/health/live").status_code == 200
    assert served.engine.wait_for(lambda: served.engine.running == [])
    assert served.http.get("/v1/models").status_code == 200


def test_connections_beyond_the_bound_are_turned_away(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    served = serve(None, ApiSettings(port=0, max_connections=3))
    port = served.server.port
    idle = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(3)]
    for client in idle:
        client.sendall(head("GET", "/health/live"))
        assert read_reply(client)[0] == 200
    status, content = exchange(port, b"")
    assert status == 503
    assert b"too many connections" in content
    for client in idle:
        client.close()
    assert served.engine.wait_for(lambda: exchange(port, head("GET", "/"))[0] == 200)
    assert 'stoker_http_requests_total{model="",status="503"}' in served.http.get("/metrics").text
    assert "connection refused 503 there are too many connections from=127.0.0.1" in caplog.text


def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    now = 100.0
    metrics = Metrics(lambda: WordEngine().snapshot)
    refused = RefusedConnections(metrics, lambda: now)
    for _ in range(50):
        refused.note(503, "too many", "192.0.2.7")
    refused.note(408, "too slow", "")
    now += 1.1
    refused.note(503, "too many", "192.0.2.8")
    assert [record.getMessage() for record in caplog.records] == [
        "connection refused 503 too many from=192.0.2.7",
        "connection refused 408 too slow from=?",
        "connection refused 503 too many from=192.0.2.8, and 49 more before",
    ]
    assert metrics.render().count(b'status="503"} 51.0') == 1


@pytest.mark.parametrize(
    "piece", [b"", b"GET / HTTP/1.1\r\nhost: localhost\r\n", b"GET /".ljust(2000, b"x")]
)
def test_a_head_that_does_not_arrive_is_cut_off(serve: Serve, piece: bytes) -> None:
    served = serve(None, ApiSettings(port=0, head_timeout_s=0.3))
    started = time.monotonic()
    status, _ = exchange(served.server.port, piece, timeout_s=5.0)
    assert status == 408
    assert 0.25 < time.monotonic() - started < 3.0


def test_a_second_head_that_does_not_arrive_is_cut_off(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, head_timeout_s=0.3))
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=5) as client:
        client.sendall(head("GET", "/"))
        assert read_reply(client)[0] == 200
        time.sleep(0.4)  # an idle connection is kept
        client.sendall(head("GET", "/"))
        assert read_reply(client)[0] == 200
        client.sendall(b"GET / HT")
        assert read_reply(client)[0] == 408


@pytest.mark.parametrize("framing", ["content-length: 500", "transfer-encoding: chunked"])
def test_a_body_that_trickles_in_is_cut_off(serve: Serve, framing: str) -> None:
    served = serve(None, ApiSettings(port=0, body_timeout_s=0.5))
    request = head("POST", "/v1/messages", "content-type: application/json", framing)
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=5) as client:
        client.sendall(request)
        is_over = threading.Event()

        def trickle() -> None:
            while not is_over.wait(0.1):
                try:
                    client.sendall(b" " if "length" in framing else b"1\r\n \r\n")
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        started = time.monotonic()
        sender.start()
        status, content = read_reply(client)
        is_over.set()
        sender.join()
    assert status == 408
    assert b"did not arrive within 0.5 seconds" in content
    assert time.monotonic() - started < 3.0
    assert served.engine.requests == []


def test_a_reply_that_is_slow_to_come_is_not_taken_for_a_slow_body(serve: Serve) -> None:
    served = serve(Script(words=("a",) * 12, step_s=0.1), ApiSettings(port=0, body_timeout_s=0.3))
    assert served.http.post("/v1/messages", json=BODY | {"max_tokens": 90}).status_code == 200


def test_many_idle_streams_do_not_hold_up_others(serve: Serve) -> None:
    served = serve(Script(queue_s=60.0), ApiSettings(port=0))
    streams = []
    try:
        for _ in range(200):
            client = socket.create_connection(("127.0.0.1", served.server.port), timeout=10)
            client.sendall(post("/v1/messages", BODY | {"stream": True}))
            streams.append(client)
        assert served.engine.wait_for(lambda: len(served.engine.running) == 200, 20.0)
        started = time.monotonic()
        for _ in range(20):
            assert served.http.get("/health/live").status_code == 200
        assert time.monotonic() - started < 2.0
    finally:
        for client in streams:
            client.close()
    assert served.engine.wait_for(lambda: served.engine.running == [], 20.0)
