"""What a generation is asked for and what comes back: requests, sampling parameters, deltas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from engine.constraint import Constraint
from engine.errors import InvalidRequestError, StokerError
from engine.snapshot import MissRow

MAX_STOP_STRINGS = 16
MAX_LOGIT_BIASES = 1024
MAX_TOP_LOGPROBS = 20
MAX_AGENT_ID_CHARS = 200


class FinishReason(StrEnum):
    """Why a generation ended."""

    END_TURN = "end_turn"
    """The model produced an end-of-turn token."""
    STOP_STRING = "stop_string"
    """One of the request's stop strings appeared; it is not part of the text."""
    MAX_TOKENS = "max_tokens"
    """``max_tokens`` or the context limit was reached."""
    ABORTED = "aborted"
    """The client went away, or somebody aborted the sequence."""
    ERROR = "error"
    """The engine failed; the delta carries the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose tokens. The defaults are greedy.

    Attributes:
        temperature: 0 is greedy; must be in [0, 5].
        top_p: Nucleus mass in (0, 1].
        top_k: Keep the k most likely tokens; 0 keeps all.
        min_p: Drop tokens less likely than ``min_p`` times the most likely one; in [0, 1].
        repetition_penalty: Divides (multiplies negative) logits of recent tokens; 1 is off.
        repetition_context: How many recent tokens the penalties look at.
        presence_penalty: Subtracted once from logits of tokens generated before; in [-2, 2].
        frequency_penalty: Subtracted per occurrence of a generated token; in [-2, 2].
        seed: Makes sampling repeatable, whatever else is in the batch; None draws one.
        logit_bias: Token ids, and what is added to the logit of each; in [-100, 100], where -100
            is as good as never and 100 as good as always.
        num_logprobs: How many of the likeliest tokens are told with each token, at most 20, beside
            the probability of the token itself; None tells nothing.
        stop: Strings that end the generation; never part of the output.
        max_tokens: Upper bound of generated tokens; with 0, the prompt is computed and kept, and
            that is all.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_context: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    num_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int = 512

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            InvalidRequestError: A value is out of range; the message names it.
        """
        _in_range("temperature", self.temperature, 0.0, 5.0)
        _in_range("top_p", self.top_p, 0.0, 1.0)
        _in_range("top_k", self.top_k, 0, 1_000_000)
        _in_range("min_p", self.min_p, 0.0, 1.0)
        _in_range("repetition_penalty", self.repetition_penalty, 0.01, 10.0)
        _in_range("repetition_context", self.repetition_context, 0, 1_000_000)
        _in_range("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _in_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _in_range("max_tokens", self.max_tokens, 0, 10_000_000)
        _in_range("num_logprobs", self.num_logprobs or 0, 0, MAX_TOP_LOGPROBS)
        if len(self.logit_bias) > MAX_LOGIT_BIASES:
            raise InvalidRequestError(f"logit_bias may name at most {MAX_LOGIT_BIASES} tokens")
        for token_id, bias in self.logit_bias:
            _in_range(f"logit_bias of token {token_id}", bias, -100.0, 100.0)
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidRequestError(f"at most {MAX_STOP_STRINGS} stop strings are allowed")
        if not all(self.stop):
            raise InvalidRequestError("a stop string must not be empty")


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also false for NaN
        raise InvalidRequestError(f"{name} must be between {low} and {high}, not {value}")


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A part of a rendered prompt.

    Attributes:
        label: What it is, in words: ``tools``, ``system``, ``message 3 (user)``, ``reply``.
        start_token: Index of its first token. The place before it is one that no token crosses,
            so the cache can be resumed there.
    """

    label: str
    start_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One turn to generate.

    Attributes:
        request_id: Unique id, also in logs and response headers.
        agent_id: The client's conversation identity; None lets the engine find the agent whose
            last prompt is the longest prefix of this one, or name a new one.
        agent_hint: Prefix for the name of an agent the engine has to name itself.
        prompt_token_ids: The rendered prompt, at least one token.
        sampling: How to choose tokens.
        protocol: ``anthropic``, ``openai`` or ``local``; for display only.
        parts: Where the prompt's parts begin, in order; empty where it has none that are known.
        namespace: Whose caches it may see; agents and blocks of other namespaces do not exist
            for it. Empty where everybody shares.
        constraint: What the reply has to fit; None lets it be anything.
        fingerprint: Identity of the model whose tokens the prompt is in; empty where it is not
            known, and then it is taken as it is.
        time_limit_s: Seconds from now until nobody wants the answer any more; None where somebody
            always does. A turn that cannot begin to answer by then is ended before it costs work.
        is_short_lived: Whether the agent is there for this turn only. Whoever sent it removes it;
            one that is found on disk at a start has been left behind, and is removed then.
    """

    request_id: str
    agent_id: str | None
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    agent_hint: str = "anon"
    protocol: str = "local"
    parts: tuple[PromptPart, ...] = ()
    namespace: str = ""
    constraint: Constraint | None = None
    fingerprint: str = ""
    time_limit_s: float | None = None
    is_short_lived: bool = False

    def __post_init__(self) -> None:
        """Checks the prompt and the agent id.

        Raises:
            InvalidRequestError: The prompt is empty, or the agent id is not printable or too long.
        """
        if not self.prompt_token_ids:
            raise InvalidRequestError("the prompt is empty")
        if self.agent_id is not None:
            check_agent_id(self.agent_id)


def check_agent_id(agent_id: str) -> None:
    """Refuses ids that could harm a screen or a log.

    Raises:
        InvalidRequestError: The id is empty, too long, or has unprintable characters.
    """
    if not agent_id or len(agent_id) > MAX_AGENT_ID_CHARS or not agent_id.isprintable():
        raise InvalidRequestError(
            f"an agent id must be 1 to {MAX_AGENT_ID_CHARS} printable characters"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts and times of one turn.

    Attributes:
        num_prompt_tokens: All prompt tokens, cached or not.
        num_cached_tokens: Prompt tokens whose KV came from the cache.
        num_stored_tokens: Prompt tokens that were computed and fill whole blocks, which any agent
            can reuse.
        num_generated_tokens: Tokens generated so far.
        miss: Where the prompt's tokens came from, and why known ones were lost.
        turn_number: Counts the turns of the agent; 0 until this one has ended.
        queue_s: Seconds from arrival to the first prefill slice.
        ttft_s: Seconds from arrival to the first token; None before it.
    """

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_stored_tokens: int = 0
    num_generated_tokens: int = 0
    miss: MissRow = field(default_factory=MissRow)
    turn_number: int = 0
    queue_s: float = 0.0
    ttft_s: float | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was.

    The probabilities are the model's own: before temperature, filters, penalties, biases and
    constraints, as OpenAI's are. So a token that a bias or a constraint forced may be far from
    likely, and need not be among the likeliest.

    Attributes:
        token_id: The token.
        token: Its bytes; a token may be a part of a character.
        logprob: Natural logarithm of its probability.
        top: The likeliest tokens at its place, the likeliest first; empty for those themselves.
    """

    token_id: int
    token: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """The bytes as text; what is no character by itself is replaced."""
        return self.token.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one engine step adds to one generation. The last one has a ``finish_reason``.

    The first delta of a generation is sent when its prompt starts to be processed: it has no
    text, and its usage already says how much of the prompt came from the cache.

    Attributes:
        request_id: The request it belongs to.
        agent_id: The agent that was found or named for it.
        text: New text, stop strings and partial characters held back; may be empty.
        token_ids: New tokens, end-of-turn excluded.
        logprobs: One for each of ``token_ids``, where the request asked for them; else empty.
        usage: Counts so far.
        finish_reason: Set on the last delta only.
        stop_string: The stop string that ended it, with ``STOP_STRING``.
        error: Set with ``ERROR``.
    """

    request_id: str
    agent_id: str
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason | None = None
    stop_string: str | None = None
    error: StokerError | None = None


DeltaSink = Callable[[Delta], None]
"""Receives deltas on the engine thread, at most one per step; must not block."""
