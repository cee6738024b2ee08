"""An engine on the real model in a small process, and something else that grows beside it.

Run as a program: it plays a story and prints what came of it as JSON; with a limit of 0 it only
says how much it takes before its first turn. Linux only.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from engine.commands import Generate, Shutdown
from engine.engine import Engine
from engine.errors import OverloadedError
from engine.messages import Message, Role
from engine.models.catalog import find_model
from engine.request import Delta, Request, SamplingParams
from engine.settings import DiskSettings, EngineSettings

SPARE_BYTES = 24 << 20
"""What the ballast leaves of the limit at last: for the libraries' own coming and going."""
NUM_AGENTS = 6
BALLAST_STEPS = 5
SETTLE_S = 10.0


@dataclasses.dataclass
class Story:
    """What was seen.

    Attributes:
        base_bytes: The process before its first turn.
        peak_bytes: The most it ever had after that.
        full_bytes: With every agent's cache in memory, before anything else grew.
        squeezed_bytes: When what grew beside the engine was there.
        num_hot_before: Agents with a cache in memory before.
        num_hot_after: And when something else had taken the room.
        refused_after_s: What was promised to a turn for which there was no memory.
        answers: First answers of all agents, and their answers to the same at the end.
        events: What the engine said.
    """

    base_bytes: int = 0
    peak_bytes: int = 0
    full_bytes: int = 0
    squeezed_bytes: int = 0
    num_hot_before: int = 0
    num_hot_after: int = 0
    refused_after_s: float = 0.0
    answers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    events: list[str] = dataclasses.field(default_factory=list)


def footprint() -> int:
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


class Player:
    """Asks an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._number = 0

    def submit(self, agent: str, text: str) -> tuple[Generate, list[Delta]]:
        chat = self._engine.chat_format
        assert chat is not None
        self._number += 1
        deltas: list[Delta] = []
        request = Request(
            request_id=f"turn-{self._number}",
            agent_id=agent,
            prompt_token_ids=chat.render_chat([Message(role=Role.USER, text=text)]).token_ids,
            sampling=SamplingParams(max_tokens=8),
        )
        command = Generate(request=request, sink=deltas.append)
        self._engine.send(command)
        return command, deltas

    def ask(self, agent: str, text: str) -> str:
        command, deltas = self.submit(agent, text)
        command.admitted.result(60)
        while not (deltas and deltas[-1].finish_reason):
            time.sleep(0.01)
        error = deltas[-1].error
        if error is not None:
            raise error
        return "".join(delta.text for delta in deltas)

    def num_hot(self, at_most: int = NUM_AGENTS) -> int:
        """Agents with a cache in memory, once they are few enough or did not become so."""
        deadline = time.monotonic() + SETTLE_S
        time.sleep(0.3)
        while True:
            num_hot = sum(row.hot_bytes > 0 for row in self._engine.snapshot.agents)
            if num_hot <= at_most or time.monotonic() > deadline:
                return num_hot
            time.sleep(0.1)


def question(number: int) -> str:
    return f"Story {number}. " + f"Number {number} went up the hill to fetch some water. " * 45


def play(models_dir: Path, home: Path, limit_bytes: int, budget_bytes: int) -> Story:
    """Starts an engine and plays the story."""
    story = Story()
    engine = Engine(
        EngineSettings(
            find_model=lambda progress: find_model("bundled", models_dir, progress),
            cache_dir=home / "cache",
            memory_limit_bytes=limit_bytes,
            kv_budget_bytes=budget_bytes,
            disk=DiskSettings(folder=home / "data", budget_bytes=1 << 30),
        )
    )
    engine.start()
    while engine.chat_format is None:
        assert engine.snapshot.status != "failed", engine.snapshot.status_text
        time.sleep(0.05)
    player = Player(engine)
    Path("/proc/self/clear_refs").write_text("5")
    story.base_bytes = footprint()
    if limit_bytes:
        tell(story, player, engine, limit_bytes)
    engine.send(Shutdown(drain_s=0.0))
    assert engine.join(60)
    return story


def tell(story: Story, player: Player, engine: Engine, limit_bytes: int) -> None:
    """Agents fill the cache, something else grows until nothing is left, and goes away again."""
    first = [player.ask(f"agent-{i}", question(i)) for i in range(NUM_AGENTS)]
    story.full_bytes, story.num_hot_before = footprint(), player.num_hot()

    room_bytes = limit_bytes - story.full_bytes
    ballast = []
    for step in range(BALLAST_STEPS):
        ballast.append(np.ones(room_bytes // BALLAST_STEPS // 8 + 1))
        player.ask("walker", f"Step {step}.")
    story.squeezed_bytes, story.num_hot_after = footprint(), player.num_hot(NUM_AGENTS // 2)
    ballast.append(np.ones(max(8, limit_bytes - footprint() - SPARE_BYTES) // 8))
    command, _ = player.submit("giant", "word " * 3000)
    refusal = command.admitted.exception(60)
    if isinstance(refusal, OverloadedError):
        story.refused_after_s = refusal.retry_after_s
    ballast.clear()
    time.sleep(0.5)
    again = [player.ask(f"agent-{i}", question(i)) for i in range(NUM_AGENTS)]
    story.answers = list(zip(first, again, strict=True))
    story.peak_bytes = peak()
    story.events = [f"{event.kind}: {event.text}" for event in engine.snapshot.events]


def main() -> None:
    models_dir, home, limit_bytes, budget_bytes = sys.argv[1:]
    story: Any = play(Path(models_dir), Path(home), int(limit_bytes), int(budget_bytes))
    sys.stdout.write(json.dumps(dataclasses.asdict(story)) + "\n")


if __name__ == "__main__":
    main()
