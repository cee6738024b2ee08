"""The request of a legacy completion, read into a turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.api.draft import TurnDraft, max_tokens_of
from app.api.errors import FieldError
from app.api.fields import Fields
from app.api.openai.sampling import includes_usage, num_choices, openai_sampling
from engine.messages import ChatFormat, RenderedPrompt
from engine.pieces import ReplyReader, TextReader
from engine.request import PromptPart

DEFAULT_MAX_TOKENS = 16
MAX_REPLIES = 32
MAX_LOGPROBS = 5

RawPrompt = str | tuple[int, ...]
"""Text, or token ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionDraft(TurnDraft):
    """A legacy completion that was asked for.

    Attributes:
        raw_prompts: What is to be completed.
        num_choices: Replies to each prompt.
        include_usage: Whether its stream ends with a usage chunk.
        echoes: Whether each reply begins with its prompt.
    """

    raw_prompts: tuple[RawPrompt, ...]
    num_choices: int = 1
    include_usage: bool = False
    echoes: bool = False

    def render(self, chat_format: ChatFormat, namespace: str) -> tuple[RenderedPrompt, ...]:
        """The prompts as tokens, without a chat template.

        Raises:
            InvalidRequestError: A token id is not one of the model's.
        """
        return tuple(_rendered(prompt, chat_format) for prompt in self.raw_prompts)

    def reader(self, chat_format: ChatFormat, prompt: RenderedPrompt) -> ReplyReader:
        """A reader that takes everything for text."""
        return TextReader()

    def echo(self, number: int, chat_format: ChatFormat) -> str:
        """What the reply of a number begins with."""
        if not self.echoes:
            return ""
        prompt = self.raw_prompts[number // self.num_choices]
        return prompt if isinstance(prompt, str) else chat_format.spell(prompt)


def _rendered(prompt: RawPrompt, chat_format: ChatFormat) -> RenderedPrompt:
    if isinstance(prompt, str):
        token_ids = chat_format.encode_text(prompt)
    else:
        token_ids = prompt
        last = chat_format.vocabulary_size - 1
        if not all(0 <= token_id <= last for token_id in token_ids):
            raise FieldError("prompt", f"the model's token ids go from 0 to {last}")
    return RenderedPrompt(token_ids=token_ids, parts=(PromptPart("text", 0),))


def parse_completion(body: Fields) -> CompletionDraft:
    """Reads ``POST /v1/completions``.

    Raises:
        InvalidRequestError: A field is missing or wrong, or asks for what is not there; the
            error names it.
    """
    num_each, num_logprobs = num_choices(body), _num_logprobs(body)
    _refuse_unsupported(body, num_each, num_logprobs)
    prompts = tuple(_prompts(body))
    if len(prompts) * num_each > MAX_REPLIES:
        raise body.error("prompt", f"asks for more than {MAX_REPLIES} replies; send fewer at once")
    max_tokens = max_tokens_of(body, "max_tokens")
    return CompletionDraft(
        model=body.text("model") or "",
        messages=(),
        tools=(),
        raw_prompts=prompts,
        sampling=openai_sampling(body, num_logprobs),
        max_tokens=DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
        stream=body.flag("stream"),
        num_choices=num_each,
        include_usage=includes_usage(body),
        echoes=body.flag("echo"),
    )


def _num_logprobs(body: Fields) -> int | None:
    num = body.integer("logprobs")
    if num is not None and not 0 <= num <= MAX_LOGPROBS:
        raise body.error("logprobs", f"must be between 0 and {MAX_LOGPROBS}")
    return num


def _refuse_unsupported(body: Fields, num_each: int, num_logprobs: int | None) -> None:
    """Refuses what would give another answer than the one asked for."""
    if body.text("suffix"):
        raise body.error("suffix", "this model does not fill in; send the text before it only")
    if body.small_integer("best_of", num_each) != num_each:
        raise body.error("best_of", "is not offered here; ask for n replies and choose")
    if body.flag("echo") and num_logprobs is not None:
        raise body.error("logprobs", "cannot be told of a prompt that is echoed; drop echo")


def _prompts(body: Fields) -> Iterator[RawPrompt]:
    """A text or a list of them, token ids or a list of lists of them."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        yield prompt
    elif isinstance(prompt, list) and prompt:
        if all(_is_token_id(item) for item in prompt):
            yield tuple(prompt)
        else:
            for index, item in enumerate(prompt):
                yield _prompt(body, f"prompt.{index}", item)
    else:
        raise body.error("prompt", "must be a text, token ids, or a list of either")


def _prompt(body: Fields, name: str, item: object) -> RawPrompt:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item and all(_is_token_id(token) for token in item):
        return tuple(item)
    raise body.error(name, "must be a text or a list of token ids")


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
