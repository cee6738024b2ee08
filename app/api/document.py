"""The description of the interface for machines: FastAPI's list of routes, with their shapes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.schemas import ANTHROPIC_ERROR, OPENAI_ERROR
from app.api.shapes import SHAPES, Shape

_METHODS = ("get", "post", "delete")


def describe(api: FastAPI) -> None:
    """Has an application describe itself with the shapes of its routes."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _document(api)
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]


def _document(api: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=api.title, version=api.version, routes=api.routes)
    document["components"] = {
        "schemas": {"AnthropicError": ANTHROPIC_ERROR, "OpenAIError": OPENAI_ERROR},
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
    }
    document["security"] = [{}, {"key": []}, {"bearer": []}]
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                _add_shape(operations[method], SHAPES.get((method, path), Shape()))
    return document


def _add_shape(operation: dict[str, Any], shape: Shape) -> None:
    responses = operation["responses"]
    responses.pop("422", None)  # nothing is checked by FastAPI
    (status,) = responses
    reply: dict[str, Any] = {shape.reply_type: {"schema": shape.reply}}
    if shape.streams:
        reply["text/event-stream"] = {}
    responses[status] = {"description": "Done", "content": reply}
    responses["default"] = {
        "description": "Refused or failed, in the dialect of the route",
        "content": {"application/json": {"schema": _any_error()}},
    }
    for name, schema in shape.query.items():
        parameter = {"name": name, "in": "query", "required": False, "schema": schema}
        operation.setdefault("parameters", []).append(parameter)
    if shape.body is not None:
        operation["requestBody"] = {
            "required": shape.needs_body,
            "content": {shape.media_type: {"schema": shape.body}},
        }


def _any_error() -> dict[str, Any]:
    names = ("AnthropicError", "OpenAIError")
    return {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
