"""The page: sections become one HTML file that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from equiprune.report.parts import Code, Figure, Section, Table

_HERE = "equiprune.report"


def page(title: str, parts: Sequence[Section]) -> str:
    """HTML of sections; everything that comes from files is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.tests |= {name.__name__.lower(): _is(name) for name in (Table, Figure, Code)}
    environment.filters["figure_json"] = _figure_json
    shown = [part for part in parts if part.blocks]
    return environment.from_string(_text("page.html.j2")).render(
        title=title,
        sections=shown,
        missing=[part for part in parts if not part.blocks],
        has_figures=any(isinstance(block, Figure) for part in shown for block in part.blocks),
        style=_text("page.css"),
        script=_text("page.js"),
        plotly=get_plotlyjs(),
    )


def _is(kind: type) -> Any:
    return lambda block: isinstance(block, kind)


def _figure_json(figure: Figure) -> str:
    """A figure as JSON that may stand in a script element: nothing in it ends the element."""
    text = json.dumps(json.loads(figure.drawn.to_json()), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(name: str) -> str:
    return files(_HERE).joinpath(name).read_text(encoding="utf-8")
