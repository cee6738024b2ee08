"""A change of model under clients: real models, real sockets, nobody is lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx

from tests.engine.swap_models import TINY_IDS, make_shelf
from tests.real_server import real_server

ALPHA, BETA = TINY_IDS
NUM_CLIENTS = 4


class Client:
    """Streams one turn after another, as long as it is told to."""

    def __init__(self, url: httpx.URL, name: str) -> None:
        self.ends: list[str] = []
        self.models: list[str] = []
        self.is_over = threading.Event()
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._name = name
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self.is_over.is_set():
            body = {
                "stream": True,
                "max_tokens": 12,
                "messages": [{"role": "user", "content": f"{self._name}: tell me a word."}],
            }
            headers = {"x-agent-id": self._name}
            with self._http.stream("POST", "/v1/messages", json=body, headers=headers) as reply:
                events = _events("".join(reply.iter_text())) if reply.status_code == 200 else []
            self.ends.append(events[-1]["type"] if events else str(reply.status_code))
            if events:
                self.models.append(events[0]["message"]["model"])


def _events(text: str) -> list[dict[str, Any]]:
    lines = (line for line in text.splitlines() if line.startswith("data: "))
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_nobody_is_lost_when_the_model_changes_and_comes_back(
    tmp_path: Path, bundled_models_dir: Path
) -> None:
    make_shelf(tmp_path / "models", bundled_models_dir)
    with real_server(tmp_path, MODEL=ALPHA) as server:
        clients = [Client(server.http.base_url, f"client-{n}") for n in range(NUM_CLIENTS)]
        try:
            for model in (BETA, ALPHA):
                reply = server.http.post("/admin/models/swap", json={"model": model})
                assert reply.status_code == 200, reply.text
                assert reply.json()["to_model"] == model
        finally:
            for client in clients:
                client.is_over.set()
            for client in clients:
                client.join()
        for client in clients:
            assert set(client.ends) == {"message_stop"}
        assert {name for client in clients for name in client.models} >= {ALPHA}
        state = server.state()
        assert state["model"] == ALPHA
        assert state["last_swap"]["to_model"] == ALPHA
        metrics = server.http.get("/metrics").text
        assert "stoker_model_swap_duration_seconds_count 2.0" in metrics
        listed = server.http.get("/admin/models").json()["data"]
        beta = next(row for row in listed if row["model_id"] == BETA)
        assert {row["agent_id"] for row in beta["agents"]} >= {"client-0"}
        refused = server.http.post("/admin/models/swap", json={"model": "no-such-model"})
        assert refused.status_code == 404
        assert server.http.get("/health/ready").status_code == 200
