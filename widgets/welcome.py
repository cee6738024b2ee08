"""The empty state: what to paste to bring the first agent here."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from styles.tokens import BRAND, BRIGHT, MUTED
from widgets.format import clean
from widgets.pane import Pane

ROOMY_LINES = 16
ROOMY_CONTEXT_TOKENS = 32_768
DEFAULT_BASE_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True, kw_only=True)
class WelcomeSlice:
    """Where clients reach the API.

    Attributes:
        base_url: Without a path, e.g. ``http://127.0.0.1:8000``.
        model: Id of the active model.
        max_context_tokens: Its context limit in tokens; 0 when not known.
    """

    base_url: str = ""
    model: str = ""
    max_context_tokens: int = 0


def launch_line(base_url: str) -> str:
    """The line that has Stoker itself start a coding agent with all that it should be told."""
    place = "" if base_url == DEFAULT_BASE_URL else f" --url {base_url}"
    return f"stoker launch claude{place}"


def claude_code_line(base_url: str, max_context_tokens: int) -> str:
    """The line that starts Claude Code against this engine.

    With a small context it is started bare, since its usual tools alone would not fit.
    """
    settings = f"ANTHROPIC_BASE_URL={base_url} ANTHROPIC_API_KEY=local"
    if not 0 < max_context_tokens < ROOMY_CONTEXT_TOKENS:
        return f"{settings} claude"
    return f"{settings} CLAUDE_CODE_MAX_CONTEXT_TOKENS={max_context_tokens} claude --bare"


def curl_line(base_url: str) -> str:
    """The line that asks a question with curl."""
    body = '{"max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}'
    return f"curl {base_url}/v1/messages -H 'content-type:application/json' -d '{body}'"


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
            ("Claude Code", "codex and opencode likewise", launch_line(shown.base_url)),
            (
                "Claude Code by hand",
                "y copies the line",
                claude_code_line(shown.base_url, shown.max_context_tokens),
            ),
            ("OpenAI SDK", "", openai_line(shown.base_url)),
            ("curl", "", curl_line(shown.base_url)),
        )
        gap = [Content("")] if height >= ROOMY_LINES else []
        lines = [
            *gap,
            Content.styled(f"{clean(shown.model) or 'The engine'} is ready.", f"bold {BRIGHT}"),
            Content.styled("No agent has called yet. Try one of these in another terminal:", MUTED),
            Content(""),
        ]
        for name, remark, line in clients:
            lines.append(Content.assemble((name, BRAND), (f"  {remark}".rstrip(), MUTED)))
            lines += [Content.styled(part, BRIGHT) for part in _wrapped(line, width)]
            lines += gap
        return lines


def _wrapped(line: str, width: int) -> list[str]:
    """A line in pieces that fit, cut at spaces with a backslash, so that it can be pasted whole."""
    pieces: list[str] = []
    rest = line
    while len(rest) > width - 2 and " " in rest[: width - 4].strip():
        cut = rest.rindex(" ", 0, width - 4)
        pieces.append(f"  {rest[:cut]} \\")
        rest = "  " + rest[cut:].lstrip()
    return [*pieces, f"  {rest}"]
