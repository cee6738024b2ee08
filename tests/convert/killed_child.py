"""Converts a model and waits in the middle, to be killed. Arguments: models and cache folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from app.model_maker import ModelMaker
from engine.models.recipe import Recipe


def main() -> None:
    def progress(share: float, text: str) -> None:
        if text.startswith("writing"):
            sys.stdout.write("writing\n")
            sys.stdout.flush()
            time.sleep(60)

    maker = ModelMaker(Path(sys.argv[1]), Path(sys.argv[2]), "Once upon a time. " * 40, progress)
    maker.convert("alpha", Recipe(8, 32), None)


if __name__ == "__main__":
    main()
