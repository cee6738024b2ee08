"""A pytest plugin for llama.cpp's tests: where Stoker's routes are, and which cases are not run."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

import openai
import pytest

from tests.clients.llama_cpp.skipped import OTHER_WORDS, SKIPPED

ALIASES = ("/chat/completions", "/completions", "/responses")
"""What llama.cpp offers without the version in front as well."""
NUM_REPLY_TOKENS = 8

# They import it for downloads that nothing here asks for.
sys.modules.setdefault("wget", ModuleType("wget"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is not run.

    Raises:
        UsageError: A table names a case that is not there.
    """
    import utils  # type: ignore[import-not-found]

    _teach_paths(utils.ServerProcess)
    files = {_name(item).partition("::")[0] for item in items}
    unused = {name for name in (*SKIPPED, *OTHER_WORDS) if name.partition("::")[0] in files}
    for item in items:
        meant = {name for name in (*SKIPPED, *OTHER_WORDS) if _is_meant(item, name)}
        unused -= meant
        for name in meant & SKIPPED.keys():
            item.add_marker(pytest.mark.skip(reason=SKIPPED[name]))
    if unused:
        raise pytest.UsageError(f"no such cases: {sorted(unused)}")


def pytest_runtest_setup(item: pytest.Function) -> None:
    """Gives a case the client and the measure of words that it is to have."""
    module: Any = item.module
    if hasattr(module, "OpenAI"):
        module.OpenAI = _openai_client
    if any(_is_meant(item, name) for name in OTHER_WORDS):
        module.match_regex = lambda _pattern, text: bool(text)


def _teach_paths(process: Any) -> None:
    make_url = process.make_url

    def with_version(self: Any, path: str, host: str | None = None) -> str:
        url: str = make_url(self, f"/v1{path}" if path.startswith(ALIASES) else path, host)
        return url

    process.make_url = with_version


def _openai_client(*, base_url: str, **rest: Any) -> openai.OpenAI:
    client = openai.OpenAI(base_url=f"{base_url.removesuffix('/v1')}/v1", **rest)
    completions: Any = client.chat.completions
    # Some ask without a limit, and rely on one that their server was started with.
    completions.create = functools.partial(completions.create, max_tokens=NUM_REPLY_TOKENS)
    return client


def _name(item: pytest.Item) -> str:
    return item.nodeid.removeprefix("unit/")


def _is_meant(item: pytest.Item, name: str) -> bool:
    case = _name(item)
    return case.startswith(name) if "[" in name else case.partition("[")[0] == name
