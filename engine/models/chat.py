"""The text side of a model: chat template and tokenizer, read from its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from engine.errors import InvalidRequestError, ModelLoadError
from engine.messages import Message, Role, ToolSpec
from engine.models.detokenizer import Detokenizer, token_decoder
from engine.models.reply_memo import ReplyMemo
from engine.models.special_text import Disguise, SpecialStrings
from engine.models.template import ChatTemplate, Turn
from engine.models.turns import fit_turns, parse_tools, parse_turns

# The engine needs the cores; and with parallelism on, tokenizers writes a warning to the
# terminal whenever the process forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
_REPLY_MARK = "Reply7Mark"


class ModelChat:
    """A ``ChatFormat`` (engine/messages.py) made from a model folder. Thread-safe.

    Text that a client sends never becomes a special token: where it spells one, the spelling is
    encoded. All other text gets the ids that encoding the whole rendered prompt gives.

    Args:
        folder: Holds ``config.json``, ``tokenizer.json``, and the chat template in
            ``chat_template.jinja`` or ``tokenizer_config.json``.

    Raises:
        ModelLoadError: A file is missing or damaged; the message names it.
    """

    def __init__(self, folder: Path) -> None:
        config = _read_json(folder / "config.json")
        tokenizer_config = _read_json(folder / "tokenizer_config.json", optional=True)
        self._max_context_tokens = _context_limit(config, folder)
        self._tokenizer = _read_tokenizer(folder)
        self._literal_tokenizer = _read_tokenizer(folder)
        self._literal_tokenizer.encode_special_tokens = True
        special = {
            token_id: added.content
            for token_id, added in self._tokenizer.get_added_tokens_decoder().items()
            if added.special
        }
        self._special_strings = SpecialStrings(list(special.values()))
        self._special_ids = frozenset(special)
        self._replies = ReplyMemo()
        self._template = _read_template(folder, tokenizer_config)
        ends = _configured_ends(folder, config)
        ends.add(self._tokenizer.token_to_id(_token_text(tokenizer_config.get("eos_token"))))
        ends.add(self._template_end())
        self._end_token_ids = frozenset(end for end in ends if end is not None)
        self._token_decoder = token_decoder(self._tokenizer)

    @property
    def max_context_tokens(self) -> int:
        """The model's context limit in tokens."""
        return self._max_context_tokens

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Tokens that end a reply."""
        return self._end_token_ids

    def detokenizer(self) -> Detokenizer:
        """A fresh detokenizer for one generation; it belongs to one thread."""
        return self._token_decoder()

    def render_chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> tuple[int, ...]:
        """Token ids of a conversation, ending where the assistant's reply starts.

        Where the last message is the assistant's own, the reply continues it.

        Raises:
            InvalidRequestError: There are no messages, the model has no chat template, or the
                template refuses the conversation.
        """
        if not messages:
            raise InvalidRequestError("messages must not be empty")
        turns, functions = parse_turns(messages), parse_tools(tools)
        if not self._special_strings.occur_in([turns, functions]):
            return self._encode(self._render(turns, functions))
        disguise = self._special_strings.disguise([turns, functions])
        rendered = self._render(disguise.put_on(turns), disguise.put_on(functions))
        return self._encode_disguised(rendered, disguise)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, for raw completions; special tokens in it are plain text.

        A beginning-of-sequence token is added where the tokenizer's own rules add one.
        """
        return _ids(self._literal_tokenizer, text, add_special_tokens=True)

    def _render(self, turns: list[Turn], tools: list[Turn]) -> str:
        if self._template is None:
            raise InvalidRequestError("this model has no chat template: use raw completions")
        last = turns[-1]
        continues = last["role"] == Role.ASSISTANT and "tool_calls" not in last and len(turns) > 1
        asked = turns[:-1] if continues else turns
        fitted, native_tools = fit_turns(asked, tools, self._template.abilities)
        prompt = self._template.render(fitted, native_tools)
        return prompt + last["content"] if continues else prompt

    def remember_reply(
        self, prompt_token_ids: Sequence[int], reply_token_ids: Sequence[int]
    ) -> None:
        """Keeps how a reply was tokenised, where the tokenizer would do it otherwise.

        When the reply's text comes back in a prompt, the tokens that were generated stand for it.

        Args:
            prompt_token_ids: The prompt that was answered.
            reply_token_ids: What was generated, without the token that ended it.
        """
        opening = list(takewhile(self._is_text, reversed(prompt_token_ids)))[::-1]
        run = (*opening, *takewhile(self._is_text, reply_token_ids))
        text = self._tokenizer.decode(list(run), skip_special_tokens=False)
        # Text cut inside a character cannot come back as it was.
        if "\ufffd" not in text and _ids(self._tokenizer, text, add_special_tokens=False) != run:
            self._replies.remember(text, run)

    def _is_text(self, token_id: int) -> bool:
        return token_id not in self._special_ids

    def _encode(self, text: str) -> tuple[int, ...]:
        """Encodes text with its special tokens; replies that were generated here keep their tokens.

        Special tokens are never merged with their neighbours, so runs between them can be
        replaced without touching the rest.
        """
        if not self._replies:
            return _ids(self._tokenizer, text, add_special_tokens=False)
        token_ids: list[int] = []
        run: list[str] = []
        for part, is_special in self._special_strings.split(text):
            known = None if is_special else self._replies.recall(part)
            if known is None:
                run.append(part)
                continue
            token_ids += _ids(self._tokenizer, "".join(run), add_special_tokens=False)
            run.clear()
            token_ids += known
        token_ids += _ids(self._tokenizer, "".join(run), add_special_tokens=False)
        return tuple(token_ids)

    def _encode_disguised(self, rendered: str, disguise: Disguise) -> tuple[int, ...]:
        """Encodes text between special tokens on its own where it spells a special token.

        Special tokens are never merged with their neighbours, so the rest, encoded in runs that
        end at them, gets the ids it has in the whole.
        """
        token_ids: list[int] = []
        run: list[str] = []
        for part, _ in self._special_strings.split(rendered):
            if disguise.marker not in part:
                run.append(part)
                continue
            token_ids += self._encode("".join(run))
            run.clear()
            literal = disguise.take_off(part)
            token_ids += _ids(self._literal_tokenizer, literal, add_special_tokens=False)
        token_ids += self._encode("".join(run))
        return tuple(token_ids)

    def _template_end(self) -> int | None:
        """The special token that the template puts after a reply; None if it puts none."""
        if self._template is None:
            return None
        turns = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": _REPLY_MARK},
        ]
        try:
            text = self._template.render(turns, open_reply=False)
        except InvalidRequestError:
            return None
        after = text.partition(_REPLY_MARK)[2]
        first = next((part for part, special in self._special_strings.split(after) if special), "")
        return self._tokenizer.token_to_id(first)


