"""What form a reply has to have: free text, any JSON object, or JSON of a schema."""

from __future__ import annotations

import json
from dataclasses import dataclass

from app.api.fields import Fields


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """A form.

    Attributes:
        schema_json: The JSON schema of the reply; None where it has none.
        any_object: Whether it is a JSON object of any schema.
    """

    schema_json: str | None = None
    any_object: bool = False


def chat_form(body: Fields) -> ReplyForm:
    """A chat completion's ``response_format``.

    Raises:
        FieldError: It is none of the known forms.
    """
    fields = body.child("response_format")
    if fields is None:
        return ReplyForm()
    return _form(fields, fields.child("json_schema"))


def response_form(body: Fields) -> ReplyForm:
    """A response's ``text.format``.

    Raises:
        FieldError: It is none of the known forms.
    """
    text = body.child("text")
    fields = text.child("format") if text is not None else None
    return ReplyForm() if fields is None else _form(fields, fields)


def _form(fields: Fields, described: Fields | None) -> ReplyForm:
    """Reads a form.

    Args:
        fields: What names its type.
        described: What holds the schema, where the type has one.
    """
    kind = fields.required_text("type")
    if kind == "text":
        return ReplyForm()
    if kind == "json_object":
        # llama.cpp's clients put a schema here; one that is sent is not passed over.
        schema = fields.child("schema")
        return ReplyForm(any_object=True) if schema is None else _schema_form(schema)
    if kind != "json_schema":
        raise fields.error("type", "must be text, json_object or json_schema")
    if described is None:
        raise fields.error("json_schema", "field required")
    schema = described.child("schema")
    if schema is None:
        raise described.error("schema", "field required")
    return _schema_form(schema)


def _schema_form(schema: Fields) -> ReplyForm:
    # In the client's order: a model writes the properties in the order of the schema.
    return ReplyForm(schema_json=json.dumps(schema.values, ensure_ascii=False))
