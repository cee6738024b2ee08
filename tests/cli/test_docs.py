from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from docs.generate import (
    DASHBOARD,
    INTERFACE,
    MONITORING,
    PAGE,
    REFERENCE,
    interface,
    reference,
    with_actions,
    with_metrics,
    with_table,
)

ROOT = Path(__file__).parent.parent.parent


def test_settings_page_is_what_the_code_says() -> None:
    page = PAGE.read_text("utf-8")

    assert with_table(page) == page, "run `make docs`"
    assert "kv_budget_bytes" in page


def test_dashboard_page_is_what_the_registry_says() -> None:
    page = DASHBOARD.read_text("utf-8")

    assert with_actions(page) == page, "run `make docs`"
    assert "| `E` | Evict all idle agents |" in page


def test_interface_is_what_the_code_says() -> None:
    assert INTERFACE.read_text("utf-8") == interface(), "run `make docs`"


def test_reference_and_metrics_are_what_the_code_says() -> None:
    page = MONITORING.read_text("utf-8")

    assert REFERENCE.read_text("utf-8") == reference(INTERFACE.read_text("utf-8"))
    assert with_metrics(page) == page, "run `make docs`"
    assert "`stoker_evicted_blocks_total` | counter | `tier`" in page


def test_every_command_is_in_the_command_line_page() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "app.cli", "--help"], capture_output=True, text=True, check=True
    )
    listed = re.search(r"commands:\n  command\n(.*?)\n\n", run.stdout, re.DOTALL)
    assert listed is not None
    commands = re.findall(r"^    (\w+) ", listed.group(1), re.MULTILINE)
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")

    assert len(commands) >= 5
    for command in commands:
        assert f"`stoker {command}" in page


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
