"""An engine that calls a tool, as a large model would: the bundled one rarely does by itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from app.api.server import ApiServer
from app.api.settings import ApiSettings
from engine.commands import Generate, Shutdown
from tests.api.word_engine import Script, WordEngine, prompt_text


class CallingEngine(WordEngine):
    """Calls a tool wherever it is offered and its result is not there yet; then tells the result.

    The call is text in the words of a model, so that everything behind the engine is real: how the
    call is read from the text, how it goes out and how the client's result comes back.
    """

    def __init__(self, tool: str, arguments: dict[str, str], result: str) -> None:
        """Chooses the call.

        Args:
            tool: Name of the tool.
            arguments: What it is called with.
            result: What a result says if the tool was really run.
        """
        super().__init__()
        self._tool = tool
        self._call = json.dumps({"name": tool, "arguments": arguments})
        self._result = result

    def _admit(self, command: Generate) -> None:
        prompt = prompt_text(command.request)
        if self._result in prompt:
            self.script = Script(words=("The tool", f" said {self._result}."))
        elif f"tool {self._tool} " in prompt:
            half = len(self._call) // 2
            calls = ("<tool_call>\n", self._call[:half], self._call[half:], "\n</tool_call>")
            self.script = Script(words=("I shall look.\n", *calls))
        else:
            self.script = Script(words=("A title",))
        super()._admit(command)


@contextlib.contextmanager
def serving_calls(engine: CallingEngine) -> Iterator[str]:
    """Serves an engine; yields the address, and sees to it that all threads end."""
    engine.start()
    server = ApiServer(engine, ApiSettings(port=0))
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        assert server.join(10.0)
        engine.send(Shutdown(drain_s=0))
        assert engine.join(5.0)
        assert server.failure is None
