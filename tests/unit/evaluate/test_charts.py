from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefleet.evaluate.charts import Plot, axis, stacked

numbers = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 6))


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20), st.booleans(), st.booleans())
def test_an_axis_holds_its_values_and_few_distinct_ticks(
    values: list[float], zero: bool, tight: bool
) -> None:
    found = axis(values, zero=zero, tight=tight)
    slack = 1e-6 * max(1.0, *map(abs, values))
    assert found.low <= min(values) + slack
    assert found.high >= max(values) - slack
    assert found.high > found.low
    assert 1 <= len(found.ticks) <= 13
    assert list(found.ticks) == sorted(set(found.ticks))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        pytest.param([0, 1], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"], id="shares"),
        pytest.param([0, 12], ["0.0", "2.5", "5.0", "7.5", "10.0", "12.5"], id="steps of 2.5"),
        pytest.param([0, 5e-5], ["0", "1e-5", "2e-5", "3e-5", "4e-5", "5e-5"], id="rates"),
        pytest.param([-1, 1], ["−1.0", "−0.5", "0.0", "0.5", "1.0"], id="both signs"),
        pytest.param([0, 4000], ["0", "1,000", "2,000", "3,000", "4,000"], id="thousands"),
    ],
)
def test_ticks_are_written_with_the_digits_they_need(
    values: list[float], labels: list[str]
) -> None:
    found = axis(values)
    assert [found.write(tick) for tick in found.ticks] == labels


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_point_stands_where_the_axes_say() -> None:
    scale = axis([0, 10])
    svg = Plot("p", scale, scale).dots([(2.5, 10.0)], "dot").svg("t", "d")
    _, circle = next(item for item in _Elements(svg).found if item[0] == "circle")
    assert (circle["cx"], circle["cy"]) == ("25%", "0%")


def test_texts_and_tips_cannot_break_out_of_a_chart() -> None:
    evil = '"><script>alert(1)</script>'
    scale = axis([0, 1])
    plot = Plot("p", scale, scale).text((0, 0), evil).hits([(0, 1, evil)]).vertical(0.5, "x", evil)
    elements = _Elements(plot.svg(evil, evil)).found
    assert "script" not in {tag for tag, _ in elements}
    assert evil in {attributes.get("data-tip") for _, attributes in elements}


def test_the_parts_of_a_stacked_bar_fill_it() -> None:
    parts = [("a", 0.25, "one"), ("b", 0.75, "two")]
    rects = [a for tag, a in _Elements(stacked("s", parts, "t", "d")).found if tag == "rect"]
    assert [(a["x"], a["width"]) for a in rects] == [("0%", "25%"), ("25%", "75%")]
