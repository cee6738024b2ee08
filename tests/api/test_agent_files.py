"""Agents as files over HTTP, and what else makes agents come and go."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.api.settings import ApiSettings
from app.api_keys import ApiKey
from engine.agent_commands import ForkAgent, ImportAgent
from engine.snapshot import AgentRow, DiskRow
from tests.api.conftest import Serve, Served, serving

BINARY = {"content-type": "application/octet-stream"}
LIMIT_BYTES = 40 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "transfers"


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Served]:
    settings = ApiSettings(port=0, transfer_folder=folder, transfer_limit_bytes=LIMIT_BYTES)
    with serving(settings=settings) as served:
        yield served


def left_behind(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def refusal(reply: httpx.Response, status: int) -> str:
    assert reply.status_code == status
    return str(reply.json()["error"]["message"])


def test_an_agent_is_exported(served: Served, folder: Path) -> None:
    reply = served.http.get("/v1/agents/repo-a/export")
    assert reply.content == b"archive of repo-a\n"
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-length"] == "18"
    assert 'filename="repo-a.stoker-agent"' in reply.headers["content-disposition"]
    assert left_behind(folder) == []


def test_a_large_agent_is_streamed_whole(served: Served, folder: Path) -> None:
    served.engine.archive_lines = 300_000
    reply = served.http.get("/v1/agents/repo-a/export")
    assert reply.content == b"archive of repo-a\n" * 300_000
    assert left_behind(folder) == []


@pytest.mark.parametrize("agent_id", ['a/b c"; x', "../../etc/passwd", "über", "."])
def test_a_name_from_outside_harms_no_header_and_no_path(
    served: Served, folder: Path, agent_id: str
) -> None:
    served.engine.snapshot = replace(served.engine.snapshot, agents=(AgentRow(agent_id=agent_id),))
    path = "".join(f"%{byte:02x}" for byte in agent_id.encode())
    reply = served.http.get(f"/v1/agents/{path}/export")
    assert reply.status_code == 200
    header = reply.headers["content-disposition"]
    plain = header.partition('filename="')[2].partition('"')[0]
    assert plain.endswith(".stoker-agent")
    assert not plain.startswith(".")
    assert not set(plain) & set('/\\" ')
    assert left_behind(folder) == []


def test_an_exported_agent_is_imported_under_another_name(served: Served, folder: Path) -> None:
    content = served.http.get("/v1/agents/repo-a/export").content
    reply = served.http.post(
        "/v1/agents/import", content=content, headers=BINARY, params={"id": "copy/1"}
    )
    assert reply.status_code == 201
    assert reply.json() == {"agent_id": "copy/1", "num_tokens": 512}
    assert served.engine.archives == [content]
    assert served.http.get("/v1/agents/copy/1").json()["status"] == "warm"
    assert left_behind(folder) == []


def test_a_body_longer_than_any_other_goes_to_a_private_file(served: Served, folder: Path) -> None:
    modes: list[int] = []
    take_in = served.engine._take_in

    def look(command: ImportAgent) -> None:
        modes.append(command.path.stat().st_mode & 0o777)
        take_in(command)

    served.engine._take_in = look  # type: ignore[method-assign]
    content = b"archive of big\n" + bytes(33 << 20)
    reply = served.http.post("/v1/agents/import", content=content, headers=BINARY)
    del served.engine._take_in
    assert reply.status_code == 201
    assert served.engine.archives[-1] == content
    assert modes == [0o600]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert left_behind(folder) == []


@pytest.mark.parametrize("name", ["", "\x1b[2J", "x" * 201])
def test_an_unfit_name_is_refused_before_the_file_is_read(served: Served, name: str) -> None:
    reply = served.http.post(
        "/v1/agents/import", content=b"archive of a\n", headers=BINARY, params={"id": name}
    )
    assert "id: an agent id must be" in refusal(reply, 400)
    assert served.engine.archives == []


def test_what_is_no_archive_and_a_taken_name_are_refused(served: Served, folder: Path) -> None:
    reply = served.http.post("/v1/agents/import", content=b"PK\x03\x04", headers=BINARY)
    assert "no archive" in refusal(reply, 400)
    assert reply.json()["error"]["code"] == "bad_archive"
    reply = served.http.post("/v1/agents/import", content=b"archive of repo-a\n", headers=BINARY)
    assert "taken" in refusal(reply, 400)
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    ("path", "content_type", "status"),
    [
        ("/v1/agents/import", "application/json", 415),
        ("/v1/agents/import", "text/plain", 415),
        ("/v1/agents/import", "multipart/form-data; boundary=x", 415),
        ("/v1/agents/repo-a/fork", "application/octet-stream", 415),
        ("/v1/messages", "application/octet-stream", 415),
        ("/v1/agents/repo-a/import", "application/octet-stream", 415),
    ],
)
def test_only_the_import_takes_bytes_and_nothing_else(
    served: Served, path: str, content_type: str, status: int
) -> None:
    reply = served.http.post(path, content=b"{}", headers={"content-type": content_type})
    assert "the content type must be" in refusal(reply, status)


def test_a_file_over_the_limit_is_refused_by_its_length_and_by_its_bytes(
    served: Served, folder: Path
) -> None:
    headers = {**BINARY, "content-length": str(LIMIT_BYTES + 1)}
    head = "\r\n".join(f"{name}: {value}" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", served.server.port), 10) as connection:
        request = f"POST /v1/agents/import HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n"
        connection.sendall(request.encode())
        assert b" 413 " in connection.recv(4096)

    def endless() -> Iterator[bytes]:
        for _ in range(LIMIT_BYTES // (1 << 20) + 1):
            yield bytes(1 << 20)

    try:
        reply = served.http.post("/v1/agents/import", content=endless(), headers=BINARY)
    except httpx.WriteError:
        pass  # the server has closed before all was sent
    else:
        assert reply.status_code == 413
    assert served.engine.wait_for(lambda: left_behind(folder) == [])
    assert served.engine.archives == []


def test_a_client_that_leaves_half_way_leaves_nothing(served: Served, folder: Path) -> None:
    with socket.create_connection(("127.0.0.1", served.server.port), 10) as connection:
        connection.sendall(
            b"POST /v1/agents/import HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n"
            b"content-type: application/octet-stream\r\n\r\narchive of x\n"
        )
        assert served.engine.wait_for(lambda: len(left_behind(folder)) == 1)
    assert served.engine.wait_for(lambda: left_behind(folder) == [])
    assert served.engine.archives == []


def test_without_a_disk_tier_it_is_said_what_to_do(served: Served) -> None:
    served.engine.snapshot = replace(served.engine.snapshot, disk=DiskRow())
    for reply in (
        served.http.get("/v1/agents/repo-a/export"),
        served.http.post("/v1/agents/import", content=b"archive of a\n", headers=BINARY),
    ):
        assert "set kv_disk_bytes" in refusal(reply, 409)
        assert reply.json()["error"]["code"] == "no_disk"


def test_an_agent_is_removed(served: Served) -> None:
    reply = served.http.delete("/v1/agents/repo-a")
    assert reply.json() == {"agent_id": "repo-a", "freed_bytes": 2048}
    assert served.http.get("/v1/agents/repo-a").status_code == 404


@pytest.mark.parametrize("agent_id", ["session/sub", "session%2Fsub"])
def test_a_busy_agent_is_neither_removed_nor_exported(served: Served, agent_id: str) -> None:
    for reply in (
        served.http.delete(f"/v1/agents/{agent_id}"),
        served.http.get(f"/v1/agents/{agent_id}/export"),
    ):
        assert "turn in progress" in refusal(reply, 409)
        assert reply.json()["error"]["code"] == "agent_busy"


def test_an_unknown_agent_is_a_404(served: Served, folder: Path) -> None:
    for reply in (
        served.http.delete("/v1/agents/nobody"),
        served.http.get("/v1/agents/nobody/export"),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "agent_not_found"
    assert left_behind(folder) == []


def test_a_fork_goes_back_to_a_turn(served: Served) -> None:
    reply = served.http.post("/v1/agents/repo-a/fork", json={"id": "b", "turn": 3})
    assert reply.status_code == 201
    command = served.engine.commands[-1]
    assert isinstance(command, ForkAgent)
    assert (command.fork_id, command.turn) == ("b", 3)


@pytest.mark.parametrize("turn", [0, -1, "3", 1.5, True])
def test_a_turn_is_a_number_from_1(served: Served, turn: object) -> None:
    reply = served.http.post("/v1/agents/repo-a/fork", json={"turn": turn})
    assert "turn: must be" in refusal(reply, 400)


def test_a_key_exports_imports_and_removes_its_own_agents_only(
    serve: Serve, tmp_path: Path
) -> None:
    settings = ApiSettings(
        port=0,
        transfer_folder=tmp_path,
        api_keys=(ApiKey("alice", "key-a"), ApiKey("bob", "key-b")),
    )
    served = serve(settings=settings)
    alice, bob = ({"x-api-key": key} for key in ("key-a", "key-b"))
    reply = served.http.post(
        "/v1/agents/import", content=b"archive of mine\n", headers={**alice, **BINARY}
    )
    assert reply.status_code == 201
    assert served.http.get("/v1/agents/mine/export", headers=bob).status_code == 404
    assert served.http.delete("/v1/agents/mine", headers=bob).status_code == 404
    assert served.http.get("/v1/agents/mine/export", headers=alice).status_code == 200
    assert served.http.delete("/v1/agents/mine", headers=alice).status_code == 200


def test_what_a_killed_process_left_is_removed_at_the_start(serve: Serve, tmp_path: Path) -> None:
    old = tmp_path / "transfer-1.stoker-agent"
    other = tmp_path / "mine.txt"
    for path in (old, other):
        path.write_text("x")
    served = serve(settings=ApiSettings(port=0, transfer_folder=tmp_path))
    assert served.http.get("/health/live").status_code == 200
    assert not old.exists()
    assert other.exists()


def test_a_file_may_take_its_time_as_long_as_pieces_come(serve: Serve, folder: Path) -> None:
    settings = ApiSettings(port=0, transfer_folder=folder, body_timeout_s=0.5)
    served = serve(None, settings)

    def pieces() -> Iterator[bytes]:
        yield b"archive of "
        for letter in b"slowly":
            time.sleep(0.2)
            yield bytes([letter])

    reply = served.http.post("/v1/agents/import", content=pieces(), headers=BINARY)
    assert reply.status_code == 201
    assert reply.json()["agent_id"] == "slowly"
