"""``stoker models swap`` as a person types it, and a dashboard elsewhere, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from app.agents_client import AgentsClient, RefusedError, ServerError
from app.remote.engine import RemoteEngine
from engine.commands import Shutdown
from engine.errors import ModelLoadError, SwapInProgressError
from engine.model_commands import ListModels, SwapModel
from tests.api.conftest import Served, serving
from tests.api.word_engine import CHOICES, OTHER_ID, SWAPPED
from tests.cli.test_cli import stoker


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def served(shared: Served) -> Served:
    shared.engine.reset()
    return shared


def test_it_says_what_is_active_now_and_what_it_took(served: Served) -> None:
    options = ("--url", served.url, "--drain", "3", "--kv-bits", "4")
    done = stoker("models", "swap", OTHER_ID, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{OTHER_ID} is active instead of tiny-words, after 2.0 s" in done.stdout
    assert "load 1.2" in done.stdout
    command = served.engine.commands[-1]
    assert isinstance(command, SwapModel)
    assert (command.drain_s, command.kv_bits) == (3.0, 4)


def test_as_json_it_prints_what_the_server_answered(served: Served) -> None:
    done = stoker("models", "swap", OTHER_ID, "--url", served.url, "--json")
    assert json.loads(done.stdout)["parts"]["total_s"] == SWAPPED.parts.total_s


@pytest.mark.parametrize(
    ("error", "status"),
    [(ModelLoadError("the shard is damaged"), 1), (SwapInProgressError(OTHER_ID, 3.0), 2)],
)
def test_a_refusal_is_one_line(served: Served, error: Exception, status: int) -> None:
    served.engine.refuse_swap = error  # type: ignore[assignment]
    done = stoker("models", "swap", OTHER_ID, "--url", served.url)
    assert (done.returncode, done.stdout) == (status, "")
    assert str(error) in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def remote(served: Served) -> Iterator[RemoteEngine]:
    engine = RemoteEngine(AgentsClient(served.url, None))
    engine.connect()
    engine.start()
    yield engine
    engine.send(Shutdown())
    assert engine.join(5.0)


def result(done: Future[Any]) -> Any:
    return done.result(10.0)


def test_a_dashboard_elsewhere_lists_and_changes_models(remote: RemoteEngine) -> None:
    listing, change = ListModels(), SwapModel(model=OTHER_ID, drain_s=1.0)
    remote.send(listing)
    remote.send(change)
    assert result(listing.done) == CHOICES
    assert result(change.done) == SWAPPED


def test_a_refused_change_is_told_there_in_the_same_words(
    remote: RemoteEngine, served: Served
) -> None:
    served.engine.refuse_swap = ModelLoadError("the shard is damaged")
    refused = SwapModel(model=OTHER_ID)
    remote.send(refused)
    with pytest.raises(RefusedError, match="the shard is damaged"):
        result(refused.done)
    served.engine.refuse_swap = SwapInProgressError(OTHER_ID, 3.0)
    late = SwapModel(model=OTHER_ID)
    remote.send(late)
    with pytest.raises(ServerError, match=OTHER_ID):
        result(late.done)
