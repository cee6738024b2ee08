from __future__ import annotations

import gzip
import hmac
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.datastructures import Headers

from app.api.callers import Callers
from app.api.head_limits import host_of
from app.api.settings import ApiSettings
from app.api_keys import ApiKey
from tests.api.conftest import Serve, Served, serving
from tests.api.raw_http import exchange, head

BODY: Any = {"model": "", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def keyed() -> Iterator[Served]:
    with serving(None, ApiSettings(port=0, api_key="s3cret")) as served:
        yield served


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("evil.example", 403),
        ("evil.example:{port}", 403),
        ("127.0.0.1.evil.example:{port}", 403),
        ("localhost@evil.example", 403),
        ("", 403),
    ],
)
def test_only_known_hosts_are_served(served: Served, host: str, status: int) -> None:
    headers = {"host": host.format(port=served.server.port)}
    assert served.http.get("/v1/models", headers=headers).status_code == status


def test_more_hosts_can_be_allowed(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, allowed_hosts=("Stoker.local",)))
    assert served.http.get("/", headers={"host": "stoker.local:1"}).status_code == 200
    assert served.http.get("/", headers={"host": "other.local:1"}).status_code == 403
    anybody = serve(None, ApiSettings(port=0, allowed_hosts=("*",)))
    assert anybody.http.get("/", headers={"host": "other.local:1"}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "file://", "http://[", ""]
)
def test_foreign_origins_are_refused(served: Served, origin: str) -> None:
    for path in ("/v1/messages", "/v1/chat/completions"):
        reply = served.http.post(path, json=BODY, headers={"origin": origin})
        assert reply.status_code == 403
        assert reply.json()["error"]["type"] == "permission_error"
    assert "access-control-allow-origin" not in reply.headers
    assert served.engine.requests == []


def test_its_own_origin_is_served(served: Served) -> None:
    reply = served.http.post("/v1/messages", json=BODY, headers={"origin": served.url})
    assert reply.status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_must_be_json(served: Served, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    for path in ("/v1/messages", "/v1/chat/completions", "/v1/agents/repo-a/evict"):
        reply = served.http.post(path, content=json.dumps(BODY), headers=headers)
        assert reply.status_code == 415
        assert reply.json()["error"]["type"] == "invalid_request_error"


def test_json_with_a_charset_is_json(served: Served) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    reply = served.http.post("/v1/messages", content=json.dumps(BODY), headers=headers)
    assert reply.status_code == 200


def test_a_body_over_the_limit_is_refused(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, body_limit_bytes=100_000))
    headers = {"content-type": "application/json"}
    just_fits = json.dumps(BODY).encode().ljust(100_000)
    assert served.http.post("/v1/messages", content=just_fits, headers=headers).is_success
    for size in (100_001, 400_000, 5_000_000):
        reply = served.http.post("/v1/messages", content=b" " * size, headers=headers)
        assert reply.status_code == 413
        assert reply.json()["error"]["type"] == "request_too_large"
    pieces = (b" " * 10_000 for _ in range(20))
    reply = served.http.post("/v1/messages", content=pieces, headers=headers)
    assert reply.status_code == 413
    reply = served.http.post("/v1/chat/completions", content=b" " * 100_001, headers=headers)
    assert reply.status_code == 413
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert served.http.post("/v1/messages", json=BODY).is_success


def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, body_limit_bytes=1_000_000))
    size = 7_000_000
    head = (
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=10) as client:
        client.sendall(head.encode())
        for _ in range(7):
            time.sleep(0.02)
            client.sendall(b" " * (size // 7))
        assert client.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "s3cret"}, 200),
        ({"authorization": "Bearer s3cret"}, 200),
        ({"authorization": "bearer s3cret"}, 200),
        ({"x-api-key": "wrong", "authorization": "Bearer s3cret"}, 200),
        ({}, 401),
        ({"x-api-key": "s3cre"}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "é"}, 401),
        ({"authorization": "Basic s3cret"}, 401),
        ({"authorization": "s3cret"}, 401),
    ],
)
def test_the_key_is_asked_for(keyed: Served, headers: dict[str, str], status: int) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    for path in ("/v1/models", "/admin/state", "/metrics", "/v1/agents"):
        assert keyed.http.get(path, headers=raw).status_code == status
    reply = keyed.http.post("/v1/messages", json=BODY, headers=raw)
    assert reply.status_code == status
    if status == 401:
        assert reply.json()["error"]["type"] == "authentication_error"


def test_health_needs_no_key(keyed: Served) -> None:
    for path in ("/health/live", "/health/ready", "/health/startup", "/", "/api/hello"):
        assert keyed.http.get(path).status_code == 200


