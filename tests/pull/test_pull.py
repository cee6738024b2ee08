from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.pull.errors import HubError, PullRefusedError, PullStoppedError
from app.pull.patience import Patience
from app.pull.progress import PullProgress
from app.pull.pull import PulledModel, Puller
from app.pull.reference import HubAddress, ModelReference
from engine.models.entry import Room
from engine.models.places import show_model
from tests.pull.hub_stand_in import (
    COMMIT,
    HubStandIn,
    breaks_off,
    falls_silent,
    model_files,
    running_hub,
)

FIRST, SECOND = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
QUICK = Patience(connect_s=2, silence_s=0.3, num_attempts=3, first_wait_s=0.01, max_wait_s=0.05)
NEEDED = {name for name in model_files() if name.startswith(("config", "tokenizer", "model."))} | {
    FIRST,
    SECOND,
}


def cache() -> Path:
    return Path(os.environ["HF_HUB_CACHE"])


def repository() -> Path:
    return cache() / "models--org--name"


def partials() -> list[Path]:
    return sorted(repository().glob("blobs/*.stoker-partial"))


def pull(
    hub: HubStandIn,
    text: str = "org/name",
    *,
    token: str = "",
    report: Callable[[PullProgress], None] = lambda _progress: None,
    stop: threading.Event | None = None,
) -> PulledModel:
    puller = Puller(
        address=HubAddress(hub.url, token),
        cache=cache(),
        report=report,
        stop=stop or threading.Event(),
        patience=QUICK,
    )
    return puller.pull(ModelReference.parse(text))


def snapshot(commit: str = COMMIT) -> dict[str, bytes]:
    folder = repository() / "snapshots" / commit
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_that_a_model_needs_come_and_no_others(hub: HubStandIn) -> None:
    pulled = pull(hub)

    assert snapshot() == {name: hub.files[name] for name in NEEDED}
    assert pulled.num_new_bytes == pulled.size_bytes == sum(len(hub.files[n]) for n in NEEDED)
    assert not any(path.endswith((".py", ".bin", ".onnx", ".md")) for path, _, _ in hub.seen)
    assert partials() == []


def test_catalogue_finds_it_under_the_hubs_id_pinned_to_its_commit(hub: HubStandIn) -> None:
    pull(hub)

    entry = show_model("org/name", Path("nowhere"), Room(10**9, widens=True))

    assert (entry.architecture, entry.refusal) == ("llama", "")
    assert Path(entry.path).name == COMMIT
    assert (repository() / "refs" / "main").read_text() == COMMIT


def test_other_tools_read_the_cache_that_it_leaves(hub: HubStandIn) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    pull(hub)

    folder = huggingface_hub.snapshot_download("org/name", cache_dir=cache(), local_files_only=True)
    (found,) = huggingface_hub.scan_cache_dir(cache()).repos

    assert Path(folder) == repository() / "snapshots" / COMMIT
    assert (found.repo_id, found.nb_files) == ("org/name", len(NEEDED))


def test_stand_in_speaks_as_the_hub_does(hub: HubStandIn) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    api = huggingface_hub.HfApi(endpoint=hub.url, token=False)

    info = api.model_info("org/name", revision="main", files_metadata=True)

    assert info.sha == COMMIT
    sizes = {item.rfilename: item.lfs.size if item.lfs else item.size for item in info.siblings}
    assert sizes == {name: len(data) for name, data in hub.files.items()}
    asked = [path for path, _, _ in hub.seen]
    pull(hub)
    assert hub.seen[len(asked)][0] == asked[0]


def test_what_another_tool_brought_is_not_fetched_again(hub: HubStandIn) -> None:
    blob = repository() / "blobs" / hashlib.sha256(hub.files[FIRST]).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(hub.files[FIRST])

    pulled = pull(hub)

    assert hub.num_asked(FIRST) == 0
    assert pulled.num_new_bytes == pulled.size_bytes - len(hub.files[FIRST])


def test_second_pull_fetches_nothing(hub: HubStandIn) -> None:
    pull(hub)
    hub.seen.clear()

    assert pull(hub).num_new_bytes == 0
    assert len(hub.seen) == 1


