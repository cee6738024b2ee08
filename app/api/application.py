"""The ASGI application: routes, guard and telemetry around one engine."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from app.api.admin import admin_router
from app.api.agent_messages import agent_messages_router
from app.api.agent_turns import agent_turns_router
from app.api.agents import agents_router
from app.api.anthropic.routes import anthropic_router
from app.api.capabilities import capabilities_router
from app.api.conversations import Conversations
from app.api.document import describe
from app.api.errors import (
    CLIENT_GONE_STATUS,
    ClientGoneError,
    MethodNotAllowedError,
    RouteNotFoundError,
)
from app.api.guard import Guard, error_response
from app.api.health import health_router
from app.api.model_swaps import model_swaps_router
from app.api.models import models_router
from app.api.openai.chat import chat_router
from app.api.openai.completions import completions_router
from app.api.openai.responses import responses_router
from app.api.service import TurnService
from app.api.telemetry import App, Telemetry, record_of
from app.api.transfers import transfers_router
from app.metrics import CONTENT_TYPE, Metrics
from app.version import __version__
from engine.errors import StokerError


def build_app(service: TurnService, metrics: Metrics) -> App:
    """Builds the application that uvicorn serves."""
    return Telemetry(Guard(build_routes(service, metrics), service.settings), metrics)


def build_routes(service: TurnService, metrics: Metrics) -> FastAPI:
    """All routes, without what stands around them."""
    settings = service.settings
    api = FastAPI(title="Stoker", version=__version__, docs_url=None, redoc_url=None)
    api.include_router(anthropic_router(service))
    api.include_router(chat_router(service))
    api.include_router(completions_router(service))
    api.include_router(responses_router(service))
    api.include_router(models_router(service))
    api.include_router(transfers_router(service.engine, service.settings.transfer_folder))
    conversations = Conversations(
        service.engine, settings.max_conversations, settings.max_conversation_bytes
    )
    api.include_router(agent_messages_router(service, conversations))
    api.include_router(agent_turns_router(service.engine))
    api.include_router(agents_router(service.engine, conversations))
    api.include_router(capabilities_router(service))
    api.include_router(admin_router(service.engine))
    api.include_router(model_swaps_router(service.engine))
    api.include_router(health_router(service.engine))

    @api.get("/metrics", tags=["metrics"], summary="Prometheus metrics", response_model=None)
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    api.add_exception_handler(StokerError, _stoker_error)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(ClientDisconnect, _client_gone)
    api.add_exception_handler(Exception, _internal_error)
    describe(api)
    return api


async def _stoker_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientGoneError):
        return await _client_gone(request, error)
    return error_response(error, request)


async def _client_gone(request: Request, error: Exception) -> Response:
    record_of(request.scope).is_client_gone = True
    return Response(status_code=CLIENT_GONE_STATUS)


async def _http_error(request: Request, error: Exception) -> Response:
    """The router's own refusals: no such path, or not with this method."""
    path = request.url.path
    if isinstance(error, HTTPException) and error.status_code == 405:
        refusal: StokerError = MethodNotAllowedError(f"{request.method} is not allowed on {path}")
    else:
        refusal = RouteNotFoundError(f"{request.method} {path} is not here")
    response = error_response(refusal, request)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _internal_error(request: Request, error: Exception) -> Response:
    # The traceback is logged further out: this error is raised again once it is answered.
    return error_response(error, request)