def _ids(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
    # A batch of one: unlike ``encode`` it lets other threads run, the engine's above all.
    [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    return tuple(encoding.ids)


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise ModelLoadError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(fields, dict):
        raise ModelLoadError(f"{path} is not a JSON object")
    return fields


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelLoadError(f"{path} is not a tokenizer: {error}") from error


def _read_template(folder: Path, tokenizer_config: dict[str, Any]) -> ChatTemplate | None:
    path = folder / "chat_template.jinja"
    source = path.read_text("utf-8") if path.is_file() else tokenizer_config.get("chat_template")
    if isinstance(source, list):  # several by name
        named = {entry["name"]: entry["template"] for entry in source}
        source = named.get("default") or next(iter(named.values()), None)
    if not source:
        return None
    variables = {name: _token_text(tokenizer_config.get(name)) for name in _TOKEN_NAMES}
    return ChatTemplate(source, variables)


def _token_text(token: object) -> str:
    """A token of ``tokenizer_config.json``: plain, or an object with ``content``."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _context_limit(config: dict[str, Any], folder: Path) -> int:
    for fields in (config, config.get("text_config") or {}):
        limit = fields.get("max_position_embeddings")
        if isinstance(limit, int) and limit > 0:
            return limit
    raise ModelLoadError(f"{folder / 'config.json'} has no max_position_embeddings")


def _configured_ends(folder: Path, config: dict[str, Any]) -> set[int | None]:
    """End-of-sequence ids of ``config.json`` and ``generation_config.json``."""
    generation = _read_json(folder / "generation_config.json", optional=True)
    ends: set[int | None] = set()
    for fields in (config, config.get("text_config") or {}, generation):
        ends.update(_as_ids(fields.get("eos_token_id")))
    return ends


def _as_ids(value: object) -> Iterable[int]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, int)]