def test_snapshot_of_another_tool_is_completed_and_keeps_its_files(hub: HubStandIn) -> None:
    pull(hub)
    folder = repository() / "snapshots" / COMMIT
    (folder / FIRST).unlink()
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"kept")

    pull(hub)

    assert (folder / FIRST).read_bytes() == hub.files[FIRST]
    assert (folder / "onnx" / "model.onnx").read_bytes() == b"kept"


def test_revision_is_pinned_and_listed_under_its_own_name(hub: HubStandIn) -> None:
    hub.revisions["v2"] = COMMIT
    (repository() / "snapshots" / ("b" * 40)).mkdir(parents=True)
    (repository() / "refs").mkdir()
    (repository() / "refs" / "main").write_text("b" * 40)

    pull(hub, "org/name@v2")

    assert (repository() / "refs" / "v2").read_text() == COMMIT
    assert (repository() / "refs" / "main").read_text() == "b" * 40
    show_model(f"org/name@{COMMIT[:12]}", Path("nowhere"), Room(0, widens=False))


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


def test_nobody_at_the_address_is_said_so(hub: HubStandIn) -> None:
    hub.server_close()

    with pytest.raises(HubError, match=r"cannot reach 127\.0\.0\.1.*HF_ENDPOINT"):
        pull(hub)
    assert not repository().exists()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", "has no '"),
        (404, "RevisionNotFound", "no such revision"),
        (401, "RepoNotFound", "or only with HF_TOKEN set"),
        (401, "GatedRepo", "accept its terms"),
        (403, "GatedRepo", "accept its terms"),
        (403, "", "accept its terms"),
    ],
)
@pytest.mark.parametrize("path", ["main", "config.json"])
def test_refusal_says_what_to_do(
    hub: HubStandIn, path: str, status: int, code: str, words: str
) -> None:
    hub.fail(path, lambda handler: handler.refuse(status, code))

    with pytest.raises(PullRefusedError) as raised:
        pull(hub)
    assert words in str(raised.value)
    assert "'org/name'" in str(raised.value)
    assert not repository().exists()


def test_wrong_token_is_named_and_not_shown(hub: HubStandIn) -> None:
    message = "Invalid credentials in Authorization header"
    hub.fail("main", lambda handler: handler.refuse(401, x_error_message=message))

    with pytest.raises(PullRefusedError, match="does not take HF_TOKEN") as raised:
        pull(hub, token="hf_secret")
    assert "hf_secret" not in str(raised.value)
    assert "hf_secret" not in repr(HubAddress(hub.url, "hf_secret"))


def test_token_goes_to_the_hub_and_nowhere_else(hub: HubStandIn) -> None:
    with running_hub() as elsewhere:
        elsewhere.files = hub.files
        hub.elsewhere = elsewhere.url
        pull(hub, token="hf_secret")

        assert {authorization for _, _, authorization in hub.seen} == {"Bearer hf_secret"}
        assert len(elsewhere.seen) == 2
        assert {authorization for _, _, authorization in elsewhere.seen} == {""}


def test_parts_are_asked_for_behind_a_redirect_too(hub: HubStandIn) -> None:
    hub.elsewhere = hub.url
    hub.fail(f"/cdn/{FIRST}", breaks_off(40_000))

    pull(hub)

    spans = [span for path, span, _ in hub.seen if path == f"/cdn/{FIRST}"]
    assert spans == ["", "bytes=40000-"]


