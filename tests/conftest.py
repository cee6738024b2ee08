"""What every test may rely on: the real bundled model, and no trace of the user's own set-up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.models import bundled


@pytest.fixture(autouse=True)
def stoker_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no ``STOKER_*`` setting of the developer's in the environment."""
    for name in list(os.environ):
        if name.startswith("STOKER_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("stoker-home")
    monkeypatch.setenv("STOKER_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def bundled_models_dir(pytestconfig: pytest.Config) -> Path:
    """A models folder that holds the converted bundled model, kept between test runs."""
    models_dir = pytestconfig.rootpath / ".test-models"
    bundled.ensure(models_dir, lambda _share, _text: None)
    return models_dir


@pytest.fixture(scope="session")
def bundled_model_dir(bundled_models_dir: Path) -> Path:
    """The converted bundled model: a folder that ``mlx_lm`` loads."""
    return bundled.bundled_folder(bundled_models_dir)
