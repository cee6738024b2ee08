from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.api.settings import ApiSettings
from tests.api.conftest import Served, serving
from tests.api.word_engine import MODEL_ID

USER: Any = {"role": "user", "content": "hi"}


def ascii_start(name: str) -> str:
    return ascii(name[:12])


NAMES = ["claude-opus-9", "gpt-9", "../../etc/passwd", "x" * 5000, "a\x1b[2J\nb", "hf:org/model"]


@pytest.fixture(scope="module")
def rejecting() -> Iterator[Served]:
    with serving(None, ApiSettings(port=0, unknown_model="reject")) as served:
        yield served


@pytest.mark.parametrize("name", NAMES, ids=ascii_start)
def test_another_name_is_served_by_the_active_model_and_says_so(served: Served, name: str) -> None:
    for stream in (False, True, False):
        body = {"model": name, "max_tokens": 9, "messages": [USER], "stream": stream}
        for route in ("/v1/messages", "/v1/chat/completions"):
            reply = served.http.post(route, json=body)
            assert reply.status_code == 200
            assert reply.headers["x-stoker-model"] == MODEL_ID
            assert f'"model":"{MODEL_ID}"' in reply.text
    assert len(served.engine.notes) == 1
    note = served.engine.notes[0]
    assert note.kind == "alias"
    assert note.text.isprintable()
    assert len(note.text) < 250
    assert note.text.endswith(f"is not here: served by {MODEL_ID}")


def test_the_active_models_own_name_is_no_event(served: Served) -> None:
    reply = served.http.post("/v1/messages", json={"model": MODEL_ID, "messages": [USER]})
    assert reply.headers["x-stoker-model"] == MODEL_ID
    assert served.engine.notes == []


@pytest.mark.parametrize("name", NAMES, ids=ascii_start)
def test_another_name_can_be_refused(rejecting: Served, name: str) -> None:
    body = {"model": name, "max_tokens": 9, "messages": [USER]}
    reply = rejecting.http.post("/v1/messages", json=body)
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "not_found_error"
    assert reply.json()["error"]["message"].endswith(f"available: {MODEL_ID}")
    assert len(reply.text) < 500
    assert rejecting.http.post("/v1/messages/count_tokens", json=body).status_code == 404
    reply = rejecting.http.post("/v1/chat/completions", json=body)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"
    assert not [r for r in rejecting.engine.requests if r.request_id == reply.headers["request-id"]]
    assert rejecting.http.post("/v1/messages", json=body | {"model": MODEL_ID}).is_success


def test_sdks_list_models(served: Served) -> None:
    assert [model.id for model in served.anthropic.models.list(limit=1000)] == [MODEL_ID]
    assert [model.id for model in served.openai.models.list()] == [MODEL_ID]
    assert served.anthropic.models.retrieve(MODEL_ID).max_input_tokens == 400_000
    assert served.openai.models.retrieve(MODEL_ID).object == "model"


def test_an_unknown_model_is_not_shown(served: Served) -> None:
    reply = served.http.get("/v1/models/nix/nax")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"
    reply = served.http.get("/v1/models/nix", headers={"anthropic-version": "2023-06-01"})
    assert reply.json()["error"]["type"] == "not_found_error"
