"""Every setting, its value and where it came from."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from app.config_show import SettingRow
from app.dashboard.screens.page import PageScreen
from styles.tokens import BRAND, BRIGHT, DIM, MUTED, PLAIN, Glyphs
from widgets.format import clean, fit

GAP_CELLS = 2


class SettingsScreen(PageScreen):
    """The settings of this process; those that somebody chose stand out.

    Args:
        rows: The settings.
        folders: Names and paths of the folders.
        glyphs: Marks to draw with.
    """

    PAGE_TITLE = "settings: what this Stoker was told, and by whom"

    def __init__(
        self, rows: Sequence[SettingRow], folders: Sequence[tuple[str, str]], glyphs: Glyphs
    ) -> None:
        super().__init__(glyphs)
        self._rows = rows
        self._folders = folders

    def draw(self, width: int) -> list[Content]:
        """Settings, then folders."""
        name_cells = max(len(row.name) for row in self._rows) + GAP_CELLS
        value_cells = max(8, min(40, (width - name_cells) // 2 - GAP_CELLS))
        origin_cells = max(8, width - name_cells - value_cells - GAP_CELLS)
        heads = f"{'setting':<{name_cells}}{'value':<{value_cells}}  from"
        lines = [Content.styled(heads, MUTED)]
        lines += [
            Content.assemble(
                (f"{row.name:<{name_cells}}", PLAIN if row.is_default else BRAND),
                (fit(row.value, value_cells, self._glyphs.ellipsis), self._role(row)),
                "  ",
                (fit(row.origin, origin_cells, self._glyphs.ellipsis), self._role(row)),
            )
            for row in self._rows
        ]
        lines += [Content(""), Content.styled("folders", MUTED)]
        for name, path in self._folders:
            pieces = Content.styled(clean(path), PLAIN).wrap(max(8, width - name_cells))
            heads_of = [name, *[""] * (len(pieces) - 1)]
            lines += [
                Content.assemble((f"{head:<{name_cells}}", MUTED), piece)
                for head, piece in zip(heads_of, pieces, strict=True)
            ]
        return lines

    def _role(self, row: SettingRow) -> str:
        return DIM if row.is_default else BRIGHT
