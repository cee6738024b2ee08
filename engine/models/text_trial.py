"""Whether a model's tokenizer and chat template do their work, found by trying them.

Templates come from anywhere. They are rendered in Jinja's sandbox, as for every turn, and one that
does not come to an end is left alone after a while.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelLoadError

TRIAL_S = 5.0
_MAX_TOKENIZER_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class TextTrial:
    """What was found.

    Attributes:
        refusal: Why the model cannot be loaded; empty if nothing speaks against it.
        warning: What it cannot do although it can be loaded; empty if nothing was found.
    """

    refusal: str = ""
    warning: str = ""


def try_text(folder: Path, root: Path | None = None, limit_s: float = TRIAL_S) -> TextTrial:
    """Reads the tokenizer of a model folder and renders a short conversation.

    Args:
        folder: The folder.
        root: Where its links must stay, itself resolved; None where they may lead anywhere.
        limit_s: Seconds that it may take.
    """
    found: list[TextTrial] = []
    # A daemon: a template that loops for ever must not keep the program from ending.
    thread = threading.Thread(
        target=lambda: found.append(_trial(folder, root)), name="stoker-text-trial", daemon=True
    )
    thread.start()
    thread.join(limit_s)
    slow = f"its tokenizer and chat template took longer than {limit_s:g} s to try"
    return found[0] if found else TextTrial(warning=slow)


def _trial(folder: Path, root: Path | None) -> TextTrial:
    from engine.models.plain_files import open_plain
    from engine.models.text_files import read_json, read_template

    try:
        with open_plain(folder / "tokenizer.json", root) as file:
            _check_tokenizer(file.read(_MAX_TOKENIZER_BYTES))
        template = read_template(folder, read_json(folder / "tokenizer_config.json", optional=True))
    except (ModelLoadError, OSError) as error:
        return TextTrial(refusal=str(error))
    if template is None:
        return TextTrial(warning="it has no chat template: only raw completions work")
    refused = template.why_refused
    return TextTrial(warning=f"{refused}: only raw completions work" if refused else "")


def _check_tokenizer(content: bytes) -> None:
    from engine.models.codec import TextCodec

    try:
        TextCodec(content)
    except ValueError as error:
        raise ModelLoadError(f"tokenizer.json is not a tokenizer: {error}") from error
