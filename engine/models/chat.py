"""The text side of a model: chat template and tokenizer, read from its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.cache.reply import ReplyTokens
from engine.constraint import Constraint
from engine.errors import InvalidRequestError
from engine.messages import Message, RenderedPrompt, Role, ToolChoice, ToolSpec
from engine.models.call_format import WRITTEN_CALLS, CallFormat, call_format_of
from engine.models.constraints import ReplyConstraints
from engine.models.defaults import NO_DEFAULTS, ModelDefaults, ToolFormat
from engine.models.detokenizer import Detokenizer, token_decoder, token_speller
from engine.models.guidance import Guidance
from engine.models.offered_calls import offered_calls
from engine.models.outline import Outline, mark_turns
from engine.models.prompt_encoder import PromptEncoder
from engine.models.reasoning_format import reasoning_format_of
from engine.models.reply_grammar import ReplyForm
from engine.models.reply_marks import ReplyMarks, marks_of
from engine.models.reply_reader import MarkedReader
from engine.models.special_text import Disguise, SpecialStrings
from engine.models.template import ChatTemplate
from engine.models.text_files import (
    configured_ends,
    context_limit,
    read_codec,
    read_json,
    read_template,
    token_text,
)
from engine.models.turns import fit_turns, parse_tools, parse_turns, with_prefix, without_labels
from engine.pieces import ReplyReader

# The engine needs the cores; and with parallelism on, tokenizers writes a warning to the
# terminal whenever the process forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

NO_TEMPLATE = "the model has no chat template: only raw completions work"
_REPLY_MARK = "Reply7Mark"


class ModelChat:
    """A ``ChatFormat`` (engine/messages.py) made from a model folder. Thread-safe.

    Text that a client sends never becomes a special token: where it spells one, the spelling is
    encoded. All other text gets the ids that encoding the whole rendered prompt gives.

    Args:
        folder: Holds ``config.json``, ``tokenizer.json``, and the chat template in
            ``chat_template.jinja`` or ``tokenizer_config.json``.
        defaults: What is set for the model.
        fingerprint: Identity of the model; see ``ModelSource``.

    Raises:
        ModelLoadError: A file is missing or damaged; the message names it.
    """

    def __init__(
        self, folder: Path, defaults: ModelDefaults = NO_DEFAULTS, fingerprint: str = ""
    ) -> None:
        config = read_json(folder / "config.json")
        tokenizer_config = read_json(folder / "tokenizer_config.json", optional=True)
        self._defaults = defaults
        self.fingerprint = fingerprint
        self._max_context_tokens = defaults.limited(context_limit(config, folder))
        self._codec = read_codec(folder)
        self._special_strings = SpecialStrings(list(self._codec.special_ids))
        self._template = _fitted_template(read_template(folder, tokenizer_config), defaults)
        ends = configured_ends(folder, config)
        tokenizer = self._codec.tokenizer
        ends.add(tokenizer.token_to_id(token_text(tokenizer_config.get("eos_token"))))
        ends.add(self._template_end())
        self._end_token_ids = frozenset(end for end in ends if end is not None)
        self._end_strings = frozenset(
            text for text, end in self._codec.special_ids.items() if end in self._end_token_ids
        )
        self.call_format = _call_format(self._template)
        """How the model writes tool calls; None where that is not known."""
        source = self._template.source if self._template else ""
        self.reasoning_format = reasoning_format_of(source)
        """How the model marks reasoning; None where it does not."""
        self._marks = self._reply_marks()
        self._encoder = PromptEncoder(self._codec, self._special_strings, self._marks)
        self._token_decoder = token_decoder(tokenizer, self._marks.special)
        self._spell_token = token_speller(tokenizer)
        self._constraints = ReplyConstraints(
            ReplyForm(
                calls=self.call_format,
                reasoning=self.reasoning_format,
                special_ids=self._codec.special_ids,
            ),
            Guidance(tokenizer.to_str, self._end_token_ids),
        )

    @property
    def max_context_tokens(self) -> int:
        """The model's context limit in tokens."""
        return self._max_context_tokens

    @property
    def sampling_defaults(self) -> Mapping[str, float]:
        """Sampling fields of a request, with the values they have where it does not send them."""
        return self._defaults.sampling

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Tokens that end a reply."""
        return self._end_token_ids

    @property
    def why_no_chat(self) -> str:
        """Why conversations cannot be rendered; empty if they can."""
        if self._template is None:
            return NO_TEMPLATE
        refused = self._template.why_refused
        return f"{refused}: only raw completions work" if refused else ""

    @property
    def why_calls_are_free(self) -> str:
        """Why tool calls of this model are not constrained, if that is known; empty if they are."""
        if self._template is None or self.call_format is not None:
            return self._constraints.why_free
        return "the model's template writes tool calls in a form of its own; none are constrained"

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are; their ids are the numbers below it."""
        return self._codec.tokenizer.get_vocab_size()

    @property
    def tells_reasoning(self) -> bool:
        """Whether the model's reasoning is told from its text."""
        return self.reasoning_format is not None

    def detokenizer(self) -> Detokenizer:
        """A fresh detokenizer for one generation; it belongs to one thread."""
        return self._token_decoder()

    def spell(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones included; broken characters are replaced."""
        return self._codec.decode(token_ids)

    def spell_token(self, token_id: int) -> bytes:
        """The bytes of one token, maybe a part of a character; a special one's are its text."""
        return self._spell_token(token_id)

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        namespace: str = "",
    ) -> RenderedPrompt:
        """A conversation as tokens, ending where the assistant's reply starts.

        Where the last message is the assistant's own, the reply continues it. Replies that were
        generated here keep the tokens they were generated in.

        Args:
            messages: The conversation, system prompt first.
            tools: What the model may call.
            namespace: Whose replies may be recognised.

        Raises:
            InvalidRequestError: There are no messages, the model has no chat template, or the
                template refuses the conversation.
        """
        if not messages:
            raise InvalidRequestError("messages must not be empty")
        if self._template is None:
            raise InvalidRequestError("this model has no chat template: use raw completions")
        turns = parse_turns(with_prefix(messages, self._defaults.system_prefix))
        functions = parse_tools([tool for tool in tools if not tool.is_deferred])
        disguise: Disguise | None = None
        if self._special_strings.occur_in([turns, functions]):
            disguise = self._special_strings.disguise([turns, functions])
            turns, functions = disguise.put_on(turns), disguise.put_on(functions)
        last = turns[-1]
        continues = last["role"] == Role.ASSISTANT and "tool_calls" not in last and len(turns) > 1
        asked = turns[:-1] if continues else turns
        fitted, native_tools = fit_turns(asked, functions, self._template.abilities)
        rendered = self._template.render(without_labels(fitted), native_tools)
        opens_reasoning = self._marks.opens_reasoning(rendered) and not continues
        if continues:  # what is said already is no reasoning
            rendered = self._marks.before_reasoning(rendered) + last["content"]
        token_ids = self._encoder.encode(rendered, disguise, namespace)
        skeleton = self._template.render(mark_turns(fitted), native_tools)
        outline = Outline(
            skeleton, fitted, self._special_strings, self._end_strings, has_tools=bool(native_tools)
        )
        return RenderedPrompt(
            token_ids=token_ids,
            parts=outline.parts_of(rendered, token_ids, self._codec.special_ids),
            opens_reasoning=opens_reasoning,
        )

    def constrain(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        response_schema_json: str | None,
        *,
        any_object: bool = False,
        opens_reasoning: bool = False,
    ) -> Constraint | None:
        """What a reply has to fit; see ``ChatFormat.constrain``.

        The last constraints are kept, so that it costs next to nothing in an agent's later turns.

        Raises:
            InvalidRequestError: It cannot be enforced; the message names the tool or the schema.
        """
        return self._constraints.constrain(
            tools,
            choice,
            response_schema_json,
            any_object=any_object,
            opens_reasoning=opens_reasoning,
        )

    def reply_reader(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        *,
        opens_reasoning: bool = False,
    ) -> ReplyReader:
        """What takes one reply apart into text, reasoning and tool calls.

        Args:
            tools: What the model may call; without any, a call is text.
            choice: Which of them, and how many times.
            opens_reasoning: Whether the prompt has opened a block of reasoning.
        """
        calls = offered_calls(self._marks.calls, tools, choice)
        return MarkedReader(self._marks.reasoning, calls, opens_reasoning=opens_reasoning)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, for raw completions; special tokens in it are plain text.

        A beginning-of-sequence token is added where the tokenizer's own rules add one.
        """
        return tuple(self._codec.encode_alone(text))

    def remember_reply(
        self,
        prompt_token_ids: Sequence[int],
        reply_token_ids: Sequence[int],
        namespace: str = "",
    ) -> ReplyTokens | None:
        """Keeps how a reply was tokenised, where the tokenizer would do it otherwise.

        When the reply's text comes back in a prompt, the tokens that were generated stand for it.

        Args:
            prompt_token_ids: The prompt that was answered.
            reply_token_ids: What was generated, without the token that ended it.
            namespace: Whose prompt it was.

        Returns:
            What ``recollect_replies`` needs after a restart; None where there is nothing to keep.
        """
        return self._encoder.remember(prompt_token_ids, reply_token_ids, namespace)

    def recollect_replies(self, replies: Iterable[ReplyTokens]) -> None:
        """Takes in what ``remember_reply`` returned before a restart, oldest first."""
        self._encoder.recollect(replies)

    def _reply_marks(self) -> ReplyMarks:
        if self._template is None:
            return ReplyMarks()
        return marks_of(
            self._template,
            self.call_format,
            self.reasoning_format,
            list(self._codec.special_ids),
            self._end_strings,
        )

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
        return self._codec.special_ids.get(first)


def _fitted_template(template: ChatTemplate | None, defaults: ModelDefaults) -> ChatTemplate | None:
    if template is not None and defaults.tool_format is ToolFormat.HERMES:
        # Tools become text, as for a template that has no place for them.
        template.abilities = replace(template.abilities, tools=False)
    return template


def _call_format(template: ChatTemplate | None) -> CallFormat | None:
    if template is None:
        return None
    # Calls that a template would lose are written out for it.
    return call_format_of(template.source) if template.abilities.tools else WRITTEN_CALLS
