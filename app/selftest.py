"""``stoker selftest``: starts all that serves, and asks it for what a client would ask for."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from app.api.server import ApiServer
from app.compose import JOIN_S, POLL_S, build_api, build_engine
from app.config import Settings
from app.paths import find_paths
from engine.commands import Shutdown
from engine.engine import Engine
from engine.errors import StokerError
from engine.snapshot import EngineSnapshot, MissCause

LOAD_LIMIT_S = 900.0
REPLY_LIMIT_S = 300.0
SETTLE_LIMIT_S = 15.0
AGENT = "selftest"
HOST = "127.0.0.1"
_TEXT = "Stoker keeps the fire fed. " * 60
"""More than a block, and less than any model's context."""
_NUM_TOKENS = 8
_NUM_TOKENS_TO_CANCEL = 512


class SelfTestError(StokerError):
    """Something was not as it has to be; the message says what."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the self-test.

    Attributes:
        name: What was tried.
        is_well: Whether it went as it has to.
        text: What came of it.
        seconds: How long it took.
    """

    name: str
    is_well: bool
    text: str
    seconds: float


def run_selftest(settings: Settings) -> list[Check]:
    """Loads the model and runs every check, up to the first that fails.

    It serves on a port of its own and keeps nothing on disk, so that it can run beside a Stoker.

    Args:
        settings: What would be served; who may talk to it does not matter here.
    """
    private = replace(
        settings,
        host=HOST,
        port=0,
        api_key=None,
        api_keys=(),
        allow_remote=False,
        rate_limit_per_minute=0,
    )
    engine = build_engine(private, find_paths(), keeps_caches=False)
    api = build_api(private, engine)
    test = SelfTest(engine, api)
    try:
        return list(test.checks())
    finally:
        engine.send(Shutdown(drain_s=0.0))
        api.stop()
        api.join(JOIN_S)
        engine.join(JOIN_S)


def as_json(checks: list[Check]) -> str:
    """The checks as JSON."""
    is_well = all(check.is_well for check in checks)
    return json.dumps({"is_well": is_well, "checks": [asdict(each) for each in checks]}, indent=2)


def as_table(checks: list[Check]) -> str:
    """The checks as lines for people."""
    width = max(len(check.name) for check in checks)
    return "\n".join(
        f"{'ok' if check.is_well else 'bad':3}  {check.name:{width}}  {check.seconds:6.2f} s  "
        f"{check.text}"
        for check in checks
    )


