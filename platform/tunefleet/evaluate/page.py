"""``report.html`` from the report's content: one file, no request to anywhere.

Decides that the page can load nothing (a content security policy stands in it, and its one
script is allowed by hash) and that every value is escaped. Imports jinja2 and ``figures``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tunefleet.evaluate import figures, words
from tunefleet.evaluate.content import MetricValue, ReportContent, Scored

_TEMPLATES = Path(__file__).parent / "templates"


def render(content: ReportContent) -> str:
    """The whole page."""
    environment = _environment()
    script = environment.get_template("script.html.j2").render().strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        report=content,
        shown=next((s for s in content.splits if s.split == content.headline.split), None),
        figure=_figures(content),
        script=Markup(script),
        script_digest=digest,
        curve_metric=curve_metric(content),
        sections=_sections(content),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {
        "metric": words.metric,
        "signed": words.signed,
        "percent": words.percent,
        "duration": words.duration,
        "money": words.money,
        "exact_money": words.exact_money,
        "seconds": lambda seconds: f"{seconds:,.1f} s",
        "size": words.size,
        "rate": words.rate,
        "count": lambda number: f"{number:,}",
        "two": lambda number: f"{number:.2f}",
        "gain": gain,
        "short": lambda digest: digest.removeprefix("sha256:")[:12],
        "camel": _spaced,
    }
    environment.filters.update(filters)
    return environment


def gain(value: MetricValue) -> str:
    """``better``, ``worse`` or ``same``: how a metric moved."""
    if value.before is None or value.after is None or value.before == value.after:
        return "same"
    return "better" if (value.after > value.before) == value.higher else "worse"


def _spaced(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)


def _figures(content: ReportContent) -> dict[str, object]:
    head, curves, scored = content.headline, content.curves, content.scored
    validation = next((s for s in content.splits if s.split == "validation"), None)
    before = {m.name: m.before for m in validation.metrics} if validation else {}
    steps = content.total_steps
    beside_loss = curve_metric(content)
    beside = content.baseline.name if content.baseline else "Baseline"
    return {
        "standing": figures.standing(head, beside),
        "loss": figures.loss_curve(curves, before.get("loss"), steps),
        "metric": figures.metric_curve(
            curves,
            beside_loss.name,
            before.get(beside_loss.name),
            content.best_step,
            steps,
            _references(content),
        ),
        "rate": figures.rate_curve(curves, steps),
        "norm": figures.norm_curve(curves, steps),
        "time": figures.time_bar(content.causes),
        "lengths": figures.lengths(content.data.lengths),
        **(_scored_figures(scored) if scored else {}),
    }


def curve_metric(content: ReportContent) -> MetricValue:
    """The metric of the second curve: the chosen one, or another where that is the loss."""
    chosen = content.headline.metric
    if chosen.name != "loss":
        return chosen
    others = [m for split in content.splits for m in split.metrics if m.name != "loss"]
    return next((m for m in others if m.higher), others[0] if others else chosen)


def _references(content: ReportContent) -> list[tuple[str, float, str]]:
    """Lines to compare with, when the metric curve is of the rows that were looked at."""
    shown = curve_metric(content)
    if content.headline.split != "validation" or shown.baseline is None:
        return []
    return [("TF-IDF", shown.baseline, "plain")]


def _scored_figures(scored: Scored) -> dict[str, Markup | None]:
    names = {
        "single-label": ("confidence of the answer", ("right", "wrong")),
        "multi-label": ("predicted probability", ("true", "not true")),
        "language-model": ("mean loss per token, nats", ("units", "")),
    }
    label, kinds = names.get(scored.kind, ("loss", ("units", "")))
    return {
        "reliability": figures.reliability(scored),
        "histogram": figures.histogram(scored, label, kinds),
        "scatter": figures.scatter(scored),
        "residuals": figures.residuals(scored),
    }


def _sections(content: ReportContent) -> list[tuple[str, str]]:
    """Anchor and name of every section, in order, for the page's own navigation."""
    found = [("result", "Result"), ("training", "Training")]
    if content.scored is not None:
        if content.scored.kind != "other":
            found.append(("scores", "Scores"))
        if content.scored.samples:
            found.append(("samples", "Worst rows"))
    found += [("data", "Data"), ("time", "Time and cost"), ("plan", "Plan")]
    return [*found, ("provenance", "Provenance")]
