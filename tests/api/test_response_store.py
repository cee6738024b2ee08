"""What is kept of responses, for how long, and for whom."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from app.api.errors import ResponseNotFoundError
from app.api.openai.response_store import ResponseStore, StoredItem, StoredResponse
from app.api.settings import ApiSettings
from app.api_keys import ApiKey
from tests.api.conftest import Serve, Served
from tests.api.word_engine import MODEL_ID, Script, prompt_text

ROUTE = "/v1/responses"
CALL = Script(
    words=("Let me see.\n", '<tool_call>\n{"name": "ask", "arguments": {"b": 1}}\n</tool_call>')
)
TOOLS = [{"type": "function", "name": "ask", "parameters": {"type": "object"}}]


def response(
    response_id: str, previous: StoredResponse | None = None, namespace: str = "", size: int = 10
) -> StoredResponse:
    return StoredResponse(
        response_id=response_id,
        namespace=namespace,
        body=b"x" * size,
        inputs=(StoredItem(f"{response_id}-in", b"i" * size),),
        outputs=(StoredItem(f"{response_id}-out", b"o" * size),),
        previous=previous,
    )


def ids_of(items: tuple[StoredItem, ...]) -> list[str]:
    return [item.item_id for item in items]


def test_a_chain_is_one_conversation() -> None:
    store = ResponseStore(10, 10_000)
    first = response("a")
    second = response("b", first)
    third = response("c", second)
    for each in (first, second, third):
        store.add(each)
    assert ids_of(third.conversation()) == ["a-in", "a-out", "b-in", "b-out", "c-in", "c-out"]
    assert ids_of(third.input_items()) == ["a-in", "a-out", "b-in", "b-out", "c-in"]
    assert store.num_bytes == 90


def test_the_one_that_was_not_used_for_longest_is_forgotten_first() -> None:
    store = ResponseStore(2, 10_000)
    store.add(response("a"))
    store.add(response("b"))
    store.get("", "a")
    store.add(response("c"))
    assert store.get("", "a")
    with pytest.raises(ResponseNotFoundError):
        store.get("", "b")
    assert store.item("", "b-in") is None
    assert store.num_bytes == 60


def test_bytes_are_bounded() -> None:
    store = ResponseStore(1000, 100)
    for number in range(10):
        store.add(response(str(number)))
        assert store.num_bytes <= 100
    assert len(store) == 3
    store.add(response("large", size=1000))
    assert (len(store), store.num_bytes) == (0, 0)


def test_what_a_later_response_goes_on_from_stays_until_that_goes() -> None:
    store = ResponseStore(1, 10_000)
    first = response("a")
    store.add(first)
    second = response("b", first)
    store.add(second)
    with pytest.raises(ResponseNotFoundError):
        store.get("", "a")
    assert ids_of(store.get("", "b").conversation()) == ["a-in", "a-out", "b-in", "b-out"]
    assert store.num_bytes == 60
    store.remove("", "b")
    assert store.num_bytes == 0
    assert store.item("", "a-in") is None


def test_a_response_that_was_forgotten_while_its_successor_was_made_comes_back_with_it() -> None:
    store = ResponseStore(1, 10_000)
    first = response("a")
    store.add(first)
    store.add(response("x"))
    assert store.num_bytes == 30
    store.add(response("b", first))
    assert store.num_bytes == 60
    assert store.item("", "a-out") is not None
    store.remove("", "b")
    assert store.num_bytes == 0


def follow_up(served: Served, previous_id: str, **fields: Any) -> str:
    body = {"model": "", "input": "and then?", "previous_response_id": previous_id, **fields}
    reply = served.http.post(ROUTE, json=body)
    assert reply.status_code == 200, reply.text
    return prompt_text(served.engine.requests[-1])


def test_going_on_is_the_same_prompt_as_sending_everything(served: Served) -> None:
    served.engine.script = CALL
    first = served.http.post(ROUTE, json={"model": "", "input": "hi", "tools": TOOLS}).json()
    call = first["output"][-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "42"}
    served.engine.script = Script()
    body = {"model": "", "input": [result], "tools": TOOLS, "previous_response_id": first["id"]}
    second = served.http.post(ROUTE, json=body).json()
    continued = follow_up(served, second["id"], tools=TOOLS)

    user: list[Any] = [{"role": "user", "content": text} for text in ("hi", "and then?")]
    items = [user[0], *first["output"], result, *second["output"], user[1]]
    whole = served.http.post(ROUTE, json={"model": "", "input": items, "tools": TOOLS})
    assert whole.status_code == 200
    assert prompt_text(served.engine.requests[-1]) == continued
    references = [{"type": "item_reference", "id": i["id"]} for i in first["output"]]
    items = [user[0], *references, result, *second["output"], user[1]]
    served.http.post(ROUTE, json={"model": "", "input": items, "tools": TOOLS})
    assert prompt_text(served.engine.requests[-1]) == continued
    chat_messages = [
        user[0],
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": call["call_id"],
                    "type": "function",
                    "function": {"name": "ask", "arguments": call["arguments"]},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call["call_id"], "content": "42"},
        {"role": "assistant", "content": "Paris is the capital."},
        user[1],
    ]
    tools = [{"type": "function", "function": TOOLS[0]}]
    chat = {"model": "", "messages": chat_messages, "tools": tools}
    assert served.http.post("/v1/chat/completions", json=chat).status_code == 200
    assert prompt_text(served.engine.requests[-1]) == continued


def test_instructions_are_of_one_turn(served: Served) -> None:
    first = served.http.post(
        ROUTE, json={"model": "", "input": "hi", "instructions": "Be brief."}
    ).json()
    assert "Be brief." not in follow_up(served, first["id"])
    assert follow_up(served, first["id"], instructions="Be rude.").startswith("system: Be rude.\n")


def test_a_streamed_response_is_kept_as_well(served: Served) -> None:
    with served.openai.responses.stream(model=MODEL_ID, input="hi") as stream:
        final = stream.get_final_response()
    kept = served.openai.responses.retrieve(final.id)
    assert kept.output_text == "Paris is the capital."
    assert kept.usage == final.usage
    assert follow_up(served, final.id).startswith("user: hi\nassistant: Paris is the capital.\n")


def test_what_must_not_be_kept_is_not(served: Served) -> None:
    kept_not = served.openai.responses.create(model=MODEL_ID, input="hi", store=False)
    with pytest.raises(openai.NotFoundError) as caught:
        served.openai.responses.create(
            model=MODEL_ID, input="and?", previous_response_id=kept_not.id
        )
    assert caught.value.code == "previous_response_not_found"
    assert "send the whole conversation as input" in str(caught.value)
    with pytest.raises(openai.NotFoundError, match="it was not stored"):
        served.openai.responses.retrieve(kept_not.id)


def test_a_response_can_be_deleted(served: Served) -> None:
    first = served.openai.responses.create(model=MODEL_ID, input="hi")
    served.openai.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        served.openai.responses.retrieve(first.id)
    reply = served.http.delete(f"{ROUTE}/{first.id}")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "response_not_found"


def test_input_items_are_all_that_the_model_read(served: Served) -> None:
    first = served.openai.responses.create(model=MODEL_ID, input="one")
    second = served.openai.responses.create(
        model=MODEL_ID, input="two", previous_response_id=first.id
    )
    items = list(served.openai.responses.input_items.list(second.id, order="asc"))
    assert [getattr(item, "role", "") for item in items] == ["user", "assistant", "user"]
    page = served.openai.responses.input_items.list(second.id, limit=2)
    assert page.has_more
    assert [item.id for item in page.data] == [item.id for item in reversed(items[1:])]
    assert len(list(served.openai.responses.input_items.list(second.id, limit=1))) == 3


@pytest.mark.parametrize(
    ("query", "name"),
    [("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after=nix", "after")],
)
def test_wrong_pages_are_refused_by_name(served: Served, query: str, name: str) -> None:
    first = served.openai.responses.create(model=MODEL_ID, input="one")
    reply = served.http.get(f"{ROUTE}/{first.id}/input_items?{query}")
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == name


def test_another_keys_responses_do_not_exist(serve: Serve) -> None:
    keys = (ApiKey("ann", "secret-a"), ApiKey("bob", "secret-b"))
    served = serve(Script(), ApiSettings(port=0, api_keys=keys))
    ann, bob = ({"x-api-key": key.secret} for key in keys)
    first = served.http.post(ROUTE, json={"model": "", "input": "hi"}, headers=ann).json()
    path = f"{ROUTE}/{first['id']}"
    for method, url in (("GET", path), ("DELETE", path), ("GET", f"{path}/input_items")):
        assert served.http.request(method, url, headers=bob).status_code == 404
    going_on = {"model": "", "input": "and?", "previous_response_id": first["id"]}
    assert served.http.post(ROUTE, json=going_on, headers=bob).status_code == 404
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    refers = {"model": "", "input": [reference]}
    assert served.http.post(ROUTE, json=refers, headers=bob).status_code == 400
    assert served.http.post(ROUTE, json=going_on, headers=ann).status_code == 200
