"""Schemathesis: requests made from the committed description, replies held against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from app.api.shapes import SHAPES
from docs.generate import INTERFACE
from tests.api.conftest import Served, serving

pytestmark = pytest.mark.clients

MAX_EXAMPLES = 60
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
"""All but those that take a description for complete: ours names what is read, and unknown fields
are ignored, so a body may be as described and wrong, or other than described and understood."""
NEGATIVE = [key for key in sorted(SHAPES) if SHAPES[key].body or SHAPES[key].query]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def description() -> Any:
    return pytest.importorskip("schemathesis").openapi.from_path(INTERFACE)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*key, "POSITIVE") for key in sorted(SHAPES)] + [(*key, "NEGATIVE") for key in NEGATIVE],
)
def test_replies_are_as_described(
    served: Served, description: Any, method: str, path: str, mode: str
) -> None:
    """Requests the description allows, and requests it does not."""
    schemathesis = pytest.importorskip("schemathesis")
    registered = schemathesis.checks.CHECKS
    checks = [registered.get_one(name) for name in CHECKS]
    served.engine.reset()

    @settings(
        max_examples=MAX_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(description[path][method].as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=served.url, checks=checks, timeout=10)

    ask()
    assert served.engine.wait_for(lambda: served.engine.running == [])
