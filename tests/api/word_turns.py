"""The turns of the scripted engine: words of a script, one a step, until something ends them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.commands import Generate
from engine.errors import StokerError
from engine.request import Delta, FinishReason, Request, TokenLogprob, Usage
from engine.snapshot import MissCause, MissRow

NUM_CACHED_TOKENS = 7
NUM_STORED_TOKENS = 3


def prompt_text(request: Request) -> str:
    return bytes(request.prompt_token_ids).decode()


def _logprobs(text: str, token_ids: tuple[int, ...], num: int | None) -> tuple[TokenLogprob, ...]:
    """The word itself is likeliest, the word in capitals second."""
    if num is None or not token_ids:
        return ()
    word = TokenLogprob(token_ids[0], text.encode(), -0.25)
    other = TokenLogprob(0, text.upper().encode(), -2.0)
    return (replace(word, top=(word, other)[:num]),)


@dataclass(kw_only=True)
class Script:
    """What the engine does with the turns it gets."""

    words: tuple[str, ...] = ("Paris", " is", " the", " capital", ".")
    step_s: float = 0.0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    refuse: StokerError | None = None
    fail_at: int | None = None
    error: StokerError | None = None
    abort_at: int | None = None


@dataclass
class Turn:
    """One that is on, and how far it is."""

    command: Generate
    script: Script
    arrived: float = field(default_factory=time.monotonic)
    num_words: int = 0
    is_prefilling: bool = False
    next_at: float = 0.0


class WordTurns:
    """Says what its script says, in every turn."""

    running: list[Turn]

    def reset_turns(self, script: Script | None) -> None:
        """Forgets what was asked and told; the turns that run go on."""
        self.script = script or Script()
        self.requests: list[Request] = []
        self.aborted: list[tuple[str, str]] = []
        self.at_end: Callable[[str], object] = str
        self.refuse_after = 0
        self.refuse_once: list[StokerError] = []
        self._num_turns: Counter[str] = Counter()

    def _admit(self, command: Generate) -> None:
        self.requests.append(command.request)
        if self.refuse_once:
            command.admitted.set_exception(self.refuse_once.pop())
            return
        if self.script.refuse is not None and len(self.requests) > self.refuse_after:
            command.admitted.set_exception(self.script.refuse)
            return
        command.admitted.set_result(command.request.agent_id or f"{command.request.agent_hint}-1")
        self.running.append(Turn(command, self.script))

    def _abort(self, request_id: str) -> None:
        for turn in self.running:
            if turn.command.request.request_id == request_id:
                state = "queued"
                if turn.is_prefilling:
                    state = "decoding" if turn.num_words else "prefilling"
                self.aborted.append((request_id, state))
                self._end(turn, FinishReason.ABORTED)
                return

    def _step(self, turn: Turn, now: float) -> None:
        script, request = turn.script, turn.command.request
        if not turn.is_prefilling:
            if now - turn.arrived >= script.queue_s:
                turn.is_prefilling = True
                turn.next_at = now + script.prefill_s
                self._send(turn)
            return
        if now < turn.next_at:
            return
        turn.next_at = now + script.step_s
        if turn.num_words == script.fail_at:
            self._end(turn, FinishReason.ERROR, error=script.error)
        elif turn.num_words == script.abort_at:
            self._end(turn, FinishReason.ABORTED)
        elif request.sampling.max_tokens == 0:
            self._end(turn, FinishReason.MAX_TOKENS)
        else:
            self._say(turn)

    def _say(self, turn: Turn) -> None:
        script, request = turn.script, turn.command.request
        if turn.num_words >= len(script.words):
            self._end(turn, FinishReason.END_TURN)
        elif script.words[turn.num_words].strip() in request.sampling.stop:
            self._end(
                turn,
                FinishReason.STOP_STRING,
                stop_string=script.words[turn.num_words].strip(),
            )
        else:
            turn.num_words += 1
            self._send(turn, text=script.words[turn.num_words - 1], token_ids=(turn.num_words,))
            if turn.num_words >= request.sampling.max_tokens:
                self._end(turn, FinishReason.MAX_TOKENS)

    def _send(
        self,
        turn: Turn,
        *,
        text: str = "",
        token_ids: tuple[int, ...] = (),
        finish_reason: FinishReason | None = None,
        stop_string: str | None = None,
        error: StokerError | None = None,
    ) -> None:
        request = turn.command.request
        agent_id = turn.command.admitted.result()
        self._num_turns[agent_id] += finish_reason is not None
        turn.command.sink(
            Delta(
                request_id=request.request_id,
                agent_id=agent_id,
                text=text,
                token_ids=token_ids,
                logprobs=_logprobs(text, token_ids, request.sampling.num_logprobs),
                usage=Usage(
                    num_prompt_tokens=len(request.prompt_token_ids),
                    num_cached_tokens=NUM_CACHED_TOKENS,
                    num_stored_tokens=NUM_STORED_TOKENS,
                    num_generated_tokens=turn.num_words,
                    turn_number=self._num_turns[agent_id] if finish_reason is not None else 0,
                    miss=MissRow(
                        num_hot_tokens=4,
                        num_warm_tokens=3,
                        num_lost_tokens=5,
                        num_new_tokens=len(request.prompt_token_ids) - 12,
                        cause=MissCause.CHANGED_TEXT,
                        changed_token=7,
                        part="system",
                        lost_s=0.25,
                    ),
                ),
                finish_reason=finish_reason,
                stop_string=stop_string,
                error=error,
            )
        )

    def _end(
        self,
        turn: Turn,
        reason: FinishReason,
        *,
        stop_string: str | None = None,
        error: StokerError | None = None,
    ) -> None:
        self.running.remove(turn)
        self._send(turn, finish_reason=reason, stop_string=stop_string, error=error)
        self.at_end(turn.command.request.request_id)
