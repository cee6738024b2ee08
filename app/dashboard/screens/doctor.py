"""What ``stoker doctor`` finds on this machine, without leaving the dashboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from app.dashboard.screens.page import PageScreen
from app.doctor import Finding, Health, Report
from engine.errors import StokerError
from styles.tokens import BAD, BRIGHT, DIM, GOOD, MUTED, PLAIN, WARN, Glyphs
from widgets.format import clean

CHECK_CELLS = 15
SPIN_S = 0.5
ROLES = {Health.OK: GOOD, Health.NOTE: WARN, Health.BAD: BAD}
ORDER = (Health.BAD, Health.NOTE, Health.OK)


class Examination(Protocol):
    """Checks that take a while."""

    def report(self) -> Report:
        """Runs them; raises StokerError."""

    def give_up(self) -> None:
        """Ends them; may be called from another thread."""


class Examined(Message):
    """The checks are done.

    Attributes:
        report: What was found; None where they could not be run.
        problem: Why not.
    """

    def __init__(self, report: Report | None, problem: str = "") -> None:
        self.report = report
        self.problem = problem
        super().__init__()


class DoctorScreen(PageScreen):
    """Runs the checks beside everything else, and shows what needs a person first.

    Args:
        begin: Makes a run of the checks.
        known: What this process knows better than another one, in place of the same checks.
        glyphs: Marks to draw with.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("r", "again", "Check again.", show=False)]
    PAGE_TITLE = "doctor: this machine"
    PAGE_KEYS = "r checks again, escape closes"

    def __init__(
        self, begin: Callable[[], Examination], known: tuple[Finding, ...], glyphs: Glyphs
    ) -> None:
        super().__init__(glyphs)
        self._begin = begin
        self._known = {finding.check: finding for finding in known}
        self._examination: Examination | None = None
        self._report: Report | None = None
        self._problem = ""
        self._num_ticks = 0

    def on_mount(self) -> None:
        """Starts the checks."""
        self.action_again()
        self.set_interval(SPIN_S, self._tick)

    def on_unmount(self) -> None:
        """Nobody waits for them any more."""
        if self._examination is not None:
            self._examination.give_up()

    def action_again(self) -> None:
        """Runs the checks, unless they run."""
        if self._examination is None:
            self._examination = self._begin()
            self._problem = ""
            self._num_ticks = 0
            self._examine(self._examination)
            self.redraw()

    @work(thread=True)
    def _examine(self, examination: Examination) -> None:
        try:
            self.post_message(Examined(examination.report()))
        except StokerError as error:
            self.post_message(Examined(None, str(error)))

    def on_examined(self, examined: Examined) -> None:
        """Shows what was found."""
        self._examination = None
        self._report, self._problem = examined.report, examined.problem
        self.redraw()

    def _tick(self) -> None:
        if self._examination is not None:
            self._num_ticks += 1
            self.redraw()

    def draw(self, width: int) -> list[Content]:
        """A verdict, then what is bad, what could be better, and what is well."""
        if self._report is None:
            return [self._verdict()]
        found = [self._known.get(f.check, f) for f in self._report.findings]
        lines = [self._verdict(), Content("")]
        for health in ORDER:
            for finding in found:
                if finding.health is health:
                    lines += self._finding(finding, width)
        return lines

    def _verdict(self) -> Content:
        if self._examination is not None:
            waited_s = int(self._num_ticks * SPIN_S)
            return Content.styled(
                f"checking, {waited_s} s: mlx is loaded and the weights are read", MUTED
            )
        if self._report is None:
            return Content.styled(f"{self._glyphs.error} {clean(self._problem)}", BAD)
        if self._report.is_well:
            return Content.styled(f"{self._glyphs.serving} all is well", GOOD)
        return Content.styled(f"{self._glyphs.error} put right what is marked", BAD)

    def _finding(self, finding: Finding, width: int) -> list[Content]:
        glyphs = self._glyphs
        marks = {Health.OK: glyphs.serving, Health.NOTE: glyphs.warning, Health.BAD: glyphs.error}
        role = ROLES[finding.health]
        text = PLAIN if finding.health is Health.OK else BRIGHT
        pieces = Content.styled(clean(finding.text), text).wrap(max(8, width - CHECK_CELLS - 2))
        heads = [finding.check, *[""] * (len(pieces) - 1)]
        return [
            Content.assemble(
                (f"{marks[finding.health] if head else ' '} ", role),
                (f"{head:<{CHECK_CELLS}}", MUTED if head else DIM),
                piece,
            )
            for head, piece in zip(heads, pieces, strict=True)
        ]
