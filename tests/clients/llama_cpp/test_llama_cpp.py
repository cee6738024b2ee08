"""llama.cpp's tests of its server, as they are, with Stoker in its place.

The sources come from the source package of ``llama-cpp-python``, which ``make test-clients``
fetches; none of them is kept here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.real_server import real_server

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parent.parent.parent.parent
FOLDER = "vendor/llama.cpp/tools/server/tests/"
KEY = "sk-this-is-the-secret-key"
"""The key that their tests send."""
LIMIT_S = 280


@pytest.fixture(scope="session")
def their_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their tests, unpacked."""
    archives = sorted((ROOT / ".test-clients").glob("llama_cpp_python-*.tar.gz"))
    if not archives:
        pytest.fail("their sources are not here: run `make test-clients`")
    folder = tmp_path_factory.mktemp("llama_cpp")
    with tarfile.open(archives[-1]) as archive:
        members = [member for member in archive if f"/{FOLDER}" in member.name]
        archive.extractall(folder, members, filter="data")
    [package] = folder.iterdir()
    return package / FOLDER


@pytest.fixture
def home(bundled_models_dir: Path, tmp_path: Path) -> Path:
    (tmp_path / "models").symlink_to(bundled_models_dir)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("test_compat_anthropic", {}),
        ("test_compat_oai_responses", {}),
        ("test_chat_completion", {}),
        ("test_tool_call", {}),
        ("test_security", {"API_KEY": KEY}),
    ],
)
def test_every_case_that_is_run_passes(
    name: str, settings: dict[str, str], their_tests: Path, home: Path
) -> None:
    with real_server(home, **settings) as server:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-rs", "--tb=line", "--show-capture=no"),
                *("-p", "tests.clients.llama_cpp.plugin", "-p", "no:cacheprovider"),
                *("-m", "not slow", "--timeout=60", f"unit/{name}.py"),
            ],
            cwd=their_tests,
            env={
                **os.environ,
                "DEBUG_EXTERNAL": "1",
                "PORT": str(server.http.base_url.port),
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
