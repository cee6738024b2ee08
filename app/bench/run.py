"""``stoker bench speed``: a server of its own, or one or two that run already."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from app.agents_client import AgentsClient, ServerError
from app.background_server import NotStokerError, await_ready, free_port, is_running, started_server
from app.bench.machine import machine_facts
from app.bench.result import Measure, Result
from app.bench.speed import Plan, Speed, Tell
from app.bench.streams import ChatServer
from app.config import ENVIRONMENT_PREFIX
from app.paths import HOME_VARIABLE, find_paths

HOST = "127.0.0.1"
SPARE_TOKENS = 500
"""What has to be left of a model's context beside a prompt: its turns and the template."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server that runs.

    Attributes:
        url: Where it listens.
        key: Its API key; None where it wants none.
    """

    url: str
    key: str | None


def measure_running(address: Address, plan: Plan, tell: Tell) -> Result:
    """Measures a server that runs, of whatever make.

    Raises:
        StokerError: It cannot be reached, refuses, or breaks off.
    """
    client = AgentsClient(address.url, address.key)
    is_stoker = False
    with contextlib.suppress(NotStokerError):
        is_stoker = is_running(client.url)
    if is_stoker:
        await_ready(client.url, lambda _text: None)
    return _measure(client, address.key, plan, tell, is_stoker=is_stoker)


def measure_own(flags: Sequence[str], plan: Plan, tell: Tell) -> Result:
    """Starts a Stoker with its caches in a folder of their own, measures it, and ends it.

    Args:
        flags: Its settings, as on a command line.
        plan: How much is measured.
        tell: Is told how far it is.

    Raises:
        StokerError: It does not start, or breaks off.
    """
    with tempfile.TemporaryDirectory(prefix="stoker-bench-") as home:
        Path(home, "models").symlink_to(find_paths().models_dir)
        with _Own(flags, home, tell) as server:
            client = AgentsClient(server.url, None)
            result = _measure(
                client, None, replace(plan, restart=server.restart), tell, is_stoker=True
            )
    starts = Measure(
        group="start",
        label="from the command to the first turn",
        unit="s",
        samples=tuple(server.starts_s),
        more_is_better=False,
    )
    words = " ".join(["stoker serve", *flags])
    return replace(result, server=f"`{words}`", measures=[*result.measures, starts])


class _Own:
    """A Stoker that is started here, and again."""

    def __init__(self, flags: Sequence[str], home: str, tell: Tell) -> None:
        port = free_port(HOST)
        self.url = f"http://{HOST}:{port}"
        self.starts_s: list[float] = []
        self._flags = [*flags, f"--host={HOST}", f"--port={port}"]
        others = {name: os.environ[name] for name in os.environ if not _is_setting(name)}
        self._environment = {**others, HOME_VARIABLE: home}
        self._tell = tell
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Own:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restart(self) -> None:
        """Ends it if it runs, and starts it."""
        self._stack.close()
        began_s = time.monotonic()

        def say(text: str) -> None:
            self._tell(0.0, text)

        server = started_server(self.url, self._flags, say, self._environment)
        self._stack.enter_context(server)
        self.starts_s.append(time.monotonic() - began_s)


def _is_setting(name: str) -> bool:
    """Whether a variable would add to the settings that are given as flags."""
    return name.startswith(ENVIRONMENT_PREFIX)


def _measure(
    client: AgentsClient, key: str | None, plan: Plan, tell: Tell, *, is_stoker: bool
) -> Result:
    model, max_context_tokens = _model_of(client)
    fitting = plan.prompt_tokens
    if max_context_tokens is not None:
        fitting = tuple(n for n in fitting if n + SPARE_TOKENS <= max_context_tokens)
    notes = [
        f"{length} tokens: left out, they do not fit {max_context_tokens}"
        for length in plan.prompt_tokens
        if length not in fitting
    ]
    if not is_stoker:
        left_out = "from disk, restart and bytes" + (", change of model" if plan.swap_to else "")
        notes.append(f"{left_out}: left out, the server is no Stoker")
    plan = replace(plan, prompt_tokens=fitting)
    speed = Speed(ChatServer(client, model, key), plan, tell, client if is_stoker else None)
    return Result(
        server=client.url,
        model=model,
        machine=machine_facts(),
        measures=speed.measure(),
        notes=notes,
    )


def _model_of(client: AgentsClient) -> tuple[str, int | None]:
    """What a server calls its first model, and how long its context is if it says so."""
    listing = client.get("/v1/models")
    try:
        model = listing["data"][0]
        limit = model.get("max_model_len")
        return str(model["id"]), int(limit) if limit is not None else None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(f"what answers at {client.url} lists no model") from error


@contextmanager
def progress() -> Iterator[Callable[[str], Tell]]:
    """One line on a terminal's standard error, which is gone at the end."""
    is_shown = sys.stderr.isatty()

    def write(text: str) -> None:
        if is_shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def of(name: str) -> Tell:
        return lambda share, text: write(f"{share:4.0%} {name}{text}")

    try:
        yield of
    finally:
        write("")
