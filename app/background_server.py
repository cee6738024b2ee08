"""A ``stoker serve`` behind another program: found where one runs, started where none does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import InvalidRequestError, StokerError

PROBE_TIMEOUT_S = 5.0
POLL_S = 0.1
STANDSTILL_LIMIT_S = 600.0
"""How long a load may go without any news."""
STOP_LIMIT_S = 30.0
_ROOT = Path(__file__).resolve().parent.parent
# What lies in the current folder must not be taken for our own modules.
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from app.cli import main; sys.exit(main())"
)
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Say = Callable[[str], None]


class NotStokerError(InvalidRequestError):
    """Something else than Stoker has the address."""


class ServerEndedError(StokerError):
    """Stoker ended, or stood still, before it was ready."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: dict[str, Any]


def _get(url: str) -> _Answer | None:
    """A path's JSON object; None where nobody answers, an empty one where it is none."""
    try:
        with _LOCAL.open(url, timeout=PROBE_TIMEOUT_S) as reply:
            status, text = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read()
    except OSError:
        return None
    try:
        body = json.loads(text)
    except ValueError:
        body = {}
    return _Answer(status, body if isinstance(body, dict) else {})


def is_running(url: str) -> bool:
    """Whether a Stoker listens at an address.

    Raises:
        NotStokerError: Something else does.
    """
    answer = _get(f"{url}/")
    if answer is None:
        return False
    if answer.body.get("name") != "stoker":
        raise NotStokerError(f"what answers at {url} is no Stoker; choose another port with --port")
    return True


def await_ready(url: str, say: Say, process: subprocess.Popen[bytes] | None = None) -> None:
    """Waits until a Stoker takes turns, and says what it does meanwhile.

    Args:
        url: Its address.
        say: Is told each new step of the load.
        process: It, where it was started here.

    Raises:
        ServerEndedError: It ended or failed, or nothing has happened for a long time.
    """
    last_news: object = None
    deadline_s = time.monotonic() + STANDSTILL_LIMIT_S
    while time.monotonic() < deadline_s:
        if process is not None and process.poll() is not None:
            raise ServerEndedError(f"Stoker ended with status {process.returncode}")
        answer = _get(f"{url}/health/ready")
        if answer is not None and answer.status == 200:
            return
        body = answer.body if answer is not None else {}
        text = str(body.get("text") or "")
        if body.get("status") == "failed":
            raise ServerEndedError(f"the Stoker at {url} failed: {text}")
        news = (text, body.get("progress"))
        if text and (last_news is None or news[0] != last_news):
            say(text)
            last_news = text
        time.sleep(POLL_S)
    raise ServerEndedError(f"the Stoker at {url} is not ready")


def free_port(host: str) -> int:
    """A port nobody listens on now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started_server(
    url: str, flags: Sequence[str], say: Say, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Starts ``stoker serve``, waits until it takes turns, and ends it at the end.

    It ends with this process as well, however that does; whoever else talks to it then has to
    find another one. A Stoker that was started by anybody else is never ended.

    Args:
        url: Where it will listen.
        flags: Its settings, as on a command line.
        say: Is told each step of the load.
        environment: Its variables; ours if None.

    Raises:
        InvalidRequestError: It did not start, and the user can put that right.
        ServerEndedError: It did not start; the message has its last words.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, str(_ROOT), "serve", "--until-eof", *flags],
            # It ends with this pipe, so not even a kill of this process leaves it behind.
            stdin=subprocess.PIPE,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the client; a session of its own never hears it.
            start_new_session=True,
        )
        try:
            try:
                await_ready(url, say, process)
            except ServerEndedError as error:
                output.seek(0)
                said = output.read().decode(errors="replace").strip().splitlines()
                words = said[-1].removeprefix("stoker: ") if said else str(error)
                # Its status 1 is a mistake of the user's, like ours.
                kind = InvalidRequestError if process.poll() == 1 else ServerEndedError
                raise kind(words) from error
            yield
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
