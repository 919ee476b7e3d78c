"""The report's figures, drawn from its content.

Decides what each chart shows and what a pointer is told; how a chart is built is ``charts``'
business. Imports ``content`` and ``charts``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from tunefleet.evaluate.charts import Axis, Plot, Point, axis, stacked, track, track_scale
from tunefleet.evaluate.content import Bin, CauseShare, Curves, Headline, MetricValue, Scored
from tunefleet.evaluate.words import compact, duration, metric, percent, rate

_MOST_STRIPS = 160


def standing(headline: Headline, baseline_name: str) -> list[tuple[str, str, str, Markup]]:
    """The dot plot of the headline: (who, value, css, picture) from tuned down to chance.

    The last row holds the ticks. Empty where there is nothing to compare.
    """
    shown = headline.metric
    rows: list[tuple[str, float | None, str]] = [
        ("Tuned model", shown.after, "tuned"),
        (baseline_name, shown.baseline, "plain"),
        ("Before tuning", shown.before, "before"),
        ("Constant answer", shown.chance, "chance"),
    ]
    known = [(who, value, css) for who, value, css in rows if value is not None]
    if len(known) < 2:
        return []
    values = [value for _, value, _ in known]
    ends = [end for end in (shown.low, shown.high) if end is not None]
    scale = _metric_scale(shown, values + ends)
    span = (ends[0], ends[1]) if len(ends) == 2 else None
    drawn = []
    for place, (who, value, css) in enumerate(known):
        bounds = span if css == "tuned" else None
        title = f"{who}: {shown.name} {metric(value)}"
        picture = track(f"standing-{place}", scale, value, css, title, span=bounds)
        drawn.append((who, metric(value), css, picture))
    drawn.append(("", "", "", track_scale(scale)))
    return drawn


def _metric_scale(shown: MetricValue, values: Sequence[float]) -> Axis:
    """0 to 1 for shares, below 0 for correlations that are, else from 0 to the largest."""
    if shown.higher and all(-1 <= value <= 1 for value in values):
        low = 0.0 if all(value >= 0 for value in values) else -1.0
        return axis([low, 1.0], ticks=5)
    return axis([0.0, *values], ticks=5, zero=True)


def loss_curve(curves: Curves, before: float | None, total_steps: int) -> Markup | None:
    """Training loss, raw and smoothed, with the validation loss at each evaluation."""
    points = [(float(p.step), p.loss) for p in curves.points]
    smooth = [(x, y) for (x, _), y in zip(points, curves.smoothed, strict=True)]
    seen = _evaluations(curves, "loss", before)
    if not points and not seen:
        return None
    heights = sorted(y for _, y in points)
    # A few spikes must not flatten the curve; what lies above is clipped, not hidden in a tip.
    top = heights[int(0.995 * (len(heights) - 1))] if heights else 0.0
    limits = [y for _, y in smooth] + [y for _, y in seen] + heights[:1] + [top]
    plot = _over_steps("loss", curves, limits, total_steps)
    plot.line(points, "train faint").line(smooth, "train").line(seen, "validation")
    plot.dots(seen, "dot validation")
    stretches = curves.points[:: max(1, len(curves.points) // _MOST_STRIPS)]
    tips = [(float(p.step), f"step {p.step:,}\ntraining loss {metric(p.loss)}") for p in stretches]
    tips += [(x, f"step {x:,.0f}\nvalidation loss {metric(y)}") for x, y in seen]
    plot.hits(_strips(tips))
    last = f"ends at {metric(smooth[-1][1])}" if smooth else "was not recorded"
    text = f"Training loss {last}; {len(seen)} validation points."
    return plot.svg("Loss over optimiser steps", text)


def metric_curve(
    curves: Curves,
    name: str,
    before: float | None,
    best_step: int | None,
    total_steps: int,
    reference: Sequence[tuple[str, float, str]],
) -> Markup | None:
    """A metric at every evaluation, the best checkpoint marked."""
    seen = _evaluations(curves, name, before)
    if not seen:
        return None
    limits = [y for _, y in seen] + [value for _, value, _ in reference]
    plot = _over_steps("metric", curves, limits, total_steps)
    for label, value, css in reference:
        plot.horizontal(value, f"reference {css}", label)
    plot.line(seen, "validation").dots(seen, "dot validation")
    best = next((point for point in seen if point[0] == best_step), None)
    if best:
        plot.dots([best], "ring", radius=8)
        side = "end" if plot.x.share(best[0]) > 0.8 else "mid"
        dy = "1.9em" if plot.y.share(best[1]) > 0.75 else "-1em"
        plot.text(best, f"best checkpoint {metric(best[1])}", f"note strong {side}", dy)
    plot.hits(_strips([(x, f"step {x:,.0f}\n{name} {metric(y)}") for x, y in seen]))
    text = f"{len(seen)} evaluations; best {metric(best[1]) if best else 'not among them'}."
    return plot.svg(f"{name} on the validation rows over optimiser steps", text)


def rate_curve(curves: Curves, total_steps: int) -> Markup | None:
    """The learning rate."""
    points = [(float(p.step), p.learning_rate) for p in curves.points]
    return _quiet_curve("rate", "learning rate", rate, points, curves, total_steps)


def norm_curve(curves: Curves, total_steps: int) -> Markup | None:
    """The gradient's norm before clipping."""
    points = [(float(p.step), p.grad_norm) for p in curves.points]
    return _quiet_curve("norm", "gradient norm", metric, points, curves, total_steps)


