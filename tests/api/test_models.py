from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.settings import ApiSettings
from app.model_aliases import ModelAlias
from tests.api.conftest import Serve, Served, serving
from tests.api.word_engine import MODEL_ID
from tests.models.test_places import make_model

USER: Any = {"role": "user", "content": "hi"}


def ascii_start(name: str) -> str:
    return ascii(name[:12])


NAMES = ["../../etc/passwd", "x" * 5000, "a\x1b[2J\nb", "hf:org/model", "Claude-9", "xgpt-9"]
ALIASES = (
    ModelAlias("fast", "active"),
    ModelAlias("other", "org/name"),
    ModelAlias("claude-haiku-*", "org/name"),
    ModelAlias("bogus", "org/none"),
)


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


@pytest.mark.parametrize("name", ["claude-opus-9", "gpt-9", "claude-", "gpt-5-codex"])
def test_names_that_clients_come_with_need_no_set_up(rejecting: Served, name: str) -> None:
    rejecting.engine.reset()
    body = {"model": name, "max_tokens": 9, "messages": [USER]}
    for route in ("/v1/messages", "/v1/chat/completions", "/v1/messages"):
        reply = rejecting.http.post(route, json=body)
        assert reply.status_code == 200
        assert reply.headers["x-stoker-model"] == MODEL_ID
    (note,) = rejecting.engine.notes
    assert note.text == f"{name} is an alias: served by {MODEL_ID}"
    assert rejecting.http.get(f"/v1/models/{name}").json()["id"] == MODEL_ID


def test_alias_of_another_model_is_no_name_of_the_active_one(serve: Serve) -> None:
    settings = ApiSettings(port=0, unknown_model="reject", aliases=ALIASES)
    served = serve(None, settings)
    for name, status in (
        ("fast", 200),
        ("claude-opus-9", 200),
        ("other", 404),
        ("claude-haiku-9", 404),
        (MODEL_ID, 200),
    ):
        body = {"model": name, "max_tokens": 9, "messages": [USER]}
        assert served.http.post("/v1/messages", json=body).status_code == status


def test_models_of_this_machine_and_aliases_are_listed(serve: Serve, tmp_path: Path) -> None:
    make_model(tmp_path / "mine")
    make_model(tmp_path / "strange", model_type="warp9")
    make_model(tmp_path / "hub" / "models--org--name" / "snapshots" / ("a" * 40))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        patched.setenv("HOME", str(tmp_path))
        served = serve(None, ApiSettings(port=0, aliases=ALIASES, models_dir=tmp_path))
        listed = served.http.get("/v1/models").json()["data"]
        version = {"anthropic-version": "2023-06-01"}
        page = served.http.get("/v1/models", headers=version).json()
        one = served.http.get("/v1/models/claude-haiku-4", headers=version).json()

    names = [model["id"] for model in listed]
    limits = {model["id"]: model["max_model_len"] for model in listed}
    limits.pop("bundled", None)  # installed or not
    here = {MODEL_ID: 400_000, "fast": 400_000, "other": 2048, "mine": 2048, "org/name": 2048}
    assert list(limits.items()) == list(here.items())
    assert [model["id"] for model in page["data"]] == names
    assert (page["first_id"], page["last_id"]) == (MODEL_ID, names[-1])
    assert (one["id"], one["type"], one["max_input_tokens"]) == ("org/name", "model", 2048)


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
