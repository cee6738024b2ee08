"""Models as lines: the columns of a list, and what a swap would mean for the agents. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from engine.snapshot import AgentImpact, AgentStatus, ModelChoice
from styles.tokens import BAD, BRAND, BRIGHT, DIM, DISK, GOOD, MUTED, PLAIN, WARN, Glyphs
from widgets.bars import Part, bar
from widgets.format import clean, context_limit, fit, percent, seconds, short_bytes, short_ids
from widgets.model import LOSSLESS

GAP = "  "
MARK_CELLS = 4
MIN_NAME_CELLS, MAX_NAME_CELLS = 22, 40
MIN_NOTE_CELLS = 14
LABEL_CELLS = 10
FIGURE_CELLS = 8
BAR_CELLS = 12
WARM_WITHIN_TOKENS = 256
"""An agent that would lose less than a block is as warm as one can be."""
_FITS = {True: "yes", False: "no", None: "-"}
_FIGURES: tuple[tuple[str, int], ...] = (
    ("bits", 4),
    ("size", 5),
    ("context", 7),
    ("KV/1K", 5),
    ("fits", 4),
    ("warm", 4),
)
"""Columns of one width, with it."""


def _widths(width: int) -> tuple[int, int]:
    """Cells of the name and of the note at the end."""
    figures = sum(cells + len(GAP) for _, cells in _FIGURES)
    room = width - MARK_CELLS - figures
    name = min(MAX_NAME_CELLS, max(MIN_NAME_CELLS, room // 2))
    note = room - name - len(GAP)
    return (name, note) if note >= MIN_NOTE_CELLS else (max(8, min(MAX_NAME_CELLS, room)), 0)


def model_headings(width: int) -> Content:
    """The list's first line."""
    name, note = _widths(width)
    figures = "".join(f"{GAP}{title:>{cells}}" for title, cells in _FIGURES)
    return Content.styled(
        f"{'':{MARK_CELLS}}{'model':<{name}}{figures}{GAP + 'verdict' if note else ''}", MUTED
    )


def model_line(choice: ModelChoice, width: int, glyphs: Glyphs, *, is_cursor: bool) -> Content:
    """One model of the list.

    Args:
        choice: The model.
        width: Cells.
        glyphs: Marks.
        is_cursor: Whether it is the one that is looked at.
    """
    name, note = _widths(width)
    mark, mark_role = _mark(choice, glyphs)
    role = DIM if choice.refusal else BRIGHT
    parts: list[Part] = [
        (f"{glyphs.cursor if is_cursor else ' '} ", BRAND),
        (f"{mark} ", mark_role),
        (fit(choice.model_id, name, glyphs.ellipsis), f"bold {role}" if is_cursor else role),
    ]
    for text, (_, cells) in zip(_figures(choice), _FIGURES, strict=True):
        parts.append((f"{GAP}{text:>{cells}}", DIM if text in ("-", "0%") else PLAIN))
    if note:
        text, note_role = note_words(choice)
        parts.append((GAP + fit(text, note, glyphs.ellipsis), note_role))
    return Content.assemble(*parts)


def _mark(choice: ModelChoice, glyphs: Glyphs) -> Part:
    if choice.is_active:
        return glyphs.serving, GOOD
    if choice.refusal:
        return glyphs.error, BAD
    return (glyphs.warning, WARN) if choice.fits is False else (" ", "")


def _figures(choice: ModelChoice) -> tuple[str, ...]:
    cache_bytes = choice.cache_bytes_per_1k_tokens
    num_tokens = sum(map(context_tokens, choice.agents))
    num_warm = sum(agent.num_warm_tokens for agent in choice.agents)
    return (
        str(choice.num_bits or "-"),
        short_bytes(choice.size_bytes) if choice.size_bytes else "-",
        context_limit(choice.max_context_tokens) if choice.max_context_tokens else "-",
        "-" if cache_bytes is None else short_bytes(cache_bytes),
        _FITS[choice.fits],
        percent(num_warm / num_tokens if num_tokens else None),
    )


def note_words(choice: ModelChoice) -> Part:
    """What is to be known of a model before it is chosen, with its colour."""
    if choice.refusal:
        return f"cannot be loaded: {choice.refusal}", BAD
    if choice.is_active:
        return ("serves, in another format" if choice.agents else "serves now"), GOOD
    if choice.fits is False:
        return "does not fit this device", WARN
    return (choice.verdict, PLAIN) if choice.verdict else ("never judged", DIM)


def context_tokens(agent: AgentImpact) -> int:
    """Tokens of an agent's context, under the model that knows more of it."""
    return max(agent.num_tokens, agent.num_warm_tokens)


def is_warm(agent: AgentImpact) -> bool:
    """Whether an agent would lose less than a block."""
    return agent.num_warm_tokens > 0 and agent.num_lost_tokens < WARM_WITHIN_TOKENS


def lost_tokens(agents: Sequence[AgentImpact]) -> int:
    """Tokens that would have to be computed again."""
    return sum(agent.num_lost_tokens for agent in agents)


def lost_seconds(agents: Sequence[AgentImpact]) -> float | None:
    """Seconds that would take; None where no speed was measured."""
    times = [agent.prefill_s for agent in agents if agent.num_lost_tokens]
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(times) else None