def test_every_reply_has_a_request_id(served: Served) -> None:
    replies = [
        served.http.get("/v1/models"),
        served.http.get("/nix"),
        served.http.post("/v1/messages", json={}),
        served.http.get("/", headers={"host": "evil.example"}),
        served.http.post("/v1/messages", json=BODY | {"stream": True}),
    ]
    ids = [reply.headers["request-id"] for reply in replies]
    assert ids == [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == len(ids)
    assert served.engine.requests[-1].request_id == ids[-1]


@pytest.mark.parametrize(
    "host",
    [
        "localhost:80@evil.example",
        "localhost:@evil.example",
        "user:pass@localhost",
        "localhost/evil.example",
        "localhost?evil.example",
        "localhost#evil.example",
        "localhost\\evil.example",
        "localhost:80:80",
        "localhost:port",
        "localhost evil.example",
        "[::1]evil.example",
        "[::1",
        "localhost,evil.example",
        "http://localhost",
    ],
)
def test_a_host_that_others_may_read_otherwise_is_refused(served: Served, host: str) -> None:
    reply = served.http.get("/v1/models", headers={"host": host})
    assert reply.status_code == 403
    assert "is not allowed" in reply.json()["error"]["message"]


def test_any_host_still_has_to_be_a_host(serve: Serve) -> None:
    served = serve(None, ApiSettings(port=0, allowed_hosts=("*",)))
    assert served.http.get("/", headers={"host": "a@b"}).status_code == 403


@pytest.mark.parametrize(
    ("request_line", "hosts", "status"),
    [
        ("GET http://evil.example/v1/models HTTP/1.1", ["localhost"], 400),
        ("GET http://localhost/v1/models HTTP/1.1", ["localhost"], 400),
        ("GET //evil.example/v1/models HTTP/1.1", ["localhost"], 400),
        ("CONNECT localhost:80 HTTP/1.1", ["localhost"], 400),
        ("OPTIONS * HTTP/1.1", ["localhost"], 400),
        ("GET /v1/models HTTP/1.1", ["localhost", "localhost"], 400),
        ("GET /v1/models HTTP/1.1", ["localhost", "evil.example"], 400),
        ("GET /v1/models HTTP/1.1", [], 400),
        ("GET /v1/models HTTP/1.0", [], 403),
        ("GET /v1/models HTTP/1.1", [""], 403),
        ("GET /v1/models", ["localhost"], 400),
        ("\x16\x03\x01\x02", [], 400),
        ("GET /v1/models HTTP/1.1", ["localhost"], 200),
    ],
)
def test_targets_and_hosts_on_the_wire(
    served: Served, request_line: str, hosts: list[str], status: int
) -> None:
    lines = [request_line, *(f"Host: {host}" for host in hosts), "", ""]
    reply, content = exchange(served.server.port, "\r\n".join(lines).encode("latin-1"))
    assert reply == status
    assert "data" in json.loads(content) or "message" in json.loads(content)["error"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "GZIP"])
def test_a_compressed_body_is_refused_unread(served: Served, encoding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    for path in ("/v1/messages", "/v1/chat/completions"):
        reply = served.http.post(path, content=gzip.compress(b" " * 10_000_000), headers=headers)
        assert reply.status_code == 415
        assert "content-encoding" in reply.json()["error"]["message"]
    headers["content-encoding"] = "identity"
    reply = served.http.post("/v1/messages", content=json.dumps(BODY), headers=headers)
    assert reply.status_code == 200


def test_a_head_has_bounds(served: Served) -> None:
    get = served.http.get
    assert get("/v1/models", params={"x": "y" * 8000}).status_code == 200
    assert get("/v1/models", params={"x": "y" * 9000}).status_code == 414
    assert get("/v1/models/" + "y" * 9000).status_code == 414
    assert get("/v1/models", headers={f"x-{n}": "y" for n in range(80)}).status_code == 200
    assert get("/v1/models", headers={f"x-{n}": "y" for n in range(110)}).status_code == 431
    assert get("/v1/models", headers={"x": "y" * 14_000}).status_code == 200
    assert get("/v1/models", headers={"x": "y" * 33_000}).status_code in (400, 431)
    assert exchange(served.server.port, b"GET / HTTP/1.1\r\nx: " + b"y" * 300_000)[0] == 400


@pytest.mark.parametrize(
    "path", ["/metrics", "/admin/state", "/admin", "/openapi.json", "/v1/nix", "/nix", "//metrics"]
)
def test_no_other_route_is_open(keyed: Served, path: str) -> None:
    assert exchange(keyed.server.port, head("GET", path))[0] == (400 if path[1] == "/" else 401)


def test_paths_and_keys_are_harmless_in_the_log(
    keyed: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "stoker.api.request"):
        keyed.http.get("/%1b[2J%0anew-line/" + "x" * 2000, headers={"x-api-key": "wr0ng-key"})
        keyed.http.post("/v1/messages", json=BODY, headers={"x-api-key": "s3cret"})
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)
    assert "\\x1b[2J\\nnew-line" in caplog.text
    assert "wr0ng" not in caplog.text
    assert "s3cret" not in caplog.text


def test_every_key_is_compared_in_full_and_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = (ApiKey("alice", "key-a"), ApiKey("bob", "key-b"))
    callers = Callers(ApiSettings(api_key="s3cret", api_keys=keys))
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac_compare(one, other)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert callers.identify({"x-api-key": "s3cret"}).is_operator
    assert compared == [(32, 32)] * 6, "what was sent in both headers, against all keys"


def test_of_two_hosts_none_counts() -> None:
    """The HTTP parser refuses such a request already; the guard does not lean on that."""
    named = [(b"host", b"localhost")]
    assert host_of(Headers(raw=named)) == "localhost"
    assert host_of(Headers(raw=[*named, (b"host", b"evil.example")])) == ""
    assert host_of(Headers(raw=[])) == ""
