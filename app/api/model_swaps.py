"""The models to change between, and the change itself, over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.answers import answer_of
from app.api.errors import FieldError
from app.api.fields import parse_object
from engine.face import EngineFace
from engine.model_commands import DEFAULT_DRAIN_S, MAX_DRAIN_S, ListModels, SwapModel
from engine.snapshot import to_value

SWAP_LIMIT_S = 900.0
"""How long a change of model is waited for. It goes on after that; the state tells how far."""
MAX_MODEL_CHARS = 4096
MAX_DIGITS = 3


def model_swaps_router(engine: EngineFace) -> APIRouter:
    """The routes over models that could be active."""
    router = APIRouter(tags=["admin"])

    @router.get("/admin/models", summary="Models to change to", response_model=None)
    async def list_choices(request: Request) -> Response:
        command = ListModels(kv_bits=_query_bits(request.query_params.get("kv_bits")))
        engine.send(command)
        return JSONResponse({"data": to_value(await answer_of(command.done))})

    @router.post("/admin/models/swap", summary="Change the model", response_model=None)
    async def swap(request: Request) -> Response:
        command = _swap_command(await request.body())
        engine.send(command)
        return JSONResponse(to_value(await answer_of(command.done, SWAP_LIMIT_S)))

    return router


def _swap_command(body: bytes) -> SwapModel:
    """The change that a body asks for.

    Raises:
        InvalidRequestError: The body is no JSON object, or names no model.
    """
    fields = parse_object(body)
    model = fields.required_text("model")
    if not model or len(model) > MAX_MODEL_CHARS:
        raise fields.error("model", "must be the id of a model, as GET /admin/models tells it")
    drain_s = fields.number("drain_s", DEFAULT_DRAIN_S)
    if not 0.0 <= drain_s <= MAX_DRAIN_S:
        raise FieldError("drain_s", f"must be between 0 and {MAX_DRAIN_S:g} seconds")
    return SwapModel(model=model, drain_s=drain_s, kv_bits=fields.integer("kv_bits"))


def _query_bits(text: str | None) -> int | None:
    """Bits of keys and values as a query names them.

    Raises:
        FieldError: It is no number.
    """
    if text is None:
        return None
    if len(text) > MAX_DIGITS or not text.isdecimal():
        raise FieldError("kv_bits", "must be a number of bits")
    return int(text)
