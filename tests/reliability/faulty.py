"""A Stoker whose device goes away while it decodes after a long prompt."""

from __future__ import annotations

FAULTY = """
import sys
from engine.runtime.runner import ModelRunner

decode, steps = ModelRunner.decode, iter(range(1_000_000))

def decode_for_a_while(runner, rows):
    # The self-test at load decodes too.
    if any(len(row.token_ids) > 600 for row in rows) and next(steps) > 5:
        raise RuntimeError("the device is gone")
    return decode(runner, rows)

ModelRunner.decode = decode_for_a_while
from app.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The program."""

LONG_PROMPT = "Tell me a story. " * 200
"""A prompt whose reply it does not live through, if that has more than six tokens."""
