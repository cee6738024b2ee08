"""The house's walls: what may import what, and proof that a breach would be seen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "engine", "widgets")
BREACHES = [
    ("engine/errors.py", "import fastapi", "The engine knows nothing of screens or servers"),
    ("engine/errors.py", "import app.version", "The engine knows nothing of screens or servers"),
    (
        "engine/commands.py",
        "import mlx.core",
        "Only engine.runtime and engine.models import mlx and llguidance",
    ),
    (
        "engine/face.py",
        "import mlx.core",
        "Only engine.runtime and engine.models import mlx and llguidance",
    ),
    (
        "app/version.py",
        "import mlx_lm",
        "Only engine.runtime and engine.models import mlx and llguidance",
    ),
    (
        "engine/core.py",
        "import llguidance",
        "Only engine.runtime and engine.models import mlx and llguidance",
    ),
    ("engine/scheduler.py", "import time", "The scheduler and the cache are pure"),
    ("engine/cache/__init__.py", "import numpy", "The scheduler and the cache are pure"),
    ("engine/cache/disk/tier.py", "import numpy", "The scheduler and the cache are pure"),
    ("engine/cache/disk/tier.py", "import engine.runtime", "The scheduler and the cache are pure"),
    (
        "engine/cache/pool.py",
        "import engine.cache.disk.tier",
        "The pure rooms of the cache know nothing of the disk",
    ),
    ("widgets/__init__.py", "import engine.errors", "Widgets see only snapshots"),
    ("widgets/__init__.py", "import engine.face", "Widgets see only snapshots"),
    ("widgets/__init__.py", "import app.version", "Widgets see only snapshots"),
]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs import-linter over the packages in a folder."""
    program = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def copy_of_the_house(tmp_path: Path) -> Path:
    """The packages and their contracts, free to be broken."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    run = lint_imports(ROOT)

    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(("file", "breach", "contract"), BREACHES)
def test_forbidden_import_is_caught(
    copy_of_the_house: Path, file: str, breach: str, contract: str
) -> None:
    path = copy_of_the_house / file
    path.write_text(path.read_text() + f"\n{breach}\n")

    run = lint_imports(copy_of_the_house)

    assert run.returncode == 1
    assert f"{contract} BROKEN" in " ".join(run.stdout.split())