class SelfTest:
    """The checks, in the order in which they build on one another."""

    def __init__(self, engine: Engine, api: ApiServer) -> None:
        """Names what is tested; nothing is started yet.

        Args:
            engine: An engine that has not started.
            api: Its server, bound.
        """
        self._engine = engine
        self._api = api
        self._usages: list[dict[str, int]] = []

    def checks(self) -> Iterator[Check]:
        """Runs one check after the other, up to the first that fails."""
        steps: list[tuple[str, Callable[[], str]]] = [
            ("load", self._load),
            ("preload", self._preload),
            ("decode", self._decode),
            ("metrics", self._metrics),
            ("cancel", self._cancel),
        ]
        for name, step in steps:
            began_s = time.monotonic()
            try:
                text, is_well = step(), True
            except (StokerError, OSError, http.client.HTTPException, ValueError) as error:
                text, is_well = str(error) or repr(error), False
            yield Check(name, is_well, text, time.monotonic() - began_s)
            if not is_well:
                return

    def _load(self) -> str:
        self._engine.start()
        self._api.start()
        _await(lambda: self._engine.snapshot.status != "starting", LOAD_LIMIT_S, "did not start")
        _await(lambda: self._engine.snapshot.status != "loading", LOAD_LIMIT_S, "did not load")
        snapshot = self._engine.snapshot
        _expect(snapshot.status == "serving", snapshot.status_text)
        detail = snapshot.model_detail
        _expect(detail is not None, "there is no model")
        batching = detail.batching if detail else ""
        return f"{snapshot.model} on {snapshot.device}, batching {batching}"

    def _preload(self) -> str:
        usage = self._ask(max_tokens=0)["usage"]
        _expect(usage["output_tokens"] == 0, "a prompt alone was answered")
        num_tokens = _num_prompt_tokens(usage)
        _expect(num_tokens > 256, f"the prompt has {num_tokens} tokens")
        return f"a prompt of {num_tokens} tokens"

    def _decode(self) -> str:
        first, second = self._ask(_NUM_TOKENS), self._ask(_NUM_TOKENS)
        usage = first["usage"]
        _expect(0 < usage["output_tokens"] <= _NUM_TOKENS, "no token came")
        _expect(first["content"] == second["content"], "two greedy replies differ")
        num_cached, num_tokens = usage["cache_read_input_tokens"], _num_prompt_tokens(usage)
        row = self._engine.snapshot.agent(AGENT)
        can_reuse = row is None or row.miss.cause is not MissCause.NOT_REUSABLE
        _expect(num_cached > 0 or not can_reuse, "nothing came from the cache the second time")
        return f"{usage['output_tokens']} tokens, {num_cached} of {num_tokens} from the cache"

    def _metrics(self) -> str:
        """The counters must have moved by just what the replies said."""
        expected = {
            "stoker_prompt_tokens_total": sum(map(_num_prompt_tokens, self._usages)),
            "stoker_prompt_cached_tokens_total": sum(
                usage["cache_read_input_tokens"] for usage in self._usages
            ),
            "stoker_generated_tokens_total": sum(usage["output_tokens"] for usage in self._usages),
            "stoker_turns_total": len(self._usages),
        }
        found: dict[str, float] = {}

        def are_there() -> bool:
            found.update(self._read_metrics())
            return all(found.get(name) == value for name, value in expected.items())

        try:
            _await(are_there, SETTLE_LIMIT_S, "")
        except SelfTestError:
            shown = {name: found.get(name) for name in expected}
            raise SelfTestError(f"/metrics says {shown} instead of {expected}") from None
        return f"{len(found)} series; {len(self._usages)} turns counted rightly"

    def _cancel(self) -> str:
        before = self._engine.snapshot.throughput
        with self._post(_NUM_TOKENS_TO_CANCEL, stream=True) as reply:
            for line in reply:
                if line.startswith(b"event: content_block_delta"):
                    break
            else:
                raise SelfTestError("the stream had no token")

        def has_ended() -> bool:
            snapshot = self._engine.snapshot
            return snapshot.throughput.num_turns > before.num_turns and _is_idle(snapshot)

        _await(has_ended, SETTLE_LIMIT_S, "the turn of a client that left was not ended")
        after = self._engine.snapshot.throughput
        num_tokens = after.num_generated_tokens - before.num_generated_tokens
        is_aborted = any(event.kind == "abort" for event in self._engine.snapshot.events)
        _expect(is_aborted, f"nobody stopped the turn, it ended after {num_tokens} tokens")
        return f"stopped after {num_tokens} tokens; all blocks are back"

    # HTTP

    def _ask(self, max_tokens: int) -> dict[str, Any]:
        with self._post(max_tokens) as reply:
            body: dict[str, Any] = json.loads(reply.read())
        self._usages.append(body["usage"])
        return body

    @contextmanager
    def _post(self, max_tokens: int, *, stream: bool = False) -> Iterator[http.client.HTTPResponse]:
        body = {
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": stream,
            "messages": [{"role": "user", "content": _TEXT}],
        }
        headers = {"content-type": "application/json", "x-agent-id": AGENT}
        with self._connection() as connection:
            connection.request("POST", "/v1/messages", json.dumps(body), headers)
            reply = connection.getresponse()
            if reply.status != 200:
                raise SelfTestError(f"{reply.status}: {reply.read(2000).decode(errors='replace')}")
            yield reply

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(HOST, self._api.port, timeout=REPLY_LIMIT_S)
        try:
            yield connection
        finally:
            connection.close()

    def _read_metrics(self) -> dict[str, float]:
        with self._connection() as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def _num_prompt_tokens(usage: dict[str, int]) -> int:
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage[part] for part in parts)


def _is_idle(snapshot: EngineSnapshot) -> bool:
    batch = snapshot.batch
    return batch.num_running == batch.num_waiting == snapshot.pool.num_running_blocks == 0


def _await(holds: Callable[[], bool], limit_s: float, complaint: str) -> None:
    deadline_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() >= deadline_s:
            raise SelfTestError(f"{complaint} within {limit_s:.0f} s")
        time.sleep(POLL_S)


def _expect(is_so: bool, complaint: str) -> None:
    if not is_so:
        raise SelfTestError(complaint)
