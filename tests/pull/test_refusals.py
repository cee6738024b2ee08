"""A hub that refuses, lies, or has something else than a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.pull.errors import HubError, PullRefusedError
from app.pull.reference import HubAddress
from tests.pull.hub_stand_in import (
    COMMIT,
    HubStandIn,
    model_files,
    running_hub,
)
from tests.pull.pulling import (
    FIRST,
    pull,
    repository,
)


def test_nobody_at_the_address_is_said_so(hub: HubStandIn) -> None:
    hub.server_close()

    with pytest.raises(HubError, match=r"cannot reach 127\.0\.0\.1.*HF_ENDPOINT"):
        pull(hub)
    assert not repository().exists()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", "has no '"),
        (404, "RevisionNotFound", "no such revision"),
        (401, "RepoNotFound", "or only with HF_TOKEN set"),
        (401, "GatedRepo", "accept its terms"),
        (403, "GatedRepo", "accept its terms"),
        (403, "", "accept its terms"),
    ],
)
@pytest.mark.parametrize("path", ["main", "config.json"])
def test_refusal_says_what_to_do(
    hub: HubStandIn, path: str, status: int, code: str, words: str
) -> None:
    hub.fail(path, lambda handler: handler.refuse(status, code))

    with pytest.raises(PullRefusedError) as raised:
        pull(hub)
    assert words in str(raised.value)
    assert "'org/name'" in str(raised.value)
    assert not repository().exists()


def test_wrong_token_is_named_and_not_shown(hub: HubStandIn) -> None:
    message = "Invalid credentials in Authorization header"
    hub.fail("main", lambda handler: handler.refuse(401, x_error_message=message))

    with pytest.raises(PullRefusedError, match="does not take HF_TOKEN") as raised:
        pull(hub, token="hf_secret")
    assert "hf_secret" not in str(raised.value)
    assert "hf_secret" not in repr(HubAddress(hub.url, "hf_secret"))


def test_token_goes_to_the_hub_and_nowhere_else(hub: HubStandIn) -> None:
    with running_hub() as elsewhere:
        elsewhere.files = hub.files
        hub.elsewhere = elsewhere.url
        pull(hub, token="hf_secret")

        assert {authorization for _, _, authorization in hub.seen} == {"Bearer hf_secret"}
        assert len(elsewhere.seen) == 2
        assert {authorization for _, _, authorization in elsewhere.seen} == {""}


def test_circle_of_redirects_ends(hub: HubStandIn) -> None:
    path = f"/org/name/resolve/{COMMIT}/config.json"
    hub.fail("config.json", *[lambda handler: handler.refuse(302, location=path)] * 20)

    with pytest.raises(HubError, match="more than 8 times"):
        pull(hub)


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[", ""])
def test_redirect_to_no_web_address_is_not_followed(hub: HubStandIn, location: str) -> None:
    hub.fail("config.json", *[lambda handler: handler.refuse(302, location=location)] * 20)

    with pytest.raises(HubError, match=r"no address|more than 8 times"):
        pull(hub)


@pytest.mark.parametrize("name", ["../x", "a/../../config.json", "/etc/passwd", "a\\b", "a\x1b[2J"])
def test_hostile_file_name_is_refused(hub: HubStandIn, name: str) -> None:
    hub.files[name] = b"x"

    with pytest.raises(PullRefusedError, match="leads out of the model's folder"):
        pull(hub)
    assert not repository().exists()


def changed(name: str, **fields: object) -> Callable[[dict[str, Any]], object]:
    def change(answer: dict[str, Any]) -> object:
        for item in answer["siblings"]:
            if item["rfilename"] == name:
                item.update(fields)
        return answer

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: [],
        lambda answer: {**answer, "sha": "../../x"},
        lambda answer: {**answer, "sha": None},
        lambda answer: {**answer, "siblings": "x"},
        changed("config.json", blobId="../../../x"),
        changed("config.json", size=-1),
        changed("config.json", size=None),
        changed(FIRST, lfs={"sha256": "../x", "size": 10}),
    ],
)
def test_listing_of_another_form_is_refused(
    hub: HubStandIn, change: Callable[[dict[str, Any]], object]
) -> None:
    hub.listing = change

    with pytest.raises(HubError, match="in a form of its own"):
        pull(hub)


def test_page_instead_of_a_listing_is_refused(hub: HubStandIn) -> None:
    hub.fail("main", lambda handler: handler.send(b"<html>log in</html>"))

    with pytest.raises(HubError, match="does not answer as a hub does"):
        pull(hub)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"config.json", "tokenizer.json", "m.gguf"}, "GGUF files only"),
        ({"config.json", "tokenizer.json", "pytorch_model.bin"}, "pickled weights"),
        ({"README.md"}, "no model*.safetensors"),
        ({FIRST, "tokenizer.json"}, "has no config.json"),
        ({FIRST, "config.json"}, "has no tokenizer.json"),
    ],
)
def test_what_is_no_model_is_refused_by_its_names(
    hub: HubStandIn, names: set[str], words: str
) -> None:
    hub.files = {name: hub.files.get(name, b"x") for name in names}

    with pytest.raises(PullRefusedError) as raised:
        pull(hub)
    assert words in str(raised.value)
    assert len(hub.seen) == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (model_files(model_type="warp9"), "architecture 'warp9' is not supported"),
        (model_files(model_file="evil.py"), "code of its own"),
        (model_files() | {"config.json": b"[]"}, "config.json is damaged at the hub"),
        (
            model_files() | {"model.safetensors.index.json": b'{"weight_map": {"w": "model-9"}}'},
            "names 'model-9'",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_its_weights_come(
    hub: HubStandIn, files: dict[str, bytes], words: str
) -> None:
    hub.files = files

    with pytest.raises(PullRefusedError) as raised:
        pull(hub)
    assert words in str(raised.value)
    assert hub.num_asked(".safetensors") == 0
    assert not repository().exists()
