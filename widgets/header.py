"""The top of the screen: is it serving, where, and how full it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from engine.snapshot import BlockState, DiskRow, EngineSnapshot, EngineStatus, ModelRow
from styles.tokens import (
    BLOCK_ROLE,
    BRAND,
    BRIGHT,
    DIM,
    DISK,
    ENGINE_ROLE,
    MUTED,
    PLAIN,
    UNICODE,
    WARN,
    Glyphs,
)
from widgets.bars import Part, bar, stacked
from widgets.block_cells import state_counts
from widgets.format import clean, duration, percent, short_bytes, short_count, shorten
from widgets.source import SourceSlice
from widgets.welcome import launch_line

NEARLY_FULL = 0.9
WIDE_FROM = 140
LAUNCH_FROM = 125
BREATH_CELLS = 10
"""Beside the name of the program."""
DISK_FIGURE_CELLS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderSlice:
    """What the header shows.

    Attributes:
        status: Of the engine.
        progress: How far it is with what it does, in words; empty where that is told elsewhere.
        model: Id of the active model; empty before one is loaded.
        model_detail: The active model.
        device: Name of the device; empty before it is known.
        memory_used_bytes: Footprint of the process.
        memory_limit_bytes: What it may use.
        block_counts: Blocks of the pool by state, in the order of the legend.
        num_running: Sequences that prefill or decode.
        num_waiting: Sequences in the queue.
        disk: The disk tier.
        num_fallbacks: How many fast paths of the device could not be switched on.
        uptime_s: Whole seconds.
        address: Of the API.
        launch: The line that starts a client here.
        is_paused: Whether the display is frozen.
        is_readonly: Whether nothing can be changed from here.
        source: Where the picture comes from.
    """

    status: EngineStatus = EngineStatus.STARTING
    progress: str = ""
    model: str = ""
    model_detail: ModelRow | None = None
    device: str = ""
    memory_used_bytes: int = 0
    memory_limit_bytes: int = 0
    block_counts: tuple[tuple[BlockState, int], ...] = ()
    num_running: int = 0
    num_waiting: int = 0
    disk: DiskRow = field(default_factory=DiskRow)
    num_fallbacks: int = 0
    uptime_s: int = 0
    address: str = ""
    launch: str = ""
    is_paused: bool = False
    is_readonly: bool = False
    source: SourceSlice = field(default_factory=SourceSlice)


def header_slice(
    snapshot: EngineSnapshot,
    address: str,
    base_url: str,
    source: SourceSlice,
    *,
    is_paused: bool,
    is_readonly: bool,
) -> HeaderSlice:
    """The header's part of a snapshot."""
    device = snapshot.device_detail
    return HeaderSlice(
        status=snapshot.status,
        progress=_drain_words(snapshot) if snapshot.status is EngineStatus.DRAINING else "",
        model=snapshot.model,
        model_detail=snapshot.model_detail,
        device=snapshot.device,
        memory_used_bytes=device.memory_used_bytes,
        memory_limit_bytes=device.memory_limit_bytes,
        block_counts=tuple(state_counts(snapshot.pool.block_states).items()),
        num_running=snapshot.batch.num_running,
        num_waiting=snapshot.batch.num_waiting,
        # Only what is shown: the bar need not be drawn again for a block that waits to be written.
        disk=replace(snapshot.disk, num_blocks=0, num_pending=0, num_quarantined=0),
        num_fallbacks=len(device.fallbacks),
        uptime_s=int(snapshot.uptime_s),
        address=address,
        launch=launch_line(base_url),
        is_paused=is_paused,
        is_readonly=is_readonly,
        # Only what is shown here.
        source=replace(source, problem="", notice=""),
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
        state = self._state(width, has_launch=True)
        if width < LAUNCH_FROM or width - state.cell_length - BREATH_CELLS < self._least_cells(
            width
        ):
            state = self._state(width, has_launch=False)
        first = _spread(
            self._identity(width, width - state.cell_length - BREATH_CELLS), state, width
        )
        if height < 2:
            return first
        return Content("\n").join([first, _spread(self._meters(width), self._load(), width)])

    def _identity(self, width: int, room: int) -> Content:
        shown = self.shown
        parts: list[Part] = [("stoker", f"bold {BRAND}"), ("  ", "")]
        warnings = self._warnings(width)
        room = max(8, room - sum(len(warning) for warning in warnings))
        if shown.model:
            parts.append((shorten(shown.model, room, self.glyphs.ellipsis), f"bold {BRIGHT}"))
        else:
            parts.append(("no model", MUTED))
        if width >= 100:
            room -= sum(len(text) for text, _ in parts[2:])
            parts.append(("  " + self._device_words(room), MUTED))
        parts += [(warning, WARN) for warning in warnings]
        return Content.assemble(*parts)

    def _warnings(self, width: int) -> list[str]:
        warnings = []
        if self.shown.num_fallbacks:
            where = " (6 says why)" if width >= 100 else ""
            warnings.append(f"  {self.glyphs.warning} slow path{where}")
        if self._is_disk_off and self.content_size.height < 2:
            warnings.append(f"  {self.glyphs.warning} disk off")
        return warnings

    @property
    def _is_disk_off(self) -> bool:
        """Whether a disk tier was asked for and does not work."""
        return not self.shown.disk.is_on and bool(self.shown.disk.reason_off)

    def _device_words(self, room: int) -> str:
        """As much of device, type and batching as there is room for."""
        shown = self.shown
        words = [clean(shown.device)] if shown.device else []
        if shown.model_detail is not None:
            words.append(clean(shown.model_detail.dtype))
            words.append(f"{clean(shown.model_detail.batching)} batching")
        separator = f" {self.glyphs.separator} "
        words = [word for word in words if word]
        while words and len(separator.join(words)) > room:
            words.pop()
        return separator.join(words)

    def _least_cells(self, width: int) -> int:
        """What the names of model and device take, and what is to be warned of."""
        names = (clean(self.shown.model), clean(self.shown.device), *self._warnings(width))
        return sum(map(cell_len, names)) + len("  ")

    def _state(self, width: int, *, has_launch: bool) -> Content:
        shown = self.shown
        parts: list[Part] = []
        if shown.is_paused:
            parts += [(" display paused ", f"bold reverse {WARN}"), ("  ", "")]
        if shown.source.label:
            held_role = f"bold reverse {WARN}" if shown.source.is_held else MUTED
            parts += [(shown.source.label, held_role), ("  ", "")]
        if shown.is_readonly and width >= 100:
            parts.append(("read only  ", MUTED))
        parts.append(self._status())
        if self.content_size.height < 2:
            parts += [("  run ", MUTED), (f"{shown.num_running}", BRIGHT)]
            parts += [(" wait ", MUTED), (f"{shown.num_waiting}", BRIGHT)]
        if width >= 100 or not shown.source.is_recorded:
            parts.append((f"  {shown.address}", BRIGHT))
        if has_launch and not shown.source.is_recorded:
            parts += [("   connect: ", MUTED), (shown.launch, BRIGHT)]
        if width >= 100:
            parts += [("   up ", MUTED), (f"{duration(shown.uptime_s):>6}", BRIGHT)]
        return Content.assemble(*parts)

    def _status(self) -> Part:
        """What the engine does; when nothing is heard of it, that alone is known."""
        status, stale_s = self.shown.status, self.shown.source.stale_s
        if stale_s:
            return (f"{self.glyphs.warning} stale {duration(stale_s)}", f"bold {WARN}")
        mark = self.glyphs.error if status is EngineStatus.FAILED else self.glyphs.serving
        words = f"{status.value} {self.shown.progress}".rstrip()
        return (f"{mark} {words}", f"bold {ENGINE_ROLE[status]}")

    def _meters(self, width: int) -> Content:
        has_disk = self.shown.disk.bytes_budget > 0 or self._is_disk_off
        if not has_disk:
            room = min(40, max(8, (width - 84) // 2))
            return Content.assemble(self._memory(room), "    ", self._pool(room, is_wide=True))
        is_wide = width >= WIDE_FROM
        room = min(40, max(4, (width - (91 if is_wide else 82)) // 3))
        bars = (self._memory(room), self._pool(room, is_wide=is_wide), self._disk(room))
        return Content("   ").join(bars)

    def _memory(self, width: int) -> Content:
        used, limit = self.shown.memory_used_bytes, self.shown.memory_limit_bytes
        ratio = used / limit if limit else 0.0
        role = WARN if ratio >= NEARLY_FULL else PLAIN
        figure = f"{short_bytes(used)}/{short_bytes(limit)}" if limit else "-"
        return Content.assemble(
            ("memory ", MUTED), *bar(ratio, width, role, self.glyphs), (f" {figure:<11}", BRIGHT)
        )

    def _disk(self, width: int) -> Content:
        disk = self.shown.disk
        if self._is_disk_off:
            room = width + DISK_FIGURE_CELLS - len("off: ")
            reason = shorten(disk.reason_off, room, self.glyphs.ellipsis)
            return Content.assemble(("disk ", MUTED), (f"off: {reason}", WARN))
        ratio = disk.bytes_used / disk.bytes_budget
        figure = f"{short_bytes(disk.bytes_used)}/{short_bytes(disk.bytes_budget)}"
        return Content.assemble(
            ("disk ", MUTED), *bar(ratio, width, DISK, self.glyphs), (f" {figure:<9}", BRIGHT)
        )

    def _pool(self, width: int, *, is_wide: bool) -> Content:
        """Stacked by state; what is held by nobody does not count as in use."""
        glyphs, counts = self.glyphs, dict(self.shown.block_counts)
        total = sum(counts.values())
        if not total:
            return Content.assemble(("pool ", MUTED), *bar(0.0, width, DIM, glyphs), (" -", DIM))
        num_held = total - counts[BlockState.FREE] - counts[BlockState.CACHED]
        parts = [
            (count, glyphs.bar_empty if state is BlockState.FREE else glyphs.bar_full, role)
            for state, count in counts.items()
            for role in [BLOCK_ROLE[state]]
        ]
        return Content.assemble(
            ("pool ", MUTED),
            stacked(parts, width),
            (f" {short_count(num_held)}/{short_count(total)}", BRIGHT),
            (f" {percent(num_held / total)} held" if is_wide else "", MUTED),
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


def _drain_words(snapshot: EngineSnapshot) -> str:
    """What an engine that drains still waits for: turns first, then the disk."""
    num_turns = snapshot.batch.num_running + snapshot.batch.num_waiting
    if num_turns:
        return f"{num_turns} turn{'s' if num_turns > 1 else ''}"
    num_blocks = snapshot.disk.num_pending
    return f"{num_blocks} to write" if num_blocks else ""


def _spread(left: Content, right: Content, width: int) -> Content:
    """One line with text at both ends; the left gives way when there is no room."""
    room = width - right.cell_length - 1
    left = left.truncate(max(0, room), ellipsis=False)
    gap = width - left.cell_length - right.cell_length
    return Content.assemble(left, " " * max(1, gap), right)
