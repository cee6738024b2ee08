"""The top of the screen: is it serving, where, and how full it is."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.snapshot import (
    BatchRow,
    DeviceRow,
    EngineSnapshot,
    EngineStatus,
    ModelRow,
    PoolRow,
)
from styles.tokens import BRAND, BRIGHT, DIM, ENGINE_ROLE, GOOD, MUTED, UNICODE, WARN, Glyphs
from widgets.bars import Part, bar
from widgets.format import clean, duration, percent, short_bytes, shorten

NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderSlice:
    """What the header shows.

    Attributes:
        status: Of the engine.
        model: Id of the active model; empty before one is loaded.
        model_detail: The active model.
        device: Name of the device; empty before it is known.
        memory_used_bytes: Footprint of the process.
        memory_limit_bytes: What it may use.
        num_used_blocks: Blocks that are not free.
        num_total_blocks: Size of the pool.
        batch: For the counts of running and waiting.
        uptime_s: Whole seconds.
        address: Of the API.
        is_paused: Whether the display is frozen.
    """

    status: EngineStatus = EngineStatus.STARTING
    model: str = ""
    model_detail: ModelRow | None = None
    device: str = ""
    memory_used_bytes: int = 0
    memory_limit_bytes: int = 0
    num_used_blocks: int = 0
    num_total_blocks: int = 0
    num_running: int = 0
    num_waiting: int = 0
    uptime_s: int = 0
    address: str = ""
    is_paused: bool = False


def header_slice(snapshot: EngineSnapshot, address: str, *, is_paused: bool) -> HeaderSlice:
    """The header's part of a snapshot."""
    device: DeviceRow = snapshot.device_detail
    pool: PoolRow = snapshot.pool
    batch: BatchRow = snapshot.batch
    return HeaderSlice(
        status=snapshot.status,
        model=snapshot.model,
        model_detail=snapshot.model_detail,
        device=snapshot.device,
        memory_used_bytes=device.memory_used_bytes,
        memory_limit_bytes=device.memory_limit_bytes,
        num_used_blocks=pool.num_total_blocks - pool.num_free_blocks,
        num_total_blocks=pool.num_total_blocks,
        num_running=batch.num_running,
        num_waiting=batch.num_waiting,
        uptime_s=int(snapshot.uptime_s),
        address=address,
        is_paused=is_paused,
    )


class Header(Widget):
    """One line where space is short, two elsewhere."""

    glyphs: reactive[Glyphs] = reactive(UNICODE)
    shown: reactive[HeaderSlice] = reactive(HeaderSlice())

    def render(self) -> Content:
        """Line one: what and where. Line two: how full."""
        width, height = self.content_size.width, self.content_size.height
        if width <= 0:
            return Content("")
        first = _spread(self._identity(width), self._state(width), width)
        if height < 2:
            return first
        return Content("\n").join([first, _spread(self._meters(width), self._load(), width)])

    def _identity(self, width: int) -> Content:
        shown = self.shown
        parts: list[Part] = [("stoker", f"bold {BRAND}"), ("  ", "")]
        if shown.model:
            room = max(12, width - 62)
            parts.append((shorten(shown.model, room, self.glyphs.ellipsis), f"bold {BRIGHT}"))
        else:
            parts.append(("no model yet", MUTED))
        if width >= 100:
            parts.append(("  " + self._device_words(), MUTED))
        return Content.assemble(*parts)

    def _device_words(self) -> str:
        shown = self.shown
        words = [clean(shown.device)] if shown.device else []
        if shown.model_detail is not None:
            words.append(clean(shown.model_detail.dtype))
            words.append(f"{clean(shown.model_detail.batching)} batching")
        return f" {self.glyphs.separator} ".join(word for word in words if word)

    def _state(self, width: int) -> Content:
        shown = self.shown
        is_failed = shown.status is EngineStatus.FAILED
        mark = self.glyphs.error if is_failed else self.glyphs.serving
        parts: list[Part] = []
        if shown.is_paused:
            parts += [(" display paused ", f"bold reverse {WARN}"), ("  ", "")]
        parts.append((f"{mark} {shown.status.value}", f"bold {ENGINE_ROLE[shown.status]}"))
        parts.append((f"  {shown.address}", BRIGHT))
        if width >= 100:
            parts += [("   up ", MUTED), (f"{duration(shown.uptime_s):>6}", BRIGHT)]
        return Content.assemble(*parts)

    def _meters(self, width: int) -> Content:
        shown = self.shown
        room = min(30, max(10, (width - 70) // 2))
        used, limit = shown.memory_used_bytes, shown.memory_limit_bytes
        figure = f"{short_bytes(used)}/{short_bytes(limit)}" if limit else "-"
        memory = self._meter("memory", used, limit, figure, room)
        total = shown.num_total_blocks
        figure = f"{shown.num_used_blocks}/{total} blocks" if total else "-"
        pool = self._meter("pool", shown.num_used_blocks, total, figure, room)
        return Content.assemble(memory, "    ", pool)

    def _meter(self, name: str, used: int, limit: int, figure: str, width: int) -> Content:
        ratio = used / limit if limit else 0.0
        role = WARN if ratio >= NEARLY_FULL and name == "memory" else GOOD
        return Content.assemble(
            (f"{name} ", MUTED),
            *bar(ratio, width, role, self.glyphs),
            (f" {figure}", BRIGHT),
            (f" {percent(ratio):>4}" if limit else "", MUTED),
        )

    def _load(self) -> Content:
        shown = self.shown
        waiting_role = BRIGHT if shown.num_waiting else DIM
        return Content.assemble(
            ("running ", MUTED),
            (f"{shown.num_running:>2}", BRIGHT if shown.num_running else DIM),
            ("   waiting ", MUTED),
            (f"{shown.num_waiting:>2}", waiting_role),
        )


def _spread(left: Content, right: Content, width: int) -> Content:
    """One line with text at both ends; the left gives way when there is no room."""
    room = width - right.cell_length - 1
    left = left.truncate(max(0, room), ellipsis=False)
    gap = width - left.cell_length - right.cell_length
    return Content.assemble(left, " " * max(1, gap), right)