def warm_words(agents: Sequence[AgentImpact]) -> str:
    """How many agents would find their caches on disk, wholly or in part."""
    num_warm = sum(map(is_warm, agents))
    num_partly = sum(agent.num_warm_tokens > 0 for agent in agents) - num_warm
    partly = f", {num_partly} in part" if num_partly else ""
    agents_words = "1 agent" if len(agents) == 1 else f"{len(agents)} agents"
    if not num_warm and not num_partly:
        return f"none of {agents_words} stays warm"
    stay = "stays" if num_warm == 1 else "stay"
    return f"{num_warm} of {agents_words} {stay} warm{partly}"


def again_words(num_tokens: int, prefill_s: float | None) -> str:
    """Tokens to compute again and, where that is known, how long it takes."""
    words = f"{num_tokens:,} tokens"
    return f"{words}, {seconds(prefill_s)}" if prefill_s is not None else words


def with_context(choice: ModelChoice) -> list[AgentImpact]:
    """The agents that have something to lose, the most first."""
    agents = [agent for agent in choice.agents if context_tokens(agent)]
    return sorted(agents, key=lambda agent: -agent.num_lost_tokens)


def preview_lines(choice: ModelChoice, width: int, glyphs: Glyphs) -> list[Content]:
    """What a swap to a model would mean, a line each.

    Args:
        choice: The model.
        width: Cells.
        glyphs: Marks.
    """
    where = f" {glyphs.separator} ".join(
        clean(word) for word in (choice.origin, choice.architecture) if word
    )
    name = fit(choice.model_id, max(8, width - len(where) - 2), glyphs.ellipsis).rstrip()
    lines = [Content.assemble((name, f"bold {BRIGHT}"), (f"  {where}", MUTED))]
    lines += _fact("verdict", *_verdict(choice), width)
    if not choice.refusal:
        lines += _fact("loading", *_loading(choice), width)
    if not choice.refusal and choice.kv_format not in ("", LOSSLESS):
        lines += _fact("kv cache", choice.kv_format, PLAIN, width)
    if choice.refusal or (choice.is_active and not choice.agents):
        return lines
    return [*lines, *_agent_lines(choice, width, glyphs)]


def _verdict(choice: ModelChoice) -> Part:
    if choice.refusal:
        return note_words(choice)
    judged = choice.verdict or "never judged against a better copy of itself"
    role = PLAIN if choice.verdict else MUTED
    if choice.fits is False:
        return f"does not fit this device; {judged}", WARN
    return judged, role


def _loading(choice: ModelChoice) -> Part:
    if choice.is_active and not choice.agents:
        took = f", loaded in {seconds(choice.load_s)}" if choice.load_s is not None else ""
        return f"serves now{took}", GOOD
    if choice.load_s is None:
        return "it was never loaded here, so nothing tells how long that takes", MUTED
    return f"{seconds(choice.load_s)} last time; requests wait meanwhile", PLAIN


def _agent_lines(choice: ModelChoice, width: int, glyphs: Glyphs) -> list[Content]:
    agents = with_context(choice)
    if not agents:
        return _fact("agents", "none has a context: nothing is to be computed again", PLAIN, width)
    num_lost = lost_tokens(agents)
    lines = _fact("agents", warm_words(agents), PLAIN, width)
    lost_s = lost_seconds(agents)
    unknown = "" if lost_s is not None else "; how fast it reads was never measured"
    words = again_words(num_lost, lost_s) + unknown if num_lost else "nothing"
    lines += _fact("again", words, BRIGHT if num_lost else GOOD, width)
    room = width - 3 - 4 * (FIGURE_CELLS + len(GAP)) - BAR_CELLS - 1
    cells = max(8, min(MAX_NAME_CELLS, room))
    heads = "".join(f"{GAP}{head:>{FIGURE_CELLS}}" for head in ("context", "on disk"))
    tail = "".join(f"{GAP}{head:>{FIGURE_CELLS}}" for head in ("again", "takes"))
    lines += [
        Content(""),
        Content.styled(f"  {'agent':<{cells}}{heads}{'':{BAR_CELLS + 1}}{tail}", MUTED),
    ]
    return [*lines, *(_agent_line(agent, cells, glyphs) for agent in agents)]


def _agent_line(agent: AgentImpact, name_cells: int, glyphs: Glyphs) -> Content:
    num_lost, num_tokens = agent.num_lost_tokens, context_tokens(agent)
    stays = is_warm(agent)
    mark = glyphs.agent[AgentStatus.WARM if agent.num_warm_tokens else AgentStatus.COLD]
    takes = seconds(agent.prefill_s) if num_lost else "-"
    lost = "-" if stays else f"{num_lost:,}"
    return Content.assemble(
        (f"{mark} ", DISK if agent.num_warm_tokens else DIM),
        (fit(short_ids(agent.title), name_cells, glyphs.ellipsis), BRIGHT),
        (f"{GAP}{num_tokens:>{FIGURE_CELLS},}", PLAIN),
        (f"{GAP}{agent.num_warm_tokens:>{FIGURE_CELLS},}", PLAIN if agent.num_warm_tokens else DIM),
        " ",
        *bar(agent.num_warm_tokens / num_tokens, BAR_CELLS, DISK, glyphs),
        (f"{GAP}{lost:>{FIGURE_CELLS}}", DIM if stays else BRIGHT),
        (f"{GAP}{takes if not stays else 'warm':>{FIGURE_CELLS}}", DISK if stays else PLAIN),
    )


def _fact(label: str, text: str, role: str, width: int) -> list[Content]:
    pieces = Content.styled(clean(text), role).wrap(max(8, width - LABEL_CELLS))
    return [
        Content.assemble((f"{label if not row else '':<{LABEL_CELLS}}", MUTED), piece)
        for row, piece in enumerate(pieces)
    ]
