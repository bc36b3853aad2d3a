"""Parts of a page: sections of sentences, tables, figures and texts to copy."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from plotly import graph_objects as go

from equiprune.evaluation.properties.comparison import number

NONE = "-"
"""A cell without a number."""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        title: sentence above it.
        rows: of cells.
        heads: of the columns, none where the first column says what a row is.
    """

    title: str
    rows: Sequence[Sequence[str]]
    heads: Sequence[str] = ()


@dataclass(frozen=True)
class Figure:
    """A figure, and what it shows in words, for those who do not see it.

    Attributes:
        name: of its element on the page.
        drawn: the figure.
        caption: sentence below it.
        numbers: of the figure, shown when asked for.
    """

    name: str
    drawn: go.Figure
    caption: str
    numbers: Table

    @property
    def choices(self) -> list[str]:
        """What may be shown in it, one at a time; the menu that plotly draws is no element that a keyboard reaches."""
        menus = self.drawn.layout.updatemenus
        return [html.unescape(button.label) for button in menus[0].buttons] if menus else []


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    title: str
    text: str


Block = str | Table | Figure | Code
"""Parts of a section; text is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: of its element, for links.
        title: of the part.
        blocks: from top to bottom.
        missing: sentence that says what would give it, where there is nothing.
    """

    name: str
    title: str
    blocks: Sequence[Block] = field(default=())
    missing: str = ""


def shown(value: float | None) -> str:
    """A number in a cell."""
    return NONE if value is None else number(value)
