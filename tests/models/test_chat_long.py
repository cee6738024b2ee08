"""Long prompts, and many at once: encoded as a whole, while other threads run."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from engine.messages import Message, Role
from engine.models.chat import ModelChat


@pytest.fixture(scope="session")
def plain_tokenizer(bundled_model_dir: Path) -> Tokenizer:
    """The tokenizer alone, to say what encoding a whole text gives."""
    return Tokenizer.from_file(str(bundled_model_dir / "tokenizer.json"))


def message(role: str, text: str) -> Message:
    return Message(role=Role(role), text=text)


def tokens(chat: ModelChat, messages: list[Message]) -> tuple[int, ...]:
    return chat.render_chat(messages).token_ids


def chatml(*turns: tuple[str, str]) -> str:
    """The prompt that the bundled model's template must give."""
    body = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return f"{body}<|im_start|>assistant\n"


def long_prompt(num_chars: int) -> str:
    lines = (f"def step_{n}(x: int) -> int:  # line {n} of many\n" for n in range(num_chars))
    text = ""
    while len(text) < num_chars:
        text += next(lines)
    return text


def test_long_prompt_is_encoded_as_a_whole(
    bundled_chat: ModelChat, plain_tokenizer: Tokenizer
) -> None:
    text = long_prompt(50_000)
    ids = tokens(bundled_chat, [message("system", "S"), message("user", text)])
    whole = chatml(("system", "S"), ("user", text))
    assert list(ids) == plain_tokenizer.encode(whole, add_special_tokens=False).ids


def test_encoding_lets_other_threads_run(bundled_chat: ModelChat) -> None:
    messages = [message("user", long_prompt(1_000_000))]
    worker = threading.Thread(target=bundled_chat.render_chat, args=(messages,))
    longest_pause_s = 0.0
    worker.start()
    began_s = last_s = time.perf_counter()
    while worker.is_alive():
        now_s = time.perf_counter()
        longest_pause_s = max(longest_pause_s, now_s - last_s)
        last_s = now_s
    worker.join()

    assert longest_pause_s < 0.5 * (last_s - began_s)


def test_threads_may_share_it(bundled_chat: ModelChat) -> None:
    conversations = [
        [message("user", f"{n} " * 50 + ("<|im_end|>" if n % 2 else ""))] for n in range(8)
    ]
    expected = [tokens(bundled_chat, messages) for messages in conversations]
    wrong: list[int] = []

    def render(n: int) -> None:
        for _ in range(50):
            wrong.extend([n] * (tokens(bundled_chat, conversations[n]) != expected[n]))

    threads = [threading.Thread(target=render, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
