"""Small charts as inline SVG: axes, lines, dots, bars.

Decides how a chart is built: positions in per cent of the plot, so that it fills any width
while text keeps its size; curves in a nested, stretched view with strokes that do not scale.
Colours are classes, so themes live in the style sheet. Every text is escaped here. Imports
markupsafe (a part of jinja2) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale with its ticks. ``write`` turns a tick into text."""

    low: float
    high: float
    ticks: tuple[float, ...]
    write: Callable[[float], str]

    def share(self, value: float) -> float:
        """Where a value stands between low (0) and high (1)."""
        return (value - self.low) / (self.high - self.low)


def axis(
    values: Sequence[float],
    *,
    ticks: int = 5,
    zero: bool = False,
    tight: bool = False,
    write: Callable[[float], str] | None = None,
) -> Axis:
    """A scale around the values, ends on round numbers unless ``tight``."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    if high - low < 1e-12 * max(1.0, abs(high)):
        spread = abs(high) * 0.1 or 1.0
        low, high = (low, high + spread) if zero or tight else (low - spread, high + spread)
    step = round_step((high - low) / ticks)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if not tight:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        low, high = first * step, last * step
    marks = tuple(i * step for i in range(first, last + 1))
    return Axis(low, high, marks, write or _writer(step))


def round_step(raw: float) -> float:
    """The next step of 1, 2, 2.5 or 5 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(raw))
    return next(unit * part for part in (1, 2, 2.5, 5, 10) if unit * part >= raw * 0.999)


def _writer(step: float) -> Callable[[float], str]:
    digits = max(0, min(6, math.ceil(-math.log10(step) - 1e-9)))
    if abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
        digits += 1
    if step < 1e-4:
        return lambda value: f"{value:.3g}".replace("e-0", "e-")
    return lambda value: f"{value + 0.0:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


class Plot:
    """One chart being drawn; ``svg()`` gives the picture with its title and description."""

    def __init__(self, name: str, x: Axis, y: Axis, *, height: int = 208) -> None:
        self._name, self.x, self.y, self._height = name, x, y, height
        self._parts: list[str] = []

    def grid(self, *, x_label: str = "", x_lines: bool = False) -> Plot:
        """Tick labels, horizontal grid lines, and vertical ones where they help."""
        for tick in self.y.ticks:
            self._across(self._y(tick), "grid")
            self._add(
                "text", self.y.write(tick), css="tick end", x=0, dx=-8, y=self._y(tick), dy=".33em"
            )
        for tick in self.x.ticks:
            if x_lines:
                self._upright(self._x(tick), "grid")
            self._add(
                "text", self.x.write(tick), css="tick mid", x=self._x(tick), y="100%", dy="1.5em"
            )
        if x_label:
            self._add("text", x_label, css="axis end", x="100%", y="100%", dy="2.9em")
        return self

    def vertical(self, value: float, css: str, label: str = "") -> Plot:
        """A vertical line over the whole height, with a label at its top."""
        self._upright(self._x(value), css)
        if label:
            self._add("text", label, css="note", x=self._x(value), dx=5, y=0, dy=".9em")
        return self

    def tick(self, value: float, css: str) -> Plot:
        """A short vertical mark that stands on the lower edge."""
        self._upright(self._x(value), css, top="93%")
        return self

    def horizontal(self, value: float, css: str, label: str) -> Plot:
        """A horizontal line over the whole width, with a label at its right end."""
        self._across(self._y(value), css)
        self._add("text", label, css="note end", x="100%", y=self._y(value), dy="-.4em")
        return self

    def line(self, points: Sequence[Point], css: str) -> Plot:
        """A curve through the points, clipped to the plot."""
        if len(points) < 2:
            return self.dots(points, f"dot {css}") if points else self
        steps = [
            f"{self.x.share(x) * 1000:.1f} {1000 - self.y.share(y) * 1000:.1f}" for x, y in points
        ]
        self._parts.append(
            '<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">'
            + _element("path", css=f"line {css}", d="M" + "L".join(steps))
            + "</svg>"
        )
        return self

    def dots(self, points: Sequence[Point], css: str, *, radius: float = 3.5) -> Plot:
        """A dot for each point."""
        for x, y in points:
            self._add("circle", css=css, cx=self._x(x), cy=self._y(y), r=f"{radius:g}")
        return self

    def text(self, point: Point, label: str, css: str = "note mid", dy: str = "-.8em") -> Plot:
        """A text at a point."""
        self._add("text", label, css=css, x=self._x(point[0]), y=self._y(point[1]), dy=dy)
        return self

    def bar(self, span: Point, height: Point, css: str, *, gap: float = 0.06) -> Plot:
        """A bar over ``span`` from height[0] to height[1], with a little air on both sides."""
        if height[1] <= height[0]:
            return self
        left, right = self.x.share(span[0]), self.x.share(span[1])
        air = (right - left) * gap
        self._add(
            "rect",
            css=css,
            x=_per_cent(left + air),
            width=_per_cent(right - left - 2 * air),
            y=self._y(height[1]),
            height=_per_cent(self.y.share(height[1]) - self.y.share(height[0])),
        )
        return self

    def hits(self, spans: Sequence[tuple[float, float, str]]) -> Plot:
        """Invisible strips over the whole height that carry what a pointer is told."""
        for low, high, tip in spans:
            left, right = max(0.0, self.x.share(low)), min(1.0, self.x.share(high))
            width = _per_cent(max(0.0, right - left))
            self._add(
                "rect", css="hit", x=_per_cent(left), width=width, y=0, height="100%", data_tip=tip
            )
        return self

    def svg(self, title: str, description: str) -> Markup:
        """The finished chart; title and description are for those who cannot see it."""
        return _picture(self._name, "plot", self._height, title, description, self._parts)

    def _add(self, tag: str, text: str = "", **attributes: str | float) -> None:
        self._parts.append(_element(tag, text, **attributes))

    def _across(self, place: str, css: str) -> None:
        self._add("line", css=css, x1=0, x2="100%", y1=place, y2=place)

    def _upright(self, place: str, css: str, top: str = "0") -> None:
        self._add("line", css=css, x1=place, x2=place, y1=top, y2="100%")

    def _x(self, value: float) -> str:
        return _per_cent(self.x.share(value))

    def _y(self, value: float) -> str:
        return _per_cent(1 - self.y.share(value))


