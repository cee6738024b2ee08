"""How turns end: by themselves, by hand, for want of time, or with an error."""

from __future__ import annotations

from collections.abc import Callable

from engine.cache.agents import AgentStore
from engine.cache.last_turn import LastTurn
from engine.cache.reply import kept_replies
from engine.errors import DeadlineError, StokerError
from engine.models.chat import ModelChat
from engine.persistence import Persistence
from engine.request import Delta, FinishReason
from engine.residency import Residency
from engine.scheduler import Scheduler
from engine.sequence import Sequence
from engine.telemetry import Telemetry
from engine.trace import whose

DEADLINE_LOOK_S = 0.25
"""Deadlines are looked at this often."""


class Endings:
    """Ends sequences and tells their clients. Belongs to the engine's thread."""

    def __init__(
        self,
        chat: ModelChat,
        scheduler: Scheduler,
        residency: Residency,
        agents: AgentStore,
        persistence: Persistence | None,
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """Wires the parts.

        Args:
            chat: Remembers how replies were tokenised.
            scheduler: Lets sequences go.
            residency: Keeps what they computed.
            agents: Told when a turn of theirs ends.
            persistence: Keeps agents on disk; None without a warm tier.
            telemetry: Takes events and measurements.
            clock: Monotonic seconds.
        """
        self._chat = chat
        self._scheduler = scheduler
        self._residency = residency
        self._agents = agents
        self._persistence = persistence
        self._telemetry = telemetry
        self._clock = clock
        self._looked_s = float("-inf")

    def finish(
        self, sequence: Sequence, reason: FinishReason, error: StokerError | None = None
    ) -> None:
        """Ends a sequence, wherever it is, and tells its client; its cache becomes its agent's."""
        self._scheduler.remove(sequence)
        if sequence.caches is not None:
            self._residency.keep(sequence)
        else:
            self._residency.release(sequence)
        agent = sequence.agent
        if sequence.output.num_tokens and error is None:
            self._remember_reply(sequence)
        now_s = self._clock()
        mark = sequence.mark(self._telemetry.wall_clock(), now_s)
        sequence.turn_number = mark.number
        self._agents.end_turn(agent, now_s, sequence.request.prompt_token_ids, mark)
        self._telemetry.turn_finished()
        self._telemetry.trace.finished(sequence, reason)
        self._scheduler.observe_end(now_s)
        if sequence.started_s is not None:
            agent.last_turn = _last_turn(sequence)
        self.send(sequence, reason, error)
        if self._persistence is not None and agent.block_table:
            self._persistence.keep_agent(agent)

    def _remember_reply(self, sequence: Sequence) -> None:
        agent, request = sequence.agent, sequence.request
        prompt = request.prompt_token_ids
        reply = self._chat.remember_reply(
            prompt, sequence.token_ids[len(prompt) :], request.namespace
        )
        agent.replies = kept_replies(agent.replies, prompt, reply)

    def send(
        self,
        sequence: Sequence,
        reason: FinishReason | None = None,
        error: StokerError | None = None,
    ) -> None:
        """Sends what is new of a sequence to its client.

        Args:
            sequence: The sequence.
            reason: Why it has ended; None while it has not.
            error: What went wrong, with ``ERROR``.
        """
        text, token_ids, logprobs = sequence.output.take()
        sequence.sink(
            Delta(
                request_id=sequence.request.request_id,
                agent_id=sequence.agent.agent_id,
                text=text,
                token_ids=token_ids,
                logprobs=logprobs,
                usage=sequence.usage,
                finish_reason=reason,
                stop_string=sequence.output.stop_string,
                error=error,
            )
        )

    def abort(self, sequence: Sequence, reason: str) -> None:
        """Ends a sequence, wherever it is; what it computed stays its agent's."""
        self._telemetry.note(
            "abort",
            f"{sequence.agent.agent_id}: {reason} after {sequence.num_generated_tokens} tokens",
            **whose(sequence),
        )
        self.finish(sequence, FinishReason.ABORTED)

    def end(self, sequence: Sequence, error: StokerError) -> None:
        """Ends a sequence that did nothing wrong; what it computed stays its agent's."""
        text = f"{sequence.agent.agent_id}: {error}"
        self._telemetry.note("abort", text, "warning", **whose(sequence))
        self.finish(sequence, FinishReason.ERROR, error)

    def fail(self, sequence: Sequence, error: StokerError) -> None:
        """Ends a sequence with an error; nothing it computed is kept."""
        text = f"{sequence.agent.agent_id}: {error}"
        self._telemetry.note("error", text, "error", **whose(sequence))
        # What a failed step left behind is not to be trusted.
        sequence.num_computed_tokens = 0
        self.finish(sequence, FinishReason.ERROR, error)

    def fail_somehow(self, sequence: Sequence, error: StokerError) -> None:
        """Ends a sequence with an error in a state that may be broken: its client hears of it."""
        try:
            self.fail(sequence, error)
        except Exception as failure:
            self._telemetry.note("error", f"a turn could not be taken apart: {failure!r}", "error")
            self.send(sequence, FinishReason.ERROR, error)

    def look_soon(self) -> None:
        """Has deadlines looked at before the next step: somebody new has come."""
        self._looked_s = float("-inf")

    def end_hopeless(self) -> None:
        """Ends turns that cannot begin to answer in time any more, before they cost work."""
        now_s = self._clock()
        if now_s - self._looked_s < DEADLINE_LOOK_S:
            return
        self._looked_s = now_s
        for sequence in self._scheduler.hopeless(now_s, self._residency.num_known_tokens):
            left_s = max(0.0, (sequence.deadline_s or now_s) - now_s)
            text = (
                "this request cannot be answered in time any more (request_timeout_s): "
                f"{left_s:.1f} seconds are left for a prompt of {sequence.num_prompt_tokens} tokens"
            )
            self._telemetry.note(
                "deadline", f"{sequence.agent.agent_id}: {text}", "warning", **whose(sequence)
            )
            # What is computed of it is sound, and helps whoever asks again.
            self.finish(sequence, FinishReason.ERROR, DeadlineError(text))


def _last_turn(sequence: Sequence) -> LastTurn:
    return LastTurn(
        num_generated_tokens=sequence.num_generated_tokens,
        ttft_s=sequence.ttft_s,
        miss=sequence.miss,
    )
