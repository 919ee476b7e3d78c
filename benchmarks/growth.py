"""How something grows with the number of jobs: panels beside each other in one SVG file.

Decides the size, the colours and that every point says its value; the file needs no other. Imports
the report's charts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tunefleet.evaluate.charts import Plot, axis

_WIDTH, _HEIGHT = 340, 208
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 52, 30, 56
_STYLE = """
svg { overflow: visible; font-family: system-ui, sans-serif; }
text { font-size: 12px; fill: #57534e; }
.name { font-size: 14px; font-weight: 600; fill: #1c1917; }
.note { fill: #1c1917; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
.end { text-anchor: end; }
.mid { text-anchor: middle; }
.grid { stroke: #e7e5e4; }
.goal { stroke: #a8a29e; stroke-dasharray: 5 4; }
.line { fill: none; stroke: #2563eb; stroke-width: 2; vector-effect: non-scaling-stroke; }
.dot { fill: #2563eb; }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One value at every number of jobs, and its goal."""

    name: str
    unit: str
    values: Sequence[float]
    limit: float


def picture(counts: Sequence[int], panels: Sequence[Panel]) -> str:
    """The SVG."""
    width = len(panels) * (_LEFT + _WIDTH + _RIGHT)
    height = _TOP + _HEIGHT + _BOTTOM
    parts = [_panel(number, counts, panel) for number, panel in enumerate(panels)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def draw(folder: Path, name: str, counts: Sequence[int], panels: Sequence[Panel]) -> Path:
    """Write the SVG; where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    path.write_text(picture(counts, panels), encoding="utf-8")
    return path


def _panel(number: int, counts: Sequence[int], panel: Panel) -> str:
    points = list(zip(map(float, counts), panel.values, strict=True))
    x = axis([float(count) for count in counts], zero=True)
    y = axis([*panel.values, panel.limit], zero=True)
    plot = Plot(f"panel-{number}", x, y, height=_HEIGHT).grid(x_label="jobs")
    plot.horizontal(panel.limit, "goal", f"goal {panel.limit:g} {panel.unit}")
    plot.line(points, "").dots(points, "dot")
    for point in points:
        plot.text(point, f"{point[1]:.3g}", "note end", dy="1.6em")
    told = ", ".join(f"{count:,} jobs: {value:.3g} {panel.unit}" for count, value in points)
    left = number * (_LEFT + _WIDTH + _RIGHT) + _LEFT
    return (
        f'<text class="name" x="{left}" y="26">{escape(panel.name)}, {panel.unit}</text>'
        f'<svg x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}">'
        f"{plot.svg(panel.name, told)}</svg>"
    )
