"""``stoker launch``: a coding agent that talks to this machine's Stoker.

Nothing is written into the client's own configuration: all it is told are variables and flags of
the one process that is started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from app.address import api_url
from app.agents_client import AgentsClient, ServerError, UnreachableError
from app.background_server import await_ready, free_port, is_running, started_server
from app.claude_settings import overrides
from app.clients import NO_KEY, Client, Launch, RunningStoker, prepare
from app.config import Settings
from app.speech import complain
from engine.errors import InvalidRequestError


class NotInstalledError(InvalidRequestError):
    """The client is not on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which Stoker a client is to talk to.

    Attributes:
        settings: The user's settings.
        flags: Those of them that were given on the command line, as flags.
        url: An address that was given instead; "" for that of the settings.
        key: A key that was given instead; "" for that of the settings.
    """

    settings: Settings
    flags: tuple[str, ...] = ()
    url: str = ""
    key: str = ""


def run_launch(client: Client, arguments: Sequence[str], target: Target) -> int:
    """Starts a client and waits for its end.

    Args:
        client: What to start.
        arguments: Its own arguments.
        target: The Stoker that it talks to; one is started for it where none runs.

    Returns:
        The client's exit status; 128 and the signal's number where one ended it.

    Raises:
        NotInstalledError: It is not there.
        StokerError: There is no Stoker to talk to, and none could be started.
    """
    program = shutil.which(client.program)
    if program is None:
        raise NotInstalledError(
            f"{client.name} is not installed: no {client.program!r} on the PATH; "
            f"install it with `{client.install_command}`"
        )
    with _some_stoker(target) as stoker:
        launch = prepare(client, stoker, arguments, os.environ)
        for note in [*launch.notes, *warnings(client, launch)]:
            complain(note)
        return _run(program, launch)


def print_launch(
    client: Client, arguments: Sequence[str], target: Target, *, as_json: bool
) -> None:
    """Prints what starts a client, without starting anything.

    Raises:
        StokerError: No Stoker runs, so its model is not known.
    """
    url = target.url or api_url(target.settings)
    if not is_running(url):
        raise UnreachableError(
            f"no Stoker runs at {url}, and what a client is told depends on its model; "
            "start one with `stoker`, or name another address with --url"
        )
    stoker = _look_at(url, target)
    launch = prepare(client, stoker, arguments, os.environ)
    for note in [*launch.notes, *warnings(client, launch)]:
        complain(note)
    text = _as_json(stoker, launch) if as_json else _as_lines(launch)
    sys.stdout.write(f"{text}\n")


def warnings(client: Client, launch: Launch) -> list[str]:
    """What on this machine keeps a client from doing what it is told."""
    if client.program != "claude":
        return []
    wanted = {**dict.fromkeys(launch.unset, ""), **launch.environment}
    return [found.words for found in overrides(wanted, os.environ, Path.cwd())]


@contextmanager
def _some_stoker(target: Target) -> Iterator[RunningStoker]:
    """The Stoker that runs, or else one for as long as it is needed."""
    settings = target.settings
    # With port 0 nobody can say where a running one would be.
    finds_one = bool(target.url or settings.port)
    url = target.url or api_url(settings)
    if finds_one and is_running(url):
        yield _look_at(url, target)
        return
    if target.url:
        raise UnreachableError(f"no Stoker answers at {url}; start one there, or leave out --url")
    flags = target.flags
    if not finds_one:
        port = free_port(settings.host)
        url, flags = url.removesuffix(":0") + f":{port}", (*flags, "--port", str(port))
    complain(f"no Stoker runs at {url}: starting one for as long as the client runs")
    with started_server(url, flags, complain):
        yield _look_at(url, target)


def _look_at(url: str, target: Target) -> RunningStoker:
    """Waits until a Stoker takes turns, and asks it for its model."""
    await_ready(url, complain)
    key = target.key or target.settings.api_key
    listing = AgentsClient(url, key).get("/v1/models")
    try:
        model = listing["data"][0]
        name, max_context_tokens = str(model["id"]), int(model["max_model_len"])
        if not name.isprintable():
            raise ValueError("the model's name is none")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ServerError(f"the Stoker at {url} is of another version than this one") from error
    return RunningStoker(
        url=url, key=key or NO_KEY, model=name, max_context_tokens=max_context_tokens
    )


def _run(program: str, launch: Launch) -> int:
    process = subprocess.Popen([program, *launch.command[1:]], env=_environment(launch))

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # The terminal has sent Ctrl-C to the client already.
        if number != signal.SIGINT:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        status = process.wait()
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    return status if status >= 0 else 128 - status


def _environment(launch: Launch) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in launch.unset}
    return {**kept, **launch.environment}


def _as_lines(launch: Launch) -> str:
    lines = [f"unset {name}" for name in launch.unset]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in launch.environment.items()]
    return "\n".join([*lines, shlex.join(launch.command)])


def _as_json(stoker: RunningStoker, launch: Launch) -> str:
    shown = {
        "url": stoker.url,
        "model": stoker.model,
        "max_context_tokens": stoker.max_context_tokens,
        "environment": dict(launch.environment),
        "unset": list(launch.unset),
        "command": list(launch.command),
    }
    return json.dumps(shown, indent=2)
