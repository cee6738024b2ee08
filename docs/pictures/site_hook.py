"""Takes the pictures into the site: pages name them where they lie, beside the folder of pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"


def on_files(files: Files, config: Any) -> Files:
    """Adds the pictures to what the site is made of."""
    for picture in sorted(SCREENSHOTS.glob("*.png")):
        name = f"{SCREENSHOTS.name}/{picture.name}"
        files.append(File(name, str(SCREENSHOTS.parent), config.site_dir, use_directory_urls=False))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lets a page's pictures be found in the site as they are in the repository."""
    return markdown.replace("](../screenshots/", "](screenshots/")
