"""The doctor's checks in a process of their own, for a program that is busy with an engine.

They load mlx, read weights and try the port: beside an engine all of that would be in its way.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from app.config import SETTING_FIELDS, Settings
from app.doctor import Finding, Health, Report
from engine.errors import StokerError

LIMIT_S = 300.0
_ROOT = Path(__file__).resolve().parent.parent
# What lies in the current folder must not be taken for our own modules.
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from app.cli import main; sys.exit(main())"
)


class DoctorFailedError(StokerError):
    """The checks came to no end."""


class DoctorRun:
    """One run of all checks; may be given up from another thread."""

    def __init__(self, settings: Settings | None) -> None:
        """Has not started.

        Args:
            settings: What would be run; None is what the environment and the files say.
        """
        self._flags = setting_flags(settings) if settings else []
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_given_up = False

    def report(self) -> Report:
        """Runs the checks and waits for them.

        Raises:
            DoctorFailedError: They could not be run, took too long, or were given up.
        """
        command = [sys.executable, "-P", "-c", _START, str(_ROOT), "doctor", "--json"]
        try:
            with self._lock:
                if self._is_given_up:
                    raise DoctorFailedError("the checks were given up")
                self._process = subprocess.Popen(
                    [*command, *self._flags],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            out, said = self._process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self.give_up()
            raise DoctorFailedError(f"the checks took more than {LIMIT_S:.0f} s") from None
        except OSError as error:
            raise DoctorFailedError(f"the checks cannot be run: {error.strerror}") from error
        try:
            findings = json.loads(out)["findings"]
            return Report(
                tuple(Finding(f["check"], Health(f["health"]), f["text"]) for f in findings)
            )
        except (ValueError, KeyError, TypeError) as error:
            reason = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise DoctorFailedError(reason or "the checks ended without a report") from error

    def give_up(self) -> None:
        """Ends the checks if they still run."""
        with self._lock:
            self._is_given_up = True
            if self._process is not None and self._process.poll() is None:
                self._process.kill()


def setting_flags(settings: Settings) -> list[str]:
    """The flags that were given on the command line, for a program that is told the same."""
    flags: list[str] = []
    for name, item in SETTING_FIELDS.items():
        value = getattr(settings, name)
        if settings.origins.get(name) != item.flag or item.is_secret or value is None:
            continue
        if isinstance(item.default, bool):
            flags += [item.flag] if value else []
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            flags += [f"{item.flag}={text}"]
    return flags
