"""What is told to a person who looks elsewhere."""

from __future__ import annotations

from app.dashboard.notices import MAX_AT_ONCE, Notices
from engine.commands import Note
from engine.snapshot import EngineEvent
from tests.dashboard.driving import dashboard, until
from tests.dashboard.screen_text import toasts


def event(number: int, kind: str = "error", level: str = "error", text: str = "") -> EngineEvent:
    return EngineEvent(number=number, time=0.0, kind=kind, text=text or f"no {number}", level=level)


def test_what_was_there_before_is_not_told_and_what_comes_is_told_once() -> None:
    notices = Notices()
    first = [event(1), event(2)]
    assert notices.take(first) == []
    assert notices.take([*first, event(3)]) == [("error: no 3", True)]
    assert notices.take([*first, event(3)]) == []


def test_only_what_needs_a_person_is_told() -> None:
    notices = Notices()
    notices.take([])
    events = [
        event(1, "evict", "info"),
        event(2, "abort", "warning"),
        event(3, "disk", "warning", "the disk is full"),
        event(4, "quarantine", "warning"),
    ]
    assert notices.take(events) == [
        ("disk: the disk is full", False),
        ("quarantine: no 4", False),
    ]


def test_many_at_once_are_told_in_few_words() -> None:
    notices = Notices()
    notices.take([])
    told = notices.take([event(number) for number in range(1, 11)])
    assert len(told) == MAX_AT_ONCE + 1
    assert told[-1] == ("and 7 more: see the events", True)


def test_another_process_counts_anew() -> None:
    notices = Notices()
    notices.take([event(9)])
    assert notices.take([event(1)]) == []
    assert notices.take([event(1), event(2)]) == [("error: no 2", True)]


async def test_an_error_is_told_over_whatever_is_on_the_screen() -> None:
    async with dashboard() as (pilot, app, engine):
        await pilot.press("question_mark")
        engine.send(Note(kind="error", text="[b]the disk[/b]\nis gone", level="error"))
        await until(pilot, lambda: len(toasts(app)) == 1)
        assert toasts(app)[0].startswith("error: [b]the disk[/b]")
        engine.send(Note(kind="miss", text="nothing new", level="info"))
        await pilot.pause(0.4)
        assert len(toasts(app)) == 1
