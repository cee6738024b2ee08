"""How tokens are chosen, and what is told of them, in the fields of both completion APIs."""

from __future__ import annotations

import re
from dataclasses import replace

from app.api.draft import sampling_of
from app.api.fields import Fields
from engine.request import MAX_TOP_LOGPROBS, SamplingParams

MAX_CHOICES = 8
_IN_TEXT = "message.output_text.logprobs"
_TOKEN_ID = re.compile(r"\d{1,9}")


def openai_sampling(body: Fields, num_logprobs: int | None) -> SamplingParams:
    """The sampling fields.

    Args:
        body: The request.
        num_logprobs: Likeliest tokens to tell with each token; None tells nothing.

    Raises:
        InvalidRequestError: A value has the wrong type or is out of range.
    """
    sampling = sampling_of(body, body.texts("stop"))
    return replace(sampling, logit_bias=_logit_bias(body), num_logprobs=num_logprobs)


def _logit_bias(body: Fields) -> tuple[tuple[int, float], ...]:
    biases = body.child("logit_bias")
    if biases is None:
        return ()
    for token_id in biases.values:
        if not _TOKEN_ID.fullmatch(token_id):
            raise body.error("logit_bias", "has token ids for keys and numbers for values")
    return tuple((int(token_id), biases.number(token_id, 0.0)) for token_id in biases.values)


def chat_logprobs(body: Fields) -> int | None:
    """A chat completion's ``logprobs`` and ``top_logprobs``; None where they are not wanted.

    Raises:
        FieldError: They are not what they have to be.
    """
    num_top = _num_top(body)
    if body.flag("logprobs"):
        return num_top
    if num_top:
        raise body.error("top_logprobs", "needs logprobs to be true")
    return None


def response_logprobs(body: Fields) -> int | None:
    """The same of a response, which asks for them in ``include``; alternatives alone do, too.

    Raises:
        FieldError: They are not what they have to be.
    """
    num_top = _num_top(body)
    return num_top if num_top or _IN_TEXT in body.texts("include") else None


def _num_top(body: Fields) -> int:
    num_top = body.small_integer("top_logprobs", 0)
    if not 0 <= num_top <= MAX_TOP_LOGPROBS:
        raise body.error("top_logprobs", f"must be between 0 and {MAX_TOP_LOGPROBS}")
    return num_top


def num_choices(body: Fields) -> int:
    """How many replies are wanted, ``n``.

    Raises:
        FieldError: It is not in the range.
    """
    num = body.small_integer("n", 1)
    if not 1 <= num <= MAX_CHOICES:
        raise body.error("n", f"must be between 1 and {MAX_CHOICES}")
    return num


def includes_usage(body: Fields) -> bool:
    """Whether a stream ends with a chunk of token counts.

    Raises:
        FieldError: ``stream_options`` is not what it has to be.
    """
    options = body.child("stream_options")
    return options is not None and options.flag("include_usage")
