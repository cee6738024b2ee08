"""Compiles grammars for one model's tokens, within bounds of time and memory."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import InvalidRequestError
from engine.models.token_matcher import GuidanceMatcher

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MAX_GRAMMAR_CHARS = 1_000_000
_MAX_COMPILING = 2
_NUM_CHOICES = 4


class GrammarError(Exception):
    """A grammar cannot be compiled; the message is the compiler's, in one line."""


class SlowGrammarError(GrammarError):
    """A grammar was not compiled in time."""


class TokenizerError(InvalidRequestError):
    """No grammar can be compiled for the model's tokens."""


class Guidance:
    """llguidance, for one tokenizer. Thread-safe.

    It is imported, and takes the tokenizer in, when the first grammar is compiled.

    Args:
        tokenizer_json: Gives the content of ``tokenizer.json``.
        end_token_ids: Tokens that end a reply.
    """

    def __init__(self, tokenizer_json: Callable[[], str], end_token_ids: frozenset[int]) -> None:
        self._tokenizer_json = tokenizer_json
        self._end_token_ids = sorted(end_token_ids)
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiling = threading.BoundedSemaphore(_MAX_COMPILING)

    def compile(
        self, grammar: str, until_s: float, *, num_trial_tokens: int = 1
    ) -> tuple[GuidanceMatcher, tuple[str, ...]]:
        """A matcher at the beginning of a reply, and what the compiler passed over.

        Args:
            grammar: The grammar.
            until_s: When to give up, in monotonic seconds.
            num_trial_tokens: How far to follow it on trial: some grammars are compiled, and turn
                out to be too complex where they become so.

        Raises:
            GrammarError: The compiler refuses it, or no reply fits it.
            TokenizerError: See ``prepare``.
        """
        if len(grammar) > MAX_GRAMMAR_CHARS:
            raise GrammarError(
                f"it has {len(grammar)} characters, and at most {MAX_GRAMMAR_CHARS} are allowed"
            )
        tokenizer = self.prepare()
        found: list[LLMatcher | GrammarError] = []
        # llguidance bounds its own work but for some products of patterns, and cannot be stopped:
        # a compilation that is given up on keeps its place until it has ended.
        if not _left_s(until_s) or not self._compiling.acquire(timeout=_left_s(until_s)):
            raise SlowGrammarError("there was no time left to compile it; try again later")
        thread = threading.Thread(
            target=self._compile,
            args=(grammar, tokenizer, num_trial_tokens, found),
            name="grammar",
            daemon=True,
        )
        thread.start()
        thread.join(_left_s(until_s))
        if not found:
            raise SlowGrammarError("it takes too long to compile; make it simpler")
        [outcome] = found
        if isinstance(outcome, GrammarError):
            raise outcome
        return GuidanceMatcher(outcome), tuple(outcome.get_grammar_warnings())

    def _compile(
        self,
        grammar: str,
        tokenizer: LLTokenizer,
        num_trial_tokens: int,
        found: list[LLMatcher | GrammarError],
    ) -> None:
        from llguidance import LLMatcher

        try:
            matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_limits())
            error = _error_within(matcher, num_trial_tokens)
            found.append(GrammarError(_reason(error)) if error else matcher)
        finally:
            self._compiling.release()

    def prepare(self) -> LLTokenizer:
        """Takes the tokenizer in, which costs some tenths of a second once.

        Raises:
            TokenizerError: llguidance does not know its kind.
        """
        from llguidance import LLTokenizer

        with self._lock:
            if self._tokenizer is None:
                try:
                    self._tokenizer = LLTokenizer(
                        self._tokenizer_json(), eos_token=self._end_token_ids
                    )
                except ValueError as error:
                    raise TokenizerError(
                        f"replies of this model cannot be held to a form: {error}"
                    ) from error
            return self._tokenizer


def _left_s(until_s: float) -> float:
    return max(0.0, until_s - time.monotonic())


def _error_within(matcher: LLMatcher, num_tokens: int) -> str:
    """The error that some replies that fit run into within a number of tokens; empty if none."""
    choices = random.Random(0)
    trial = matcher.deep_copy()
    for _ in range(num_tokens):
        bits = np.frombuffer(trial.compute_bitmask(), np.uint8)
        if trial.is_error():
            return trial.get_error()
        if trial.is_stopped():
            trial = matcher.deep_copy()
            continue
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
        if not allowed.size:
            return "no reply fits"
        # Tokens of low numbers are single characters: quotes and braces, which lead on, among them.
        trial.consume_token(int(choices.choice(allowed[:_NUM_CHOICES])))
    return trial.get_error()


def _limits() -> LLParserLimits:
    """Bounds that no tool definitions of real clients come near.

    A step under them takes some tens of milliseconds at worst, and a matcher some tens of MB.
    """
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=500_000,
        step_lexer_fuel=100_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


def _reason(message: str) -> str:
    """The line of a compiler's message that says what is wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (named or lines or ["it cannot be compiled"])[0]
