"""Changing the model over HTTP, and what requests see of a change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.api.settings import ApiSettings
from engine.errors import (
    ModelChangedError,
    ModelChangeError,
    ModelLoadError,
    ModelNotFoundError,
    StokerError,
    SwapInProgressError,
)
from engine.model_commands import SwapModel
from engine.request import FinishReason
from engine.snapshot import EngineStatus, to_value
from tests.api.conftest import Serve, Served
from tests.api.word_engine import CHOICES, MODEL_ID, OTHER_ID, SWAPPED, Script

MESSAGES = {"messages": [{"role": "user", "content": "Capital?"}], "max_tokens": 9}
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    "/v1/chat/completions": {**MESSAGES, "n": 2},
    "/v1/completions": {"prompt": "Capital?"},
    "/v1/responses": {"input": "Capital?"},
}
GENERATING = [route for route in ROUTES if "count" not in route]


def test_the_models_are_told_with_what_each_means_for_the_agents(served: Served) -> None:
    assert served.http.get("/admin/models").json() == {"data": to_value(CHOICES)}


def test_a_swap_answers_with_its_parts_when_it_is_done(served: Served) -> None:
    body = {"model": OTHER_ID, "drain_s": 2, "kv_bits": 8}
    reply = served.http.post("/admin/models/swap", json=body)
    assert reply.json() == to_value(SWAPPED)
    command = served.engine.commands[-1]
    assert isinstance(command, SwapModel)
    assert (command.model, command.drain_s, command.kv_bits) == (OTHER_ID, 2.0, 8)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"model": "a", "drain_s": -1}, "drain_s"),
        ({"model": "a", "drain_s": 601}, "drain_s"),
        ({"model": "a", "drain_s": "soon"}, "drain_s"),
        ({"model": "a", "kv_bits": "few"}, "kv_bits"),
    ],
)
def test_a_swap_that_makes_no_sense_is_refused(
    served: Served, body: dict[str, object], field: str
) -> None:
    reply = served.http.post("/admin/models/swap", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == field
    assert not served.engine.commands


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ModelNotFoundError("gone", (MODEL_ID,)), 404, "model_not_found"),
        (ModelLoadError("the shard is damaged; tiny-words is active again"), 422, None),
        (ModelChangeError("this engine keeps the model"), 409, "model_fixed"),
        (SwapInProgressError(OTHER_ID, 7.2), 503, None),
    ],
)
def test_why_a_swap_did_not_happen_is_told(
    served: Served, error: StokerError, status: int, code: str | None
) -> None:
    served.engine.refuse_swap = error
    reply = served.http.post("/admin/models/swap", json={"model": "gone"})
    assert reply.status_code == status
    assert reply.json()["error"]["message"] == str(error)
    assert code is None or reply.json()["error"]["code"] == code
    assert reply.headers.get("retry-after") == ("8" if status == 503 else None)


def in_background(ask: Callable[[], httpx.Response]) -> Callable[[], httpx.Response]:
    """Asks on another thread; call what is returned for the reply."""
    replies: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: replies.append(ask()))
    thread.start()

    def reply() -> httpx.Response:
        thread.join(20.0)
        return replies[0]

    return reply


@pytest.mark.parametrize("route", ROUTES)
def test_a_request_waits_for_the_new_model_and_is_its_own(served: Served, route: str) -> None:
    engine = served.engine
    old = engine.chat_format
    engine.begin_swap(eta_s=0.5)
    reply = in_background(lambda: served.http.post(route, json=ROUTES[route]))
    assert not engine.wait_for(lambda: bool(engine.requests), timeout_s=0.3)
    engine.end_swap()
    answered = reply()
    assert answered.status_code == 200
    assert answered.json().get("model", OTHER_ID) == OTHER_ID
    assert engine.chat_format is not old
    assert not getattr(old, "threads", None)


@pytest.mark.parametrize("route", ROUTES)
def test_a_change_that_takes_longer_turns_requests_away_with_the_time(
    served: Served, route: str
) -> None:
    served.engine.begin_swap(eta_s=500.0)
    reply = served.http.post(route, json=ROUTES[route])
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "60"
    assert OTHER_ID in reply.json()["error"]["message"]
    assert not served.engine.requests


def test_nobody_waits_longer_than_the_limit(serve: Serve) -> None:
    served = serve(settings=ApiSettings(port=0, swap_wait_s=0.2))
    served.engine.begin_swap()
    reply = served.http.post("/v1/messages", json=MESSAGES)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert reply.json()["type"] == "error"


@pytest.mark.parametrize("error", [ModelChangedError(), SwapInProgressError(OTHER_ID, 1.0)])
@pytest.mark.parametrize("route", GENERATING)
def test_a_prompt_of_a_model_that_went_is_rendered_again(
    served: Served, route: str, error: StokerError
) -> None:
    served.engine.refuse_once.append(error)
    reply = served.http.post(route, json=ROUTES[route])
    assert reply.status_code == 200
    chat_format: Any = served.engine.chat_format
    assert len(chat_format.threads) == 2 or route == "/v1/completions"
    first, second, *_ = served.engine.requests
    assert first.prompt_token_ids == second.prompt_token_ids


def test_a_stream_that_the_change_ends_says_so_in_its_dialect(serve: Serve) -> None:
    script = Script(fail_at=2, error=SwapInProgressError(OTHER_ID, 1.0))
    served = serve(script)
    body = {**MESSAGES, "stream": True}
    text = served.http.post("/v1/messages", json=body).text
    assert "event: error" in text
    assert OTHER_ID in text
    assert FinishReason.ERROR.value not in text.split("event: error")[0]


def test_health_tells_of_the_change(served: Served) -> None:
    served.engine.begin_swap(eta_s=6.4)
    ready = served.http.get("/health/ready")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "7")
    body = ready.json()
    assert (body["status"], body["to_model"], body["eta_s"]) == ("swapping", OTHER_ID, 6.4)
    assert body["progress"] == 0.5
    for name in ("live", "startup"):
        reply = served.http.get(f"/health/{name}")
        assert reply.status_code == 200
        assert "retry-after" not in reply.headers
    served.engine.end_swap()
    assert served.http.get("/health/ready").status_code == 200


def test_a_request_that_waits_hears_of_a_shutdown(serve: Serve) -> None:
    served = serve()
    served.engine.begin_swap()
    reply = in_background(lambda: served.http.post("/v1/messages", json=MESSAGES))
    time.sleep(0.1)
    served.engine.set_status(EngineStatus.DRAINING)
    assert reply().status_code == 503