def track_scale(scale: Axis) -> Markup:
    """The ticks under a dot plot's rows."""
    ticks = [
        _element("text", scale.write(tick), css="tick mid", x=_per_cent(scale.share(tick)), y="1em")
        for tick in scale.ticks
    ]
    return Markup(
        f'<svg class="track" width="100%" height="18" aria-hidden="true">{"".join(ticks)}</svg>'
    )


def stacked(name: str, parts: Sequence[tuple[str, float, str]], title: str, text: str) -> Markup:
    """One bar cut into parts (css class, share, tip) that add up to 1."""
    pieces, start = [], 0.0
    for css, share, tip in parts:
        left, width = _per_cent(start), _per_cent(share)
        pieces.append(
            _element("rect", css=css, x=left, width=width, y=0, height="100%", data_tip=tip)
        )
        start += share
    return _picture(name, "stack", 26, title, text, pieces)


def track(
    name: str,
    scale: Axis,
    value: float,
    css: str,
    title: str,
    *,
    span: tuple[float, float] | None = None,
) -> Markup:
    """A value as a dot on a line, with its interval; a row of a dot plot."""
    parts = []
    for tick in scale.ticks:
        at = _per_cent(scale.share(tick))
        parts.append(_element("line", css="grid", x1=at, x2=at, y1=0, y2="100%"))
    place = _per_cent(scale.share(value))
    parts.append(_element("line", css=f"stem {css}", x1=0, x2=place, y1="50%", y2="50%"))
    if span:
        left, right = (min(1.0, max(0.0, scale.share(end))) for end in span)
        parts.append(
            _element(
                "rect",
                css=f"span {css}",
                x=_per_cent(left),
                width=_per_cent(right - left),
                y="50%",
                height=16,
                rx=3,
                transform="translate(0 -8)",
            )
        )
    parts.append(_element("circle", css=f"dot {css}", cx=place, cy="50%", r=5.5))
    return _picture(name, "track", 30, title, "", parts)


def _picture(
    name: str, css: str, height: int, title: str, description: str, parts: Sequence[str]
) -> Markup:
    named = f"{name}-t {name}-d" if description else f"{name}-t"
    head = _element("title", title, id=f"{name}-t")
    if description:
        head += _element("desc", description, id=f"{name}-d")
    return Markup(
        f'<svg class="{css}" role="img" width="100%" height="{height}" aria-labelledby="{named}">'
        f"{head}{''.join(parts)}</svg>"
    )


def _element(tag: str, text: str = "", **attributes: str | float) -> str:
    """An element; every value is escaped. ``css`` is the class, ``data_tip`` is ``data-tip``."""
    written = "".join(
        f' {"class" if name == "css" else name.replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{written}>{escape(text)}</{tag}>" if text else f"<{tag}{written}/>"


def _per_cent(share: float) -> str:
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "%"
