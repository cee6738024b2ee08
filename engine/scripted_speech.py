"""What scripted agents say: a reply to watch while it grows, and a system prompt that changed."""

from __future__ import annotations

from engine.agent_commands import AgentText
from engine.snapshot import MissCause, MissRow

_SPEECH = (
    "The test fails because the cache is read before the writer has flushed it. I moved the flush "
    "in front of the notification and kept the lock for both. The reader now waits at most once, "
    "and the new test covers the case where the file is replaced in between. "
)
_WORDS = _SPEECH.split()
_LEAD = "You are a careful engineer.\nWorking directory: /home/dev/repo-a\n"
_WAS = "Today is Thursday, 20 November.\nBranch: main"
_NOW = "Today is Friday, 21 November.\nBranch: cache-flush"


def scripted_text(miss: MissRow, num_generated_tokens: int | None) -> AgentText:
    """What an agent is saying at one moment.

    Args:
        miss: How the cache met its last prompt.
        num_generated_tokens: Tokens of its reply so far; None where it is not to be heard.
    """
    reply = None
    if num_generated_tokens is not None:
        num_words = num_generated_tokens * 3 // 4
        reply = " ".join(_WORDS[index % len(_WORDS)] for index in range(num_words))
    if miss.cause is not MissCause.CHANGED_TEXT:
        return AgentText(reply=reply)
    return AgentText(reply=reply, lead=_LEAD, was=_WAS, now=_NOW)
