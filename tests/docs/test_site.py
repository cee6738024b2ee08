"""The documentation as a site: every link leads somewhere, and no page loads from elsewhere."""

from __future__ import annotations

import configparser
import plistlib
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "docs" / "deployment"


class Requests(HTMLParser):
    """What a browser loads for a page without being asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        is_link = tag == "link" and values.get("rel") not in ("canonical", "prev", "next")
        url = values.get("href") if is_link else None if tag == "a" else values.get("src")
        if url and tag in ("link", "script", "img", "iframe", "source"):
            self.urls.append(url)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="`make site` installs what builds the site")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        check=True,
        timeout=200,
    )
    return folder


def loads(folder: Path) -> Iterator[tuple[str, str]]:
    for page in folder.rglob("*.html"):
        parser = Requests()
        parser.feed(page.read_text("utf-8"))
        for url in parser.urls:
            yield page.name, url
        # The theme would fetch a program for each of these.
        if 'class="mermaid"' in page.read_text("utf-8"):
            yield page.name, "mermaid"
    for sheet in folder.rglob("*.css"):
        for url in re.findall(r"url\(([^)]*)\)", sheet.read_text("utf-8")):
            yield sheet.name, url.strip("\"'")


def test_no_page_asks_another_server_for_anything(site: Path) -> None:
    found = list(loads(site))
    assert len(found) > 100
    outside = [each for each in found if re.match(r"(https?:)?//|mermaid$", each[1])]
    assert outside == []


def test_every_page_is_in_the_contents() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert named == pages
    assert yaml.safe_load(text)["strict"] is True


def test_the_systemd_unit_is_sound() -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((DEPLOYMENT / "stoker.service").read_text("utf-8"))
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    service = unit["Service"]
    assert service["ExecStart"].endswith("/.venv/bin/stoker serve --quiet")
    assert service["ExecStartPre"].endswith("/.venv/bin/stoker selftest --quiet")
    # Status 1 is the user's error: another start would end the same way.
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "1")
    # The drain and the flush have to fit.
    assert int(service["TimeoutStopSec"]) >= 5 + 20 + 20


def test_the_launchd_agent_is_sound() -> None:
    agent = plistlib.loads((DEPLOYMENT / "dev.stoker.plist").read_bytes())
    assert agent["ProgramArguments"][1:] == ["serve", "--quiet"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["Umask"] == 0o077
    assert agent["ExitTimeOut"] >= 5 + 20 + 20
