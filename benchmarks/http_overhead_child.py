"""One engine that can be asked straight and over HTTP, for ``http_overhead``.

Usage: ``python -m benchmarks.http_overhead_child PORT HOME MODEL MAX_WAITING``. A question has
``turns`` (agent and prompt of each, run together straight on the engine) and ``num_tokens``; every
answer has the memory of the process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil

from app.compose import build_api
from app.config import load_settings
from benchmarks.child import answer_questions
from benchmarks.engine_child import run_together, started_engine
from engine.commands import Shutdown

LIMIT_S = 60.0


def main() -> None:
    """Answers questions until its input ends."""
    port, home, model, max_waiting = sys.argv[1:]
    given: dict[str, object] = {"model": model, "port": port, "max_waiting": max_waiting}
    # An idle engine waits for company; here it would only hide what is measured.
    given |= {"batch_window_ms": "0", "kv_disk_bytes": "0"}
    engine = started_engine(given, str(Path(home)))
    api = build_api(load_settings(given), engine)
    api.start()

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        turns = [(agent, prompt) for agent, prompt in question["turns"]]
        streams = run_together(engine, turns, question["num_tokens"]) if turns else []
        return {
            "sent_s": [stream.sent_s for stream in streams],
            "pieces_s": [stream.pieces_s for stream in streams],
            "texts": [stream.text for stream in streams],
            "num_tokens": [stream.num_tokens for stream in streams],
            "num_waiting": engine.snapshot.batch.num_waiting,
            "footprint_bytes": psutil.Process().memory_info().rss,
        }

    try:
        answer_questions(answer)
    finally:
        api.stop()
        api.join(LIMIT_S)
        engine.send(Shutdown(drain_s=0.0))
        engine.join(LIMIT_S)


if __name__ == "__main__":
    main()
