"""What breaks off goes on, and what is damaged is found out."""

from __future__ import annotations

import errno
import hashlib
import threading
from typing import Any

import pytest

from app.pull.errors import HubError, PullRefusedError, PullStoppedError
from app.pull.progress import PullProgress
from tests.pull.hub_stand_in import (
    HubStandIn,
    breaks_off,
    falls_silent,
)
from tests.pull.pulling import (
    FIRST,
    QUICK,
    SECOND,
    partials,
    pull,
    repository,
    snapshot,
)


def test_weights_go_on_where_the_connection_broke(hub: HubStandIn) -> None:
    hub.fail(FIRST, breaks_off(40_000), breaks_off(20_000))

    pull(hub)

    ranges = [span for path, span, _ in hub.seen if path.endswith(FIRST)]
    assert ranges == ["", "bytes=40000-", "bytes=60000-"]
    assert snapshot()[FIRST] == hub.files[FIRST]


def test_later_run_goes_on_where_an_earlier_one_gave_up(hub: HubStandIn) -> None:
    hub.fail(FIRST, *[breaks_off(10_000)] * QUICK.num_attempts)
    with pytest.raises(HubError, match="3 times in a row"):
        pull(hub)
    assert [path.stat().st_size for path in partials()] == [30_000]
    assert not (repository() / "snapshots").exists()
    hub.seen.clear()

    pulled = pull(hub)

    assert [span for path, span, _ in hub.seen if path.endswith(FIRST)] == ["bytes=30000-"]
    assert pulled.num_new_bytes == len(hub.files[FIRST]) + len(hub.files[SECOND]) - 30_000
    assert snapshot()[FIRST] == hub.files[FIRST]


def test_partial_that_was_damaged_since_is_fetched_anew(hub: HubStandIn) -> None:
    name = hashlib.sha256(hub.files[FIRST]).hexdigest()
    partial = repository() / "blobs" / f"{name}.stoker-partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(50_000))

    pull(hub)

    assert snapshot()[FIRST] == hub.files[FIRST]


def test_hub_that_gives_no_parts_is_asked_for_the_whole(hub: HubStandIn) -> None:
    hub.fail(FIRST, breaks_off(40_000), lambda handler: handler.send(hub.files[FIRST]))

    pull(hub)

    assert snapshot()[FIRST] == hub.files[FIRST]


@pytest.mark.parametrize("name", [FIRST, "tokenizer.json"])
def test_damaged_file_is_found_out_and_nothing_of_it_kept(hub: HubStandIn, name: str) -> None:
    damaged = bytes([hub.files[name][0] ^ 1]) + hub.files[name][1:]
    hub.fail(name, lambda handler: handler.send(damaged))

    with pytest.raises(HubError, match=f"{name} came damaged"):
        pull(hub)

    assert partials() == []
    assert not (repository() / "snapshots").exists()
    pull(hub)
    assert snapshot()[name] == hub.files[name]


@pytest.mark.parametrize("extra", [-1, 1])
def test_file_of_another_length_than_listed_is_refused(hub: HubStandIn, extra: int) -> None:
    other = hub.files[FIRST][:extra] if extra < 0 else hub.files[FIRST] + b"x"
    hub.fail(FIRST, lambda handler: handler.send(other))

    with pytest.raises(HubError, match=f"offers {len(other):,} bytes of {FIRST}"):
        pull(hub)


def test_file_without_end_is_cut_off(hub: HubStandIn) -> None:
    def pours(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("connection", "close")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(bytes(100_000))
        handler.close_connection = True

    hub.fail(FIRST, pours)

    with pytest.raises(HubError, match="is longer than"):
        pull(hub)
    assert sum(path.stat().st_size for path in partials()) == 0


def test_hub_that_falls_silent_is_given_up(hub: HubStandIn) -> None:
    release = threading.Event()
    hub.fail(FIRST, *[falls_silent(release)] * QUICK.num_attempts)
    try:
        with pytest.raises(HubError, match=r"sent nothing for 0.3 s, 3 times in a row"):
            pull(hub)
    finally:
        release.set()


def test_busy_hub_is_asked_again_after_the_time_it_says(hub: HubStandIn) -> None:
    hub.fail(FIRST, lambda handler: handler.refuse(429, retry_after="86400"))
    hub.fail("main", lambda handler: handler.refuse(503))

    pull(hub)

    assert hub.num_asked(FIRST) == 2


def test_parts_are_asked_for_behind_a_redirect_too(hub: HubStandIn) -> None:
    hub.elsewhere = hub.url
    hub.fail(f"/cdn/{FIRST}", breaks_off(40_000))

    pull(hub)

    spans = [span for path, span, _ in hub.seen if path == f"/cdn/{FIRST}"]
    assert spans == ["", "bytes=40000-"]


def test_full_disk_keeps_what_came(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.pull.transfer import PartialFile

    append = PartialFile.append

    def fills_up(partial: PartialFile, chunk: bytes) -> None:
        if partial.remote.name == FIRST and partial.num_bytes > 30_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(partial, chunk)

    hub.fail(FIRST, breaks_off(40_000))
    with monkeypatch.context() as patched:
        patched.setattr(PartialFile, "append", fills_up)
        with pytest.raises(PullRefusedError, match="is full: free some room and pull again"):
            pull(hub)
    assert [path.stat().st_size for path in partials()] == [40_000]

    pull(hub)

    assert snapshot()[FIRST] == hub.files[FIRST]


def test_stop_keeps_what_came(hub: HubStandIn) -> None:
    stop = threading.Event()

    def report(progress: PullProgress) -> None:
        if progress.file == SECOND:
            stop.set()

    with pytest.raises(PullStoppedError):
        pull(hub, report=report, stop=stop)

    assert not (repository() / "snapshots").exists()
    assert pull(hub).num_new_bytes == len(hub.files[SECOND])


def test_two_pulls_of_one_model_do_not_meet(hub: HubStandIn) -> None:
    release = threading.Event()
    came = threading.Event()

    def waits(handler: Any) -> None:
        came.set()
        release.wait(30)
        handler.serve(FIRST)

    hub.fail(FIRST, waits)
    first = threading.Thread(target=pull, args=(hub,))
    first.start()
    try:
        assert came.wait(10)
        with pytest.raises(PullRefusedError, match="being pulled by another process"):
            pull(hub)
    finally:
        release.set()
        first.join()
    assert snapshot()[FIRST] == hub.files[FIRST]