def _quiet_curve(
    key: str,
    name: str,
    show: Callable[[float], str],
    points: list[Point],
    curves: Curves,
    total_steps: int,
) -> Markup | None:
    """A small curve beside the loss; None without points."""
    if not points:
        return None
    heights = [0.0, *(y for _, y in points)]
    plot = _over_steps(key, curves, heights, total_steps, height=120, ticks=3)
    plot.line(points, "quiet")
    stretches = points[:: max(1, len(points) // _MOST_STRIPS)]
    plot.hits(_strips([(x, f"step {x:,.0f}\n{name} {show(y)}") for x, y in stretches]))
    return plot.svg(f"{name.capitalize()} over optimiser steps", f"Highest {show(max(heights))}.")


def _evaluations(curves: Curves, name: str, before: float | None) -> list[Point]:
    seen = [(float(e.step), e.metrics[name]) for e in curves.evaluations if name in e.metrics]
    if before is not None and seen and seen[0][0] > 0:
        seen.insert(0, (0.0, before))
    return sorted(seen)


def _over_steps(
    name: str,
    curves: Curves,
    values: Sequence[float],
    total_steps: int,
    *,
    height: int = 208,
    ticks: int = 5,
) -> Plot:
    """A plot over steps, with epochs and skipped steps marked."""
    ends = [float(p.step) for p in curves.points[-1:]] + [float(e.step) for e in curves.evaluations]
    last = max([*ends, float(min(total_steps, max(ends, default=1.0))), 1.0])
    x = axis([0.0, last], tight=True, ticks=5, write=compact)
    plot = Plot(name, x, axis(values, ticks=ticks), height=height).grid(x_label="optimiser step")
    epochs = int(last // curves.steps_per_epoch)
    if 1 < epochs <= 12:
        for epoch in range(1, epochs + 1):
            if epoch * curves.steps_per_epoch < last:
                label = f"epoch {epoch + 1}" if epochs <= 4 and height > 150 else ""
                plot.vertical(epoch * curves.steps_per_epoch, "epoch", label)
    for step in curves.skipped_steps[:100]:
        plot.tick(float(step), "skipped")
    return plot


def _strips(tips: Sequence[tuple[float, str]]) -> list[tuple[float, float, str]]:
    """Each place gets the stretch that is nearest to it; places at one step share a tip."""
    joined: dict[float, str] = {}
    for place, tip in sorted(tips):
        tail = tip.split("\n", 1)[-1]
        joined[place] = f"{joined[place]}\n{tail}" if place in joined else tip
    places = list(joined)
    spans = []
    for i, place in enumerate(places):
        left = (places[i - 1] + place) / 2 if i else place - 1
        right = (place + places[i + 1]) / 2 if i + 1 < len(places) else place + 1
        spans.append((left, right, joined[place]))
    return spans


def reliability(scored: Scored) -> Markup | None:
    """How often predictions of a confidence came true, against that confidence."""
    filled = [item for item in scored.reliability if item.count]
    if not filled:
        return None
    unit = axis([0.0, 1.0], ticks=5)
    plot = Plot("reliability", unit, unit, height=250).grid(
        x_label=_axis_name(scored), x_lines=True
    )
    for item in filled:
        said, true = item.mean or 0.0, item.rate or 0.0
        low, high = sorted((said, true))
        span = (item.low, item.high)
        plot.bar(span, (0.0, low), "bar tuned soft").bar(span, (low, high), "bar gap")
        tip = (
            f"{item.low:.2f} to {item.high:.2f}\n{item.count:,} predictions\n"
            f"said {percent(said)}, came true {percent(true)}"
        )
        plot.hits([(*span, tip)])
    plot.line([(0.0, 0.0), (1.0, 1.0)], "diagonal")
    plot.dots([(i.mean or 0.0, i.rate or 0.0) for i in filled], "dot tuned", radius=3)
    error = metric(scored.ece)
    return plot.svg("Reliability diagram", f"Expected calibration error {error}.")


def _axis_name(scored: Scored) -> str:
    return "predicted probability" if scored.kind == "multi-label" else "confidence"


def histogram(scored: Scored, x_label: str, names: tuple[str, str]) -> Markup | None:
    """Counts per bin; the marked part (right, or true) and the rest one on the other."""
    if not scored.histogram:
        return None
    rest = "wrong" if scored.kind == "single-label" else "quiet"
    marked = scored.kind in {"single-label", "multi-label"}
    return bars("scores", scored.histogram, x_label, names, marked=marked, rest_css=rest)


def bars(
    name: str,
    bins: Sequence[Bin],
    x_label: str,
    names: tuple[str, str],
    *,
    marked: bool = False,
    height: int = 250,
    css: str = "tuned",
    rest_css: str = "wrong",
) -> Markup:
    """A histogram of bins."""
    x = axis([bins[0].low, bins[-1].high], tight=True, ticks=6)
    y = axis([float(item.count) for item in bins], zero=True, ticks=4, write=compact)
    plot = Plot(name, x, y, height=height).grid(x_label=x_label)
    for item in bins:
        span, count, hits = (item.low, item.high), float(item.count), float(item.marked)
        if marked:
            rest = item.count - item.marked
            told = f"{item.marked:,} {names[0]}, {rest:,} {names[1]}"
            plot.bar(span, (0.0, hits), f"bar {css}").bar(span, (hits, count), f"bar {rest_css}")
        else:
            told = f"{item.count:,} {names[0]}"
            plot.bar(span, (0.0, count), f"bar {css}")
        plot.hits([(*span, f"{item.low:.4g} to {item.high:.4g}\n{told}")])
    total = sum(item.count for item in bins)
    return plot.svg(f"Histogram over {x_label}", f"{total:,} in {len(bins)} bins.")


def scatter(scored: Scored) -> Markup | None:
    """Predicted against true values."""
    if scored.scatter is None or not scored.scatter.points:
        return None
    points = [(x, y) for x, y in scored.scatter.points]
    both = axis([value for point in points for value in point], ticks=5)
    plot = Plot("scatter", both, both, height=300).grid(x_label="true value", x_lines=True)
    plot.line([(both.low, both.low), (both.high, both.high)], "diagonal")
    plot.dots(points, "cloud", radius=2.6)
    return plot.svg(
        "Predicted against true values", f"{len(points):,} of {scored.units:,} units drawn."
    )


def time_bar(causes: Sequence[CauseShare]) -> Markup | None:
    """Worker-seconds by cause as one bar."""
    parts = [
        (
            f"c-{item.cause}",
            item.share,
            f"{item.cause}\n{duration(item.seconds)} ({percent(item.share)})",
        )
        for item in causes
    ]
    text = ", ".join(f"{item.cause} {percent(item.share)}" for item in causes)
    return stacked("time", parts, "Time by cause", text) if parts else None


def residuals(scored: Scored) -> Markup | None:
    """How far predictions are off, and to which side."""
    if scored.scatter is None or not scored.scatter.residuals:
        return None
    label = "predicted minus true"
    return bars("residuals", scored.scatter.residuals, label, ("units", ""), height=300)


def lengths(bins: Sequence[Bin]) -> Markup | None:
    """Training units by length."""
    if not bins:
        return None
    return bars("lengths", bins, "tokens per unit", ("units", ""), height=150, css="quiet")
