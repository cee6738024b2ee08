"""The empty state: what to paste to bring the first agent here."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from styles.tokens import BRAND, BRIGHT, GOOD, MUTED
from widgets.format import clean
from widgets.pane import Pane

ROOMY_LINES = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class WelcomeSlice:
    """Where clients reach the API.

    Attributes:
        base_url: Without a path, e.g. ``http://127.0.0.1:8000``.
        model: Id of the active model.
    """

    base_url: str = ""
    model: str = ""


def claude_code_line(base_url: str) -> str:
    """The line that starts Claude Code against this engine."""
    return f"ANTHROPIC_BASE_URL={base_url} ANTHROPIC_API_KEY=local claude"


def curl_line(base_url: str) -> str:
    """The line that asks a question with curl."""
    body = '{"max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}'
    return f"curl {base_url}/v1/messages -H 'content-type: application/json' -d '{body}'"


def openai_line(base_url: str) -> str:
    """The Python line that makes an OpenAI client."""
    return f'OpenAI(base_url="{base_url}/v1", api_key="local")'


class WelcomePane(Pane[WelcomeSlice]):
    """Lines to paste, one per kind of client."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__(WelcomeSlice(), "agents [b]0[/b]", widget_id="welcome")

    def draw(self, width: int, height: int) -> list[Content]:
        """A heading, then each client with its line; long lines wrap."""
        shown = self._slice
        clients = (
            ("Claude Code", claude_code_line(shown.base_url)),
            ("OpenAI SDK", openai_line(shown.base_url)),
            ("curl", curl_line(shown.base_url)),
        )
        gap = [Content("")] if height >= ROOMY_LINES else []
        lines = [
            *gap,
            Content.assemble(
                (f"{clean(shown.model) or 'The engine'} is ready.", f"bold {BRIGHT}"),
                (" No agent has called yet; any of these will appear here:", MUTED),
            ),
            Content(""),
        ]
        for name, line in clients:
            lines.append(Content.styled(name, BRAND))
            lines += [Content.styled(part, GOOD) for part in _wrapped(line, width)]
            lines += gap
        lines += [
            Content.assemble(
                ("y", f"bold {BRAND}"),
                (" copies the Claude Code line", MUTED),
            )
        ]
        return lines


def _wrapped(line: str, width: int) -> list[str]:
    """A line in pieces that fit, indented by two; breaks between words where it can."""
    room = max(8, width - 2)
    pieces: list[str] = []
    rest = line
    while len(rest) > room:
        cut = rest.rfind(" ", 1, room)
        cut = cut if cut > 0 else room
        pieces.append(rest[:cut])
        rest = rest[cut:].lstrip()
    return [f"  {piece}" for piece in [*pieces, rest]]
