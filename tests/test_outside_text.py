"""Text from outside on its way to a terminal or a log: it can show, and do, nothing but itself."""

from __future__ import annotations

import logging
import queue
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import cli, generate, speech
from app.agents_client import AgentsClient
from app.agents_table import agent_page, agents_table
from app.doctor import Finding, Health, Report, report_as_table
from app.logs import LineFormatter, LogRing, printable
from app.models_table import model_text, models_table
from app.remote.state_feed import StateFeed
from engine.errors import StokerError
from engine.models.entry import ModelEntry
from engine.request import Delta, FinishReason, Usage
from engine.snapshot import AgentRow, MissRow, TurnRow
from engine.snapshot.json_form import VersionGap
from widgets.format import clean, fit

HOSTILE = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x9b31m", "a\rb", "\u202egnp.exe", "\x00", "\u2028x"]
)


def assert_harmless(text: str, *, allowed: str = "\n") -> None:
    """No control, format or separator character but those that are meant."""
    for char in text:
        if char not in allowed:
            assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), repr(text)


@given(HOSTILE)
def test_every_way_of_making_it_harmless_does(text: str) -> None:
    for made in (printable(text), clean(text), fit(text, 12)):
        assert_harmless(made, allowed="")
    assert_harmless(speech.printable_lines(text), allowed="\n\t")


@given(HOSTILE)
def test_plain_text_stays_what_it_is(text: str) -> None:
    if text.isprintable():
        assert printable(text) == text == speech.printable_lines(text)


@given(HOSTILE, HOSTILE)
def test_a_line_of_the_log_stays_one_line(message: str, reason: str) -> None:
    try:
        raise RuntimeError(reason)
    except RuntimeError:
        record = logging.LogRecord("a", 20, "f", 1, "%s", (message,), sys.exc_info())
    written = LineFormatter("%(levelname)s %(message)s").format(record)
    assert_harmless(written)
    assert all(line.startswith("    ") for line in written.split("\n")[1:])
    ring = LogRing()
    ring.emit(record)
    assert_harmless(ring.lines[0].text, allowed="")


@given(HOSTILE, HOSTILE)
def test_tables_of_agents_and_models(name: str, other: str) -> None:
    turn = TurnRow(number=1, miss=other)
    agent = AgentRow(agent_id=name, protocol=other, miss=MissRow(part=other), turns=(turn,))
    assert_harmless(agents_table([agent]))
    assert_harmless(agent_page(agent))
    entry = ModelEntry(model_id=name, origin="path", path=other, architecture=other, refusal=other)
    assert_harmless(models_table([entry]))
    assert_harmless(model_text(entry))


@given(HOSTILE, HOSTILE)
def test_how_the_version_of_an_attached_stoker_differs(version: str, field: str) -> None:
    feed = StateFeed(AgentsClient("http://127.0.0.1:1", None))
    feed._version, feed._gap = version, VersionGap(unknown=frozenset({field}))
    assert_harmless(feed.gap_words, allowed="")


@given(HOSTILE)
def test_what_the_doctor_found(text: str) -> None:
    assert_harmless(report_as_table(Report((Finding("model", Health.BAD, text),))))


@pytest.mark.parametrize("message", ["a\x1b[2J", "a\r\nb\x07", "a\x9b1m\u202e"])
def test_errors_are_one_harmless_line(
    message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StokerError(message)

    monkeypatch.setattr(cli, "_check_place", fail)
    assert cli.main(["config", "show"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert_harmless(error)
    with pytest.raises(SystemExit):
        cli.main([f"--{message}"])
    assert_harmless(capsys.readouterr().err)


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, "a\\x1b[2J\n\tb\n"), (False, None)])
def test_a_reply_cannot_steer_the_terminal_it_is_shown_on(
    is_terminal: bool,
    shown: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "a\x1b[2J\n\tb"
    deltas: queue.SimpleQueue[Delta] = queue.SimpleQueue()
    deltas.put(
        Delta(
            request_id="r",
            agent_id="a",
            text=text,
            usage=Usage(),
            finish_reason=FinishReason.END_TURN,
        )
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert generate._receive(deltas, show=True)[1] == text
    assert capsys.readouterr().out == (shown or f"{text}\n")
