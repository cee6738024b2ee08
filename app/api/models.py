"""``/v1/models``: the models that are here, in the dialect of the asker."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.catalogue import Catalogue, ListedModel
from app.api.errors import Dialect, dialect_of
from app.api.service import MAX_NAME_CHARS, TurnService
from engine.errors import ModelNotFoundError
from engine.models.places import MAX_SUGGESTIONS

_EPOCH = "1970-01-01T00:00:00Z"
"""When a model was made is not known here; the protocol allows the epoch for that."""


def _anthropic_model(model: ListedModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.model_id,
        "display_name": model.model_id,
        "created_at": _EPOCH,
        "lifecycle": "active",
        "max_input_tokens": model.max_context_tokens,
        "max_tokens": model.max_context_tokens,
    }


def _openai_model(model: ListedModel) -> dict[str, Any]:
    return {
        "id": model.model_id,
        "object": "model",
        "created": 0,
        "owned_by": "stoker",
        "max_model_len": model.max_context_tokens,
    }


def _listing(models: list[ListedModel], dialect: Dialect) -> dict[str, Any]:
    if dialect is Dialect.OPENAI:
        return {"object": "list", "data": [_openai_model(model) for model in models]}
    return {
        "data": [_anthropic_model(model) for model in models],
        "has_more": False,
        "first_id": models[0].model_id if models else None,
        "last_id": models[-1].model_id if models else None,
    }


def models_router(service: TurnService) -> APIRouter:
    """The routes that name models."""
    router = APIRouter(tags=["models"])

    catalogue = Catalogue(service.engine, service.aliases, service.settings.models_dir)

    def dialect(request: Request) -> Dialect:
        return dialect_of(request.url.path, "anthropic-version" in request.headers)

    @router.get("/v1/models", summary="List models", response_model=None)
    async def list_models(request: Request) -> Response:
        return JSONResponse(_listing(await catalogue.models(), dialect(request)))

    @router.get("/v1/models/{model_id:path}", summary="Show a model", response_model=None)
    async def show_model(request: Request, model_id: str) -> Response:
        model = await catalogue.find(model_id)
        if model is None:
            names = tuple(model.model_id for model in await catalogue.models())
            raise ModelNotFoundError(model_id[:MAX_NAME_CHARS], names[:MAX_SUGGESTIONS])
        is_openai = dialect(request) is Dialect.OPENAI
        return JSONResponse(_openai_model(model) if is_openai else _anthropic_model(model))

    return router
