"""What clients ask of a reply's form, as compiled grammars."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.constraint import Constraint
from engine.errors import InvalidRequestError
from engine.messages import ToolChoice, ToolSpec, ToolUse
from engine.models.guidance import (
    GrammarError,
    Guidance,
    SlowGrammarError,
    TokenizerError,
)
from engine.models.reply_grammar import CallRule, ReplyForm, ReplyGrammar
from engine.models.schema_check import parse_schema

COMPILE_S = 5.0
"""How long a request waits for its grammar; honest ones take a hundredth of that."""

MAX_KEPT = 32
"""Constraints that are kept: those of as many sets of tools, which agents send with every turn."""

_NUM_TRIAL_TOKENS = 64
_ANY_OBJECT = {"type": "object"}
_SCHEMA_OWNER = "the response schema"
_UNKNOWN_KEYWORDS = "Unimplemented keys:"
_COMPILER_PREFIX = "failed to compile JSON schema: "


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a client asked of a reply.

    Attributes:
        tools: The tools it offers.
        choice: What it asked of them.
        schema_json: Schema of the reply; None where it need not be JSON.
        any_object: Whether the reply is to be a JSON object of any kind.
        opens_reasoning: Whether the prompt has opened a block of reasoning.
    """

    tools: tuple[ToolSpec, ...]
    choice: ToolChoice
    schema_json: str | None
    any_object: bool
    opens_reasoning: bool

    @property
    def key(self) -> bytes:
        """A digest of all that the grammar depends on; what clients send may be long."""
        tools = [(tool.name, tool.parameters_json) for tool in self.tools]
        rest = (self.choice, self.schema_json, self.any_object, self.opens_reasoning)
        return hashlib.sha256(repr((tools, rest)).encode("utf-8", "surrogatepass")).digest()

    @property
    def callable_tools(self) -> tuple[ToolSpec, ...]:
        """The tools that may be called."""
        names = self.choice.names
        return tuple(tool for tool in self.tools if not names or tool.name in names)

    @property
    def is_binding(self) -> bool:
        """Whether a reply that does not fit is of no use."""
        is_required = self.choice.use is ToolUse.REQUIRED
        return is_required or self.schema_json is not None or self.any_object


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a grammar is made of.

    Attributes:
        use: Whether calls may, must or must not be made.
        is_parallel: Whether there may be several.
        opens_reasoning: Whether the reply begins inside reasoning.
        calls: The tools.
        schema: Schema of JSON that may stand in place of calls.
    """

    use: ToolUse
    is_parallel: bool
    opens_reasoning: bool
    calls: tuple[CallRule, ...] = ()
    schema: Mapping[str, Any] | None = None


class SlowSchemaError(InvalidRequestError):
    """A schema took too long; on a machine that has less to do it may not."""


class ReplyConstraints:
    """Makes constraints, and keeps the last ones. Thread-safe.

    Args:
        form: How the model writes calls and reasoning.
        guidance: Compiles for its tokens.
    """

    def __init__(self, form: ReplyForm, guidance: Guidance) -> None:
        self._form = form
        self._guidance = guidance
        self._lock = threading.Lock()
        self.why_free = ""
        """Why calls are not constrained that might be; known once it was tried."""
        self._kept: OrderedDict[bytes, Constraint | InvalidRequestError | None] = OrderedDict()

    def constrain(
        self,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        response_schema_json: str | None,
        *,
        any_object: bool = False,
        opens_reasoning: bool = False,
    ) -> Constraint | None:
        """What a reply has to fit; see ``ChatFormat.constrain``."""
        wish = _Wish(tuple(tools), choice, response_schema_json, any_object, opens_reasoning)
        key = wish.key
        with self._lock:
            is_kept = key in self._kept
            if is_kept:
                self._kept.move_to_end(key)
                outcome = self._kept[key]
        if not is_kept:
            outcome = self._make(wish)
            with self._lock:
                self._kept[key] = outcome
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        if isinstance(outcome, InvalidRequestError):
            raise InvalidRequestError(str(outcome))
        return outcome

    def _make(self, wish: _Wish) -> Constraint | InvalidRequestError | None:
        """The constraint, or why there is none; what depends on the moment is raised instead."""
        try:
            plan = self._plan(wish)
            return None if plan is None else self._compile(plan)
        except SlowSchemaError:
            raise
        except TokenizerError as error:
            if wish.is_binding:
                return error.with_traceback(None)
            self.why_free = str(error)
            return None
        except InvalidRequestError as error:
            return error.with_traceback(None)

    def _plan(self, wish: _Wish) -> _Plan | None:
        choice = wish.choice
        if choice.use is ToolUse.REQUIRED:
            return self._required(wish)
        schema: Mapping[str, Any] | None = _ANY_OBJECT if wish.any_object else None
        if wish.schema_json is not None:
            schema = parse_schema(wish.schema_json, _SCHEMA_OWNER)
        has_calls = bool(wish.tools) and self._form.calls is not None
        if schema is None and not has_calls:
            return None
        plan = _Plan(choice.use, choice.is_parallel, wish.opens_reasoning, schema=schema)
        if has_calls and choice.use is ToolUse.AUTO:
            return replace(plan, calls=tuple(map(_call_rule, wish.callable_tools)))
        return plan

    def _required(self, wish: _Wish) -> _Plan:
        choice = wish.choice
        if not wish.tools:
            raise InvalidRequestError("a tool call is required, and no tools are given")
        if self._form.calls is None:
            raise InvalidRequestError(
                "this model writes tool calls in a form that cannot be enforced; let it choose "
                "whether to call a tool"
            )
        tools = wish.callable_tools
        if not tools:
            names = ", ".join(map(repr, choice.names))
            raise InvalidRequestError(f"the tool that is required, {names}, is not given")
        calls = tuple(map(_call_rule, tools))
        return _Plan(choice.use, choice.is_parallel, wish.opens_reasoning, calls)

    def _compile(self, plan: _Plan) -> Constraint:
        self._guidance.prepare()
        until_s = time.monotonic() + COMPILE_S
        plan, gaps = self._without_gaps(plan, until_s)
        grammar = self._grammar(plan)
        try:
            matcher, _ = self._guidance.compile(grammar, until_s)
        except GrammarError as error:
            raise _refusal("the schemas of the tools together", error) from None
        return Constraint(grammar=grammar, gaps=gaps, matcher=matcher)

    def _grammar(self, plan: _Plan) -> str:
        grammar = ReplyGrammar(self._form, opens_reasoning=plan.opens_reasoning)
        if plan.schema is not None or plan.use is ToolUse.REQUIRED:
            return grammar.fixed(plan.calls, plan.schema, is_parallel=plan.is_parallel)
        return grammar.free(plan.calls, is_parallel=plan.is_parallel)

    def _without_gaps(self, plan: _Plan, until_s: float) -> tuple[_Plan, tuple[str, ...]]:
        """The plan with what cannot be enforced left out, where the model chooses freely.

        Each schema is tried by itself, because in the whole nobody could tell whose is at fault.

        Raises:
            InvalidRequestError: It has to be enforced, or cannot be used at all.
        """
        if plan.schema is not None:
            try:
                self._try(ReplyGrammar(ReplyForm()).fixed((), plan.schema), until_s)
            except GrammarError as error:
                raise _refusal(_SCHEMA_OWNER, error) from None
        calls: list[CallRule] = []
        gaps: list[str] = []
        for call in plan.calls:
            owner = _owner(call.name)
            try:
                self._try(self._alone(call), until_s)
            except GrammarError as error:
                if plan.use is not ToolUse.AUTO:
                    raise _refusal(owner, error) from None
                call = replace(call, is_lenient=True)
                gaps += self._gaps_of(call, owner, until_s)
            calls.append(call)
        return replace(plan, calls=tuple(calls)), tuple(gaps)

    def _gaps_of(self, call: CallRule, owner: str, until_s: float) -> list[str]:
        try:
            warnings = self._try(self._alone(call), until_s)
        except GrammarError as error:
            raise _refusal(owner, error) from None
        return [
            f"{owner}: {warning.replace(_UNKNOWN_KEYWORDS, 'these keywords are not enforced:')}"
            for warning in warnings
        ]

    def _alone(self, call: CallRule) -> str:
        return ReplyGrammar(replace(self._form, reasoning=None)).fixed([call], is_parallel=False)

    def _try(self, grammar: str, until_s: float) -> tuple[str, ...]:
        _, warnings = self._guidance.compile(grammar, until_s, num_trial_tokens=_NUM_TRIAL_TOKENS)
        return warnings


def _refusal(owner: str, error: GrammarError) -> InvalidRequestError:
    _, _, reason = str(error).rpartition(_COMPILER_PREFIX)
    refusal = SlowSchemaError if isinstance(error, SlowGrammarError) else InvalidRequestError
    reason = reason.replace(_UNKNOWN_KEYWORDS, "leave out the keywords")
    return refusal(f"{owner} cannot be enforced: {reason}")


def _owner(name: str) -> str:
    return f"the schema of tool {name!r}"


def _call_rule(tool: ToolSpec) -> CallRule:
    owner = _owner(tool.name)
    schema = parse_schema(tool.parameters_json or "{}", owner)
    kinds = schema.get("type", "object")
    if kinds != "object" and "object" not in (kinds if isinstance(kinds, list) else ()):
        raise InvalidRequestError(f"{owner} must be of type object")
    return CallRule(tool.name, {**schema, "type": "object"})
