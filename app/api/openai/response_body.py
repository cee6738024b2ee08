"""A response as the client gets it, in progress and finished."""

from __future__ import annotations

import time
from typing import Any

from app.api.openai.response_items import Item, new_id
from app.api.openai.response_schema import ResponseDraft, stored_output
from app.api.openai.response_store import ResponseStore, StoredResponse
from app.api.prepared import Prepared
from app.api.sse import compact
from engine.request import Delta, FinishReason, Usage


def usage_body(usage: Usage, num_reasoning_tokens: int) -> dict[str, Any]:
    """Token counts: cached tokens are part of the input's, reasoning part of the output's.

    Args:
        usage: The counts.
        num_reasoning_tokens: Generated tokens that were thought aloud.
    """
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.num_cached_tokens,
            "cache_write_tokens": usage.num_stored_tokens,
        },
        "output_tokens": usage.num_generated_tokens,
        "output_tokens_details": {"reasoning_tokens": num_reasoning_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_generated_tokens,
    }


def is_cut(last: Delta) -> bool:
    """Whether a reply ended because there was no more room for it."""
    return last.finish_reason is FinishReason.MAX_TOKENS


class ResponseBody:
    """One response on its way."""

    def __init__(
        self, prepared: Prepared[ResponseDraft], store: ResponseStore, namespace: str
    ) -> None:
        """Makes a response that nothing was generated for yet.

        Args:
            prepared: The request.
            store: Where it goes once it is finished, if the client agrees.
            namespace: Whose it is.
        """
        self._prepared = prepared
        self._store = store
        self._namespace = namespace
        self.response_id = new_id("resp")
        self._head = {
            "id": self.response_id,
            "object": "response",
            "created_at": int(time.time()),
            "model": prepared.model_id,
            "background": False,
            **prepared.draft.repeated,
        }

    def in_progress(self) -> dict[str, Any]:
        """The response before its end."""
        return self._body("in_progress", [])

    def failed(self, error: dict[str, Any], items: list[Item]) -> dict[str, Any]:
        """The response that did not end by itself; it is not stored.

        Args:
            error: Code and message.
            items: What was generated until then.
        """
        return self._body("failed", items) | {"error": error}

    def finished(self, items: list[Item], last: Delta) -> dict[str, Any]:
        """The response that ended by itself; stored, if the client agreed to that.

        Args:
            items: What it is made of.
            last: The delta that ended it.
        """
        body = self._body("incomplete" if is_cut(last) else "completed", items)
        body["usage"] = usage_body(last.usage, self._prepared.num_tokens(_reasoning_of(items)))
        if is_cut(last):
            body["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            body["completed_at"] = int(time.time())
        if self._prepared.draft.keeps:
            self._keep(body, items)
        return body

    def _body(self, status: str, items: list[Item]) -> dict[str, Any]:
        return self._head | {
            "status": status,
            "completed_at": None,
            "output": items,
            "usage": None,
            "error": None,
            "incomplete_details": None,
        }

    def _keep(self, body: dict[str, Any], items: list[Item]) -> None:
        draft = self._prepared.draft
        self._store.add(
            StoredResponse(
                response_id=self.response_id,
                namespace=self._namespace,
                body=compact(body),
                inputs=draft.inputs,
                outputs=tuple(stored_output(item) for item in items),
                previous=draft.previous,
            )
        )


def _reasoning_of(items: list[Item]) -> str:
    parts = [part for item in items if item["type"] == "reasoning" for part in item["content"]]
    return "".join([part["text"] for part in parts])
