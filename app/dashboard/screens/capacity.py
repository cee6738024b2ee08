"""What would fit: context, format of the cache and model, changed by key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from app.capacity import FORMATS, MIN_CONTEXT_TOKENS, Candidate, Memory, capacity
from app.dashboard.screens.page import PageScreen
from engine.cache.quantisation import KVQuantisation, format_words
from styles.tokens import BRAND, BRIGHT, DIM, GOOD, MUTED, PLAIN, WARN, Glyphs
from widgets.bars import bar
from widgets.format import clean, context_limit, short_bytes

LABEL_CELLS = 12
FIGURES_CELLS = 52


@dataclass(frozen=True, slots=True)
class _Row:
    """One answer of a table: its name, what is asked, and whether it is the chosen one."""

    name: str
    quantisation: KVQuantisation | None
    context_tokens: int
    is_chosen: bool


class ModelsFound(Message):
    """The other models of this machine are known.

    Attributes:
        candidates: They.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        super().__init__()


class CapacityScreen(PageScreen):
    """How many agents fit at the chosen context, format and model.

    Args:
        active: The model that runs.
        memory: What memory there is.
        find_others: Looks for other models on this machine; takes a while.
        glyphs: Marks to draw with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus,equals_sign,right,l", "context(1)", "Twice the context.", show=False),
        Binding("minus,left,h", "context(-1)", "Half the context.", show=False),
        Binding("b", "bits", "Another format of the cache.", show=False),
        Binding("m", "model", "Another model of this machine.", show=False),
    ]
    PAGE_TITLE = "capacity: what would fit"
    PAGE_KEYS = "+/- context, b format, m model, escape closes"

    def __init__(
        self,
        active: Candidate,
        memory: Memory,
        find_others: Callable[[], Sequence[Candidate]],
        glyphs: Glyphs,
    ) -> None:
        super().__init__(glyphs)
        self._candidates: list[Candidate] = [active]
        self._memory = memory
        self._find_others = find_others
        self._model = 0
        self._format = FORMATS.index(active.quantisation)
        self._context_tokens = min(4096, active.max_context_tokens)

    def on_mount(self) -> None:
        """Looks for other models beside everything else."""
        self._look()

    @work(thread=True)
    def _look(self) -> None:
        self.post_message(ModelsFound(self._find_others()))

    def on_models_found(self, found: ModelsFound) -> None:
        """More models to choose from."""
        self._candidates += found.candidates
        self.redraw()

    def action_context(self, step: int) -> None:
        """Twice the context, or half of it."""
        limit = self._chosen.max_context_tokens
        tokens = self._context_tokens * 2 if step > 0 else self._context_tokens // 2
        self._context_tokens = max(MIN_CONTEXT_TOKENS, min(tokens, limit))
        self.redraw()

    def action_bits(self) -> None:
        """The next format."""
        self._format = (self._format + 1) % len(FORMATS)
        self.redraw()

    def action_model(self) -> None:
        """The next model of this machine."""
        if len(self._candidates) == 1:
            self.notify("there is no other model on this machine that would load", markup=False)
        self._model = (self._model + 1) % len(self._candidates)
        self._context_tokens = min(self._context_tokens, self._chosen.max_context_tokens)
        self.redraw()

    @property
    def _chosen(self) -> Candidate:
        return self._candidates[self._model]

    def draw(self, width: int) -> list[Content]:
        """The question, the memory it is asked of, and the answers side by side."""
        chosen = self._chosen
        runs = " (runs now)" if chosen.is_active else ""
        tokens = f"{self._context_tokens:,} tokens for each agent"
        return [
            _fact("model", f"{clean(chosen.model_id)}{runs}", "m"),
            _fact("context", tokens, "+ -"),
            _fact("cache", format_words(FORMATS[self._format]), "b"),
            Content(""),
            *self._rooms(),
            Content(""),
            *self._by_format(width),
            Content(""),
            *self._by_context(width),
            Content(""),
            *Content.styled(
                "Agents that begin alike share blocks, so more of them fit; running turns need "
                "room for what they write.",
                DIM,
            ).wrap(max(8, width)),
        ]

    def _rooms(self) -> list[Content]:
        chosen, memory = self._chosen, self._memory
        room = capacity(chosen, memory, self._context_tokens, FORMATS[self._format]).cache_bytes
        how = "measured" if chosen.is_active else "what the limit would leave"
        return [
            _fact("limit", short_bytes(memory.limit_bytes)),
            _fact("weights", short_bytes(chosen.weight_bytes)),
            _fact("other", f"{short_bytes(memory.other_bytes)}, measured in this process"),
            _fact("for caches", f"{short_bytes(room)}, {how}"),
        ]

    def _by_format(self, width: int) -> list[Content]:
        return self._table(
            "format",
            [
                _Row(format_words(each), each, self._context_tokens, at == self._format)
                for at, each in enumerate(FORMATS)
            ],
            width,
        )

    def _by_context(self, width: int) -> list[Content]:
        limit, quantisation = self._chosen.max_context_tokens, FORMATS[self._format]
        sizes = [limit >> shift for shift in range(6) if limit >> shift >= MIN_CONTEXT_TOKENS]
        return self._table(
            "context",
            [
                _Row(context_limit(size), quantisation, size, size == self._context_tokens)
                for size in sizes
            ],
            width,
        )

    def _table(self, title: str, rows: Sequence[_Row], width: int) -> list[Content]:
        found = [
            capacity(self._chosen, self._memory, row.context_tokens, row.quantisation)
            for row in rows
        ]
        most = max((each.num_agents for each in found), default=0)
        heads = f"  {title:<18}{'a token':>9}{'an agent':>10}{'agents':>9}  "
        lines = [Content.styled(heads, MUTED)]
        for row, each in zip(rows, found, strict=True):
            role = GOOD if each.num_agents else WARN
            lines.append(
                Content.assemble(
                    (f"{self._glyphs.cursor if row.is_chosen else ' '} ", BRAND),
                    (f"{row.name:<18}", BRIGHT if row.is_chosen else PLAIN),
                    (f"{short_bytes(each.token_bytes):>9}", PLAIN),
                    (f"{short_bytes(each.agent_bytes):>10}", PLAIN),
                    (f"{each.num_agents:>9,}  ", BRIGHT if each.num_agents else WARN),
                    *bar(
                        each.num_agents / most if most else 0.0,
                        max(0, width - FIGURES_CELLS),
                        role,
                        self._glyphs,
                    ),
                )
            )
        return lines


def _fact(label: str, text: str, key: str = "") -> Content:
    hint = f"  {key}" if key else ""
    return Content.assemble((f"{label:<{LABEL_CELLS}}", MUTED), (text, BRIGHT), (hint, BRAND))
