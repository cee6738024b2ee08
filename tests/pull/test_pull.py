"""A model of a hub comes whole, into the cache that other tools read."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from app.pull.errors import PullRefusedError
from app.pull.progress import PullProgress
from engine.models.entry import Room
from engine.models.places import show_model
from tests.pull.hub_stand_in import (
    COMMIT,
    HubStandIn,
)
from tests.pull.pulling import (
    FIRST,
    NEEDED,
    SECOND,
    cache,
    partials,
    pull,
    repository,
    snapshot,
)


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
