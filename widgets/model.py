"""The active model and the device it runs on."""

from __future__ import annotations

from dataclasses import dataclass, field

from textual.content import Content

from engine.snapshot import DeviceRow, DiskRow, ModelRow, SwapPhase, SwapReport, SwapRow
from styles.tokens import BRAND, BRIGHT, DIM, GOOD, MUTED, PLAIN, WARN
from widgets.bars import bar
from widgets.format import clean, percent, seconds, short_bytes, short_count, shorten
from widgets.pane import Pane
from widgets.swap_line import left_words, phase_words, waiting_words

LABEL_CELLS = 10
MAX_BAR_CELLS = 24
LEAST_PART_S = 0.05
"""Parts of a swap that took less are not told."""
LOSSLESS = "lossless"
"""What a model's KV format is called when nothing is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSlice:
    """The active model, None while none is loaded, the device, the disk tier, and swaps."""

    model: ModelRow | None = None
    device: DeviceRow = field(default_factory=DeviceRow)
    disk: DiskRow = field(default_factory=DiskRow)
    swap: SwapRow | None = None
    last_swap: SwapReport | None = None


class ModelPane(Pane[ModelSlice]):
    """Facts of model and device; whatever could not be switched on is said in warning colour."""

    def __init__(self) -> None:
        super().__init__(ModelSlice(), "model and device", widget_id="model")

    def draw(self, width: int, height: int) -> list[Content]:
        """A swap, the model, then the disk, then the device with its fast paths and fallbacks."""
        return [
            *self._swap_lines(width),
            *self._model_lines(width),
            *self._disk_lines(width),
            *self._device_lines(width),
        ]

    def _swap_lines(self, width: int) -> list[Content]:
        """The change of model under way."""
        swap = self._slice.swap
        if swap is None:
            return []
        waiting = waiting_words(swap)
        room = max(4, min(MAX_BAR_CELLS, width - LABEL_CELLS - 18))
        role = WARN if swap.phase is SwapPhase.RESTORING else PLAIN
        words = Content.styled(phase_words(swap), role).wrap(max(8, width - LABEL_CELLS))
        return [
            *(
                Content.assemble((_label("swapping" if not row else ""), MUTED), piece)
                for row, piece in enumerate(words)
            ),
            Content.assemble(
                _label(""),
                *bar(swap.progress, room, BRAND, self.glyphs),
                (f" {percent(swap.progress):>4}", BRIGHT),
                (f"  {left_words(swap)}", MUTED),
            ),
            *([_fact("", waiting, MUTED)] if waiting else []),
        ]

    def _model_lines(self, width: int) -> list[Content]:
        model = self._slice.model
        if model is None:
            words = "no model is in memory now" if self._slice.swap else "no model is loaded"
            return [Content.styled(words, DIM)]
        batching = (
            ("ragged: sequences join and leave between steps", PLAIN)
            if model.batching == "ragged"
            else ("one sequence at a time: the self-test refused batching", WARN)
        )
        return [
            Content.styled(shorten(model.model_id, width, self.glyphs.ellipsis), f"bold {BRIGHT}"),
            _fact(
                "weights",
                f"{short_count(model.num_parameters)} parameters, "
                f"{short_bytes(model.weight_bytes)} as {clean(model.dtype)}",
            ),
            _fact(
                "context",
                f"{model.max_context_tokens:,} tokens at "
                f"{short_bytes(model.kv_bytes_per_token)} each",
            ),
            *([_fact("kv cache", _kv_words(model))] if model.kv_format != LOSSLESS else []),
            _fact("batching", *batching),
            _fact("loaded in", seconds(model.load_s)),
            *self._last_swap_lines(width),
        ]

    def _last_swap_lines(self, width: int) -> list[Content]:
        report = self._slice.last_swap
        if report is None or self._slice.swap is not None:
            return []
        words = f"from {clean(report.from_model)} in {report_words(report)}"
        pieces = Content.styled(words, PLAIN).wrap(max(8, width - LABEL_CELLS))
        return [
            Content.assemble((_label("" if row else "last swap"), MUTED), piece)
            for row, piece in enumerate(pieces)
        ]

    def _disk_lines(self, width: int) -> list[Content]:
        disk = self._slice.disk
        lines = []
        if disk.bytes_budget:
            lines.append(
                _fact(
                    "disk",
                    f"{short_bytes(disk.bytes_used)} of {short_bytes(disk.bytes_budget)} "
                    f"in {short_count(disk.num_blocks)} blocks",
                )
            )
        if not disk.is_on and disk.reason_off:
            lines += self._warning("" if lines else "disk", f"off: {disk.reason_off}", width)
        if disk.num_quarantined:
            files = "file" if disk.num_quarantined == 1 else "files"
            lines += self._warning("", f"{disk.num_quarantined} damaged {files} set aside", width)
        return lines

    def _warning(self, label: str, text: str, width: int) -> list[Content]:
        content = Content.styled(f"{self.glyphs.warning} {clean(text)}", WARN)
        parts = content.wrap(max(8, width - LABEL_CELLS))
        return [
            Content.assemble((_label("" if row else label), MUTED), part)
            for row, part in enumerate(parts)
        ]

    def _device_lines(self, width: int) -> list[Content]:
        device = self._slice.device
        words = f"{clean(device.name)}  {clean(device.description)}".rstrip()
        lines = [_fact("device", words)]
        for at, path in enumerate(device.fast_paths):
            words = shorten(path, width - LABEL_CELLS, self.glyphs.ellipsis)
            lines.append(_fact("" if at else "fast", words, GOOD))
        for at, path in enumerate(device.fallbacks):
            lines += self._warning("" if at else "slower", path, width)
        return lines


def report_words(report: SwapReport) -> str:
    """What a swap took: all of it, and the parts that count."""
    parts = report.parts
    named = (
        ("looked through", parts.prepare_s),
        ("turns finished", parts.drain_s),
        ("caches saved", parts.save_s),
        ("unloaded", parts.unload_s),
        ("loaded", parts.load_s),
        ("tested", parts.check_s),
        ("pool made", parts.rebuild_s),
    )
    words = ", ".join(f"{name} {seconds(took)}" for name, took in named if took >= LEAST_PART_S)
    return f"{seconds(parts.total_s)} ({words})" if words else seconds(parts.total_s)


def _kv_words(model: ModelRow) -> str:
    """How keys and values are kept, and what that was measured to lose."""
    change = model.kv_perplexity_change
    unknown = "not measured: `stoker bench kv`"
    loss = unknown if change is None else f"{100 * change:+.1f} % perplexity"
    return f"{clean(model.kv_format)}, {loss}"


def _label(text: str) -> str:
    return f"{text:<{LABEL_CELLS}}"


def _fact(label: str, value: str, role: str = PLAIN) -> Content:
    return Content.assemble((_label(label), MUTED), (value, role))
