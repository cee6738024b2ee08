"""``stoker generate``: one prompt, one answer, no server."""

from __future__ import annotations

import json
import queue
import sys
import time

from app.compose import JOIN_S, POLL_S, build_engine
from app.config import Settings
from app.logs import printable
from app.paths import find_paths
from app.speech import printable_lines
from engine.commands import Generate, Shutdown
from engine.engine import Engine
from engine.errors import EngineFailedError, StokerError
from engine.messages import Message, Role
from engine.request import Delta, Request, SamplingParams


def run_generate(
    settings: Settings, prompt: str, sampling: SamplingParams, *, as_json: bool, quiet: bool
) -> int:
    """Answers one prompt on standard output.

    Args:
        settings: The user's settings.
        prompt: What to ask.
        sampling: How to choose tokens.
        as_json: Print one JSON object with text and usage instead of text as it comes.
        quiet: No progress on standard error.

    Returns:
        The exit code.

    Raises:
        StokerError: The model cannot be loaded, or the prompt cannot be served.
    """
    engine = build_engine(settings, find_paths(), keeps_caches=False)
    engine.start()
    try:
        _await_model(engine, show=not quiet and sys.stderr.isatty())
        deltas = _submit(engine, prompt, sampling)
        last, text = _receive(deltas, show=not as_json)
    finally:
        engine.send(Shutdown(drain_s=0.0))
        engine.join(JOIN_S)
    if as_json:
        print(json.dumps(_as_data(last, text, engine.snapshot.model)))
    return 0


def _await_model(engine: Engine, *, show: bool) -> None:
    while engine.chat_format is None:
        snapshot = engine.snapshot
        if engine.join(POLL_S):
            raise EngineFailedError(engine.snapshot.status_text)
        if show:
            sys.stderr.write(f"\r\x1b[K{snapshot.progress:4.0%} {printable(snapshot.status_text)}")
            sys.stderr.flush()
    if show:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _submit(engine: Engine, prompt: str, sampling: SamplingParams) -> queue.SimpleQueue[Delta]:
    chat = engine.chat_format
    if chat is None:
        raise EngineFailedError(engine.snapshot.status_text)
    rendered = chat.render_chat([Message(role=Role.USER, text=prompt)])
    deltas: queue.SimpleQueue[Delta] = queue.SimpleQueue()
    command = Generate(
        request=Request(
            request_id=f"generate-{time.time_ns()}",
            agent_id="generate",
            prompt_token_ids=rendered.token_ids,
            parts=rendered.parts,
            sampling=sampling,
        ),
        sink=deltas.put,
    )
    engine.send(command)
    command.admitted.result()
    return deltas


def _receive(deltas: queue.SimpleQueue[Delta], *, show: bool) -> tuple[Delta, str]:
    pieces: list[str] = []
    is_terminal = sys.stdout.isatty()
    while True:
        delta = deltas.get()
        pieces.append(delta.text)
        if show:
            sys.stdout.write(printable_lines(delta.text) if is_terminal else delta.text)
            sys.stdout.flush()
        if delta.finish_reason is not None:
            break
    if show:
        sys.stdout.write("\n")
    if isinstance(delta.error, StokerError):
        raise delta.error
    return delta, "".join(pieces)


def _as_data(last: Delta, text: str, model: str) -> dict[str, object]:
    usage = last.usage
    return {
        "model": model,
        "text": text,
        "finish_reason": last.finish_reason,
        "usage": {
            "prompt_tokens": usage.num_prompt_tokens,
            "cached_tokens": usage.num_cached_tokens,
            "generated_tokens": usage.num_generated_tokens,
            "ttft_s": usage.ttft_s,
        },
    }