def test_circle_of_redirects_ends(hub: HubStandIn) -> None:
    path = f"/org/name/resolve/{COMMIT}/config.json"
    hub.fail("config.json", *[lambda handler: handler.refuse(302, location=path)] * 20)

    with pytest.raises(HubError, match="more than 8 times"):
        pull(hub)


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[", ""])
def test_redirect_to_no_web_address_is_not_followed(hub: HubStandIn, location: str) -> None:
    hub.fail("config.json", *[lambda handler: handler.refuse(302, location=location)] * 20)

    with pytest.raises(HubError, match=r"no address|more than 8 times"):
        pull(hub)


@pytest.mark.parametrize("name", ["../x", "a/../../config.json", "/etc/passwd", "a\\b", "a\x1b[2J"])
def test_hostile_file_name_is_refused(hub: HubStandIn, name: str) -> None:
    hub.files[name] = b"x"

    with pytest.raises(PullRefusedError, match="leads out of the model's folder"):
        pull(hub)
    assert not repository().exists()


def changed(name: str, **fields: object) -> Callable[[dict[str, Any]], object]:
    def change(answer: dict[str, Any]) -> object:
        for item in answer["siblings"]:
            if item["rfilename"] == name:
                item.update(fields)
        return answer

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: [],
        lambda answer: {**answer, "sha": "../../x"},
        lambda answer: {**answer, "sha": None},
        lambda answer: {**answer, "siblings": "x"},
        changed("config.json", blobId="../../../x"),
        changed("config.json", size=-1),
        changed("config.json", size=None),
        changed(FIRST, lfs={"sha256": "../x", "size": 10}),
    ],
)
def test_listing_of_another_form_is_refused(
    hub: HubStandIn, change: Callable[[dict[str, Any]], object]
) -> None:
    hub.listing = change

    with pytest.raises(HubError, match="in a form of its own"):
        pull(hub)


def test_page_instead_of_a_listing_is_refused(hub: HubStandIn) -> None:
    hub.fail("main", lambda handler: handler.send(b"<html>log in</html>"))

    with pytest.raises(HubError, match="does not answer as a hub does"):
        pull(hub)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"config.json", "tokenizer.json", "m.gguf"}, "GGUF files only"),
        ({"config.json", "tokenizer.json", "pytorch_model.bin"}, "pickled weights"),
        ({"README.md"}, "no model*.safetensors"),
        ({FIRST, "tokenizer.json"}, "has no config.json"),
        ({FIRST, "config.json"}, "has no tokenizer.json"),
    ],
)
def test_what_is_no_model_is_refused_by_its_names(
    hub: HubStandIn, names: set[str], words: str
) -> None:
    hub.files = {name: hub.files.get(name, b"x") for name in names}

    with pytest.raises(PullRefusedError) as raised:
        pull(hub)
    assert words in str(raised.value)
    assert len(hub.seen) == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (model_files(model_type="warp9"), "architecture 'warp9' is not supported"),
        (model_files(model_file="evil.py"), "code of its own"),
        (model_files() | {"config.json": b"[]"}, "config.json is damaged at the hub"),
        (
            model_files() | {"model.safetensors.index.json": b'{"weight_map": {"w": "model-9"}}'},
            "names 'model-9'",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_its_weights_come(
    hub: HubStandIn, files: dict[str, bytes], words: str
) -> None:
    hub.files = files

    with pytest.raises(PullRefusedError) as raised:
        pull(hub)
    assert words in str(raised.value)
    assert hub.num_asked(".safetensors") == 0
    assert not repository().exists()


def test_weights_that_the_index_does_not_name_stay_there(hub: HubStandIn) -> None:
    hub.files["model.safetensors"] = hub.files[FIRST]

    pull(hub)

    assert hub.num_asked("/model.safetensors") == 0


def test_room_is_looked_at_before_the_weights_come(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(cache().parent)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: room)

    with pytest.raises(PullRefusedError, match=r"needs 200K more in .*, and 100K are free"):
        pull(hub)
    assert hub.num_asked(".safetensors") == 0
    assert not repository().exists()


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


def test_progress_counts_what_was_here_and_ends_whole(hub: HubStandIn) -> None:
    pull(hub)
    blob = repository() / "blobs" / hashlib.sha256(hub.files[SECOND]).hexdigest()
    blob.unlink()
    told: list[PullProgress] = []

    pulled = pull(hub, report=told.append)

    missing = len(hub.files[SECOND])
    assert told[-1].num_total_bytes == pulled.size_bytes
    assert told[-1].num_done_bytes == pulled.size_bytes - missing
    assert told[-1].file == SECOND
