"""Wheel and sdist as somebody gets them: built in isolation from the tree, installed, and run."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("app", "engine", "widgets", "styles")
pytestmark = [pytest.mark.package, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both archives; the wheel is built from the sdist, as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return folder


def only(folder: Path, pattern: str) -> Path:
    (file,) = folder.glob(pattern)
    return file


def tracked(*places: str) -> set[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", *places], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(listing.stdout.split("\0")) - {""}


def test_the_wheel_has_every_file_of_the_program_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = [name for name in wheel.namelist() if ".dist-info/" in name]
    assert names == tracked(*SOURCES)
    assert any(name.startswith("engine/runtime/native/") and name.endswith(".c") for name in names)
    assert any(name.endswith(".tcss") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    assert any(name.endswith("licenses/NOTICE") for name in metadata)


def test_the_sdist_has_what_is_needed_to_test_it(dist: Path) -> None:
    with tarfile.open(only(dist, "*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert tracked(*SOURCES, "tests", "Makefile", "requirements.lock") <= names
    assert not [name for name in names if "__pycache__" in name or ".venv" in name]


def test_the_wheel_installs_into_an_empty_environment_and_runs(
    dist: Path, tmp_path: Path, bundled_models_dir: Path
) -> None:
    """What the lock file names is there already: it is lent, so that nothing has to be fetched."""
    environment, home = tmp_path / "venv", tmp_path / "home"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(only(dist, "*.whl"))], check=True, timeout=300)
    site = next((environment / "lib").glob("python*/site-packages"))
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (site / "lent.pth").write_text("\n".join(lent) + "\n", "utf-8")
    home.mkdir()
    (home / "models").symlink_to(bundled_models_dir)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def stoker(*words: str) -> str:
        run = subprocess.run(
            [str(environment / "bin" / "stoker"), *words],
            env={**clean, "STOKER_HOME": str(home)},
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return run.stdout

    assert stoker("--version").startswith("stoker ")
    where = subprocess.run(
        [str(python), "-c", "import engine, app; print(engine.__path__, app.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert where.stdout.count(str(site)) == 2
    assert "ok   decode" in stoker("selftest")
