"""What the engine remembers about itself: rates, times to first token, totals, events."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from engine.durations import LOAD_BOUNDS_S, Durations
from engine.snapshot import EngineEvent, MissRow, ThroughputRow
from engine.trace import Fact, Trace, TraceSink

WINDOW_S = 5.0
"""Rates are averages over this many seconds."""
NUM_TTFT_SAMPLES = 200
NUM_EVENTS = 200
_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}
log = logging.getLogger("stoker.engine")
# Where nobody has set logging up, warnings must not come out on the terminal.
log.addHandler(logging.NullHandler())


class RateWindow:
    """Counts over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, float]] = deque()

    def add(self, now_s: float, count: int, seconds: float) -> None:
        """Adds a sample.

        Args:
            now_s: When it ended, monotonic seconds.
            count: What was done.
            seconds: How long it took.
        """
        self._samples.append((now_s, count, seconds))

    def per_busy_second(self, now_s: float) -> float:
        """Count per second of work; 0 when nothing was done lately."""
        self._forget(now_s)
        seconds = sum(sample[2] for sample in self._samples)
        return sum(sample[1] for sample in self._samples) / seconds if seconds else 0.0

    def per_second(self, now_s: float) -> float:
        """Count per second of wall time since the first sample in the window."""
        self._forget(now_s)
        if not self._samples:
            return 0.0
        began_s = self._samples[0][0] - self._samples[0][2]
        elapsed_s = max(now_s - began_s, 0.05)
        return sum(sample[1] for sample in self._samples) / elapsed_s

    def _forget(self, now_s: float) -> None:
        while self._samples and self._samples[0][0] < now_s - WINDOW_S:
            self._samples.popleft()


class Telemetry:
    """Rates and totals of one engine. Belongs to the engine's thread."""

    def __init__(
        self, wall_clock: Callable[[], float], trace_sink: TraceSink | None = None
    ) -> None:
        """Starts with nothing measured.

        Args:
            wall_clock: Seconds since the epoch, for events.
            trace_sink: Takes a record of every decision; None where nobody wants them.
        """
        self.wall_clock = wall_clock
        self.trace = Trace(trace_sink, wall_clock)
        self._prefill = RateWindow()
        self._decode = RateWindow()
        self._ttft_s: deque[float] = deque(maxlen=NUM_TTFT_SAMPLES)
        self._events: deque[EngineEvent] = deque(maxlen=NUM_EVENTS)
        self._num_events = 0
        self._num_prompt_tokens = 0
        self._num_cached_tokens = 0
        self._num_restored_tokens = 0
        self._num_lost_tokens = 0
        self._num_generated_tokens = 0
        self._num_turns = 0
        self._loads = Durations(LOAD_BOUNDS_S)
        self._swaps = Durations(LOAD_BOUNDS_S)

    @property
    def num_events(self) -> int:
        """Events noted so far."""
        return self._num_events

    @property
    def events(self) -> tuple[EngineEvent, ...]:
        """The newest events, oldest first."""
        return tuple(self._events)

    def note(self, kind: str, text: str, level: str = "info", /, **facts: Fact) -> None:
        """Adds an event, to the log and the trace too.

        Args:
            kind: One word.
            text: One line for people.
            level: ``info``, ``warning`` or ``error``.
            facts: What it was based on, for programs; ``request_id`` is the request it came with.
        """
        self._num_events += 1
        request_id = str(facts.get("request_id", ""))
        self._events.append(
            EngineEvent(
                number=self._num_events,
                time=self.wall_clock(),
                kind=kind,
                text=text,
                level=level,
                request_id=request_id,
            )
        )
        fields = {"kind": kind, **facts}
        log.log(_LEVELS.get(level, logging.INFO), "%s: %s", kind, text, extra={"fields": fields})
        self.trace.write(kind, **{"text": text, "level": level, **facts})

    def prefilled(self, now_s: float, num_tokens: int, seconds: float) -> None:
        """A prefill slice was run."""
        self._prefill.add(now_s, num_tokens, seconds)

    def decoded(self, now_s: float, num_tokens: int, seconds: float) -> None:
        """A decode step was run."""
        self._decode.add(now_s, num_tokens, seconds)
        self._num_generated_tokens += num_tokens

    def prompted(self, miss: MissRow) -> None:
        """A prompt was taken in completely."""
        self._num_prompt_tokens += miss.num_prompt_tokens
        self._num_cached_tokens += miss.num_cached_tokens
        self._num_restored_tokens += miss.num_warm_tokens
        self._num_lost_tokens += miss.num_lost_tokens

    def first_token(self, ttft_s: float) -> None:
        """A turn's first token came."""
        self._ttft_s.append(ttft_s)

    def turn_finished(self) -> None:
        """A turn ended, however."""
        self._num_turns += 1

    def loaded(self, seconds: float) -> None:
        """A model was loaded, and serves."""
        self._loads.add(seconds)

    def swapped(self, seconds: float) -> None:
        """The model was changed, and the new one serves."""
        self._swaps.add(seconds)

    def row(self, now_s: float, pool_use: float = 0.0) -> ThroughputRow:
        """Rates and totals now.

        Args:
            now_s: Monotonic seconds.
            pool_use: Share of the pool that is held, 0-1.
        """
        ordered = sorted(self._ttft_s)
        return ThroughputRow(
            prefill_tok_s=self._prefill.per_busy_second(now_s),
            decode_tok_s=self._decode.per_second(now_s),
            ttft_p50_s=_quantile(ordered, 0.5),
            ttft_p95_s=_quantile(ordered, 0.95),
            num_prompt_tokens=self._num_prompt_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_restored_tokens=self._num_restored_tokens,
            num_lost_tokens=self._num_lost_tokens,
            num_generated_tokens=self._num_generated_tokens,
            num_turns=self._num_turns,
            pool_use=pool_use,
            load_durations=self._loads.row,
            swap_durations=self._swaps.row,
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    """Nearest-rank quantile of a sorted list; None when it is empty."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
