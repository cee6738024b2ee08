"""A program on a pseudo-terminal: its output is read all the time, keys are sent to it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SLOW_READ_S = 0.05


class Terminal:
    """A child process whose terminal is ours."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        columns: int = 120,
        rows: int = 40,
        *,
        num_bytes_s: int | None = None,
    ) -> None:
        """Starts the program.

        Args:
            command: What to run.
            environment: Added to our own.
            columns: Width of the terminal in cells.
            rows: Height of the terminal in cells.
            num_bytes_s: What the terminal takes in a second; None takes everything at once.
        """
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._num_bytes_s = num_bytes_s
        self._output = bytearray()
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> bytes:
        """Everything drawn so far."""
        return bytes(self._output)

    @property
    def pid(self) -> int:
        """The program's process."""
        return self._process.pid

    def _read(self) -> None:
        num_bytes_s = self._num_bytes_s
        most = int(num_bytes_s * SLOW_READ_S) if num_bytes_s else 65536
        while True:
            if num_bytes_s:
                time.sleep(SLOW_READ_S)
            try:
                chunk = os.read(self._ours, most)
            except OSError:
                chunk = b""
            with self._changed:
                self._output += chunk
                self._changed.notify_all()
            if not chunk:
                return

    def press(self, key: str, expected: str, limit_s: float = 10.0) -> float:
        """Presses a key and waits until text appears that was not drawn before.

        Returns:
            Seconds from the key to the text.

        Raises:
            TimeoutError: The text did not come.
        """
        start = len(self._output)
        began_s = time.perf_counter()
        self.type(key)
        self._await(expected, start, limit_s)
        return time.perf_counter() - began_s

    def type(self, keys: str) -> None:
        """Presses keys without looking at what comes of them."""
        os.write(self._ours, keys.encode())

    def wait_for(self, expected: str, limit_s: float) -> None:
        """Waits until text has been drawn at least once."""
        self._await(expected, 0, limit_s)

    def _await(self, expected: str, start: int, limit_s: float) -> None:
        wanted = expected.encode()
        deadline_s = time.monotonic() + limit_s
        with self._changed:
            while wanted not in self._output[start:]:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self._process.poll() is not None:
                    raise TimeoutError(f"{expected!r} was not drawn")
                self._changed.wait(min(left_s, 0.2))

    def kill(self) -> None:
        """Ends the program at once, without a chance to write anything."""
        self._process.kill()
        self._process.wait(10)

    def hang_up(self, limit_s: float = 30.0) -> int:
        """Closes the terminal under the program.

        Returns:
            Its exit code.

        Raises:
            TimeoutError: It did not end.
        """
        os.close(self._ours)
        return self._ended(limit_s)

    def ask_to_end(self, number: int, limit_s: float = 30.0) -> int:
        """Sends a signal and waits for the end.

        Returns:
            Its exit code.
        """
        self._process.send_signal(number)
        return self._ended(limit_s)

    def _ended(self, limit_s: float) -> int:
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            raise TimeoutError("the program did not end") from None

    def close(self, keys: str, limit_s: float = 30.0) -> int:
        """Presses the keys that end the program.

        Returns:
            Its exit code.
        """
        self.type(keys)
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(10)
