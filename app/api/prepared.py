"""A request that was read, with its prompts in tokens, before any turn is queued."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from app.api.draft import TurnDraft
from app.api.telemetry import RequestRecord
from engine.constraint import Constraint
from engine.errors import ContextExceededError
from engine.messages import ChatFormat, RenderedPrompt
from engine.pieces import ReplyReader
from engine.request import Request

DraftT = TypeVar("DraftT", bound=TurnDraft)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Generic[DraftT]):
    """What turns are made of.

    Attributes:
        draft: What the client asked for.
        prompts: What the model reads, one prompt for each reply that goes on from another text.
        chat_format: The text side of the model.
        constraint: What every reply has to fit; None where any will do.
        model_id: The model that answers.
    """

    draft: DraftT
    prompts: tuple[RenderedPrompt, ...]
    chat_format: ChatFormat
    constraint: Constraint | None
    model_id: str = ""

    def alone(self, index: int, draft: DraftT) -> Prepared[DraftT]:
        """One of the prompts, to be answered as another draft says."""
        return replace(self, draft=draft, prompts=(self.prompts[index],))

    def request(self, record: RequestRecord, protocol: str) -> Request:
        """The first prompt as the engine takes it.

        Raises:
            StokerError: It cannot be answered as it was asked for.
        """
        draft, prompt = self.draft, self.prompts[0]
        max_tokens = clamp_max_tokens(
            draft.max_tokens, len(prompt.token_ids), self.chat_format.max_context_tokens
        )
        return Request(
            request_id=record.request_id,
            agent_id=draft.agent_id,
            agent_hint=draft.agent_hint,
            prompt_token_ids=prompt.token_ids,
            parts=prompt.parts,
            sampling=replace(draft.sampling, max_tokens=max_tokens),
            protocol=protocol,
            namespace=record.namespace,
            constraint=self.constraint,
            fingerprint=self.chat_format.fingerprint,
            is_short_lived=draft.is_copy,
        )

    def num_tokens(self, text: str) -> int:
        """How many tokens a text is to the model's tokenizer."""
        return len(self.chat_format.encode_text(text)) if text else 0

    def reader(self) -> ReplyReader:
        """What takes the reply to the first prompt apart."""
        return self.draft.reader(self.chat_format, self.prompts[0])


def clamp_max_tokens(asked: int | None, num_prompt_tokens: int, max_context_tokens: int) -> int:
    """How many tokens may be generated: what was asked for, or what fits.

    Raises:
        ContextExceededError: The prompt leaves no room for a single token.
    """
    room = max_context_tokens - num_prompt_tokens
    if room < 1:
        # A prompt that just fills the context is too long as well: by the token of the reply.
        limit = max_context_tokens if room < 0 else max_context_tokens - 1
        raise ContextExceededError(num_prompt_tokens, limit)
    return room if asked is None else min(asked, room)
