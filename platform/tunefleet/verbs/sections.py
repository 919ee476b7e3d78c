"""Tables that are shown the same on a terminal and in a notebook.

Decides how a result is laid out: titled sections of rows, the first column a name. Imports
the standard library; rich inside the function.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table. ``numbers`` are the columns that are aligned to the right."""

    title: str
    rows: Sequence[tuple[str, ...]]
    heads: tuple[str, ...] = ()
    numbers: frozenset[int] = frozenset()
    styles: tuple[str, ...] = ()


def render(sections: Sequence[Section], console: Console) -> None:
    """Print sections; cells wrap, nothing is cut off."""
    from rich.table import Table
    from rich.text import Text

    for section in sections:
        console.print(Text(section.title, style="bold"))
        table = Table(
            box=None, padding=(0, 2, 0, 0), show_header=bool(section.heads), header_style="dim"
        )
        width = max((len(row) for row in section.rows), default=0)
        for at in range(width):
            table.add_column(
                section.heads[at] if at < len(section.heads) else "",
                justify="right" if at in section.numbers else "left",
                overflow="fold",
                ratio=None,
            )
        for at, row in enumerate(section.rows):
            style = section.styles[at] if at < len(section.styles) else ""
            table.add_row(
                *(Text(cell, style=style if i == 0 else "") for i, cell in enumerate(row))
            )
        console.print(table)
        console.print()


def to_html(heading: str, sections: Sequence[Section]) -> str:
    """The same as HTML for a notebook."""
    parts = [f"<div><h3>{html.escape(heading)}</h3>"]
    for section in sections:
        parts.append(f"<h4>{html.escape(section.title)}</h4><table>")
        if section.heads:
            cells = "".join(f"<th>{html.escape(head)}</th>" for head in section.heads)
            parts.append(f"<thead><tr>{cells}</tr></thead>")
        parts.append("<tbody>")
        for row in section.rows:
            cells = "".join(_cell(cell, at in section.numbers) for at, cell in enumerate(row))
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</tbody></table>")
    return "".join([*parts, "</div>"])


def _cell(text: str, number: bool) -> str:
    side = "right" if number else "left"
    return f'<td style="text-align:{side};vertical-align:top">{html.escape(text)}</td>'
